"""The ledger as a receiver polls it, page by page, and the waiting for what is not there yet."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

from gateway.core.error import RequestError
from gateway.core.lifecycle import LifecycleEvent, Record
from gateway.ports import Ledger, Page

#: seconds one question may wait: common proxies cut a silent answer off after 60 s
LONGEST_WAIT_S = 55.0

#: Questions of one app that may wait at once. A receiver needs one; each costs a connection and a look after a commit.
MOST_WAITING = 64


async def check_cursor(ledger: Ledger, app_id: str, after: int) -> None:
    """Raise RequestError 400 for a cursor that the ledger has not given out."""
    if after > ledger.latest(app_id) and after > (await ledger.snapshot(app_id)).cursor:
        raise RequestError(
            400, "the cursor is ahead of the ledger, so it is from another one; begin again with a snapshot", "after"
        )


class Feed:
    """Reads pages of the ledger; who wants to wait for the next event is woken by the commit that brings it."""

    def __init__(self, ledger: Ledger) -> None:
        self._ledger = ledger
        #: by app: those that wait, each with the kinds it waits for (None: all)
        self._waiting: dict[str, dict[asyncio.Future[None], frozenset[str] | None]] = {}
        self._is_stopped = False

    @property
    def waiting(self) -> int:
        """How many questions wait."""
        return sum(map(len, self._waiting.values()))

    def announce(self, records: Sequence[Record]) -> None:
        """These records are durable now. Costs nothing while nobody waits."""
        if not self._waiting:
            return
        brought: dict[str, set[str]] = {}
        for record in records:
            if isinstance(record, LifecycleEvent) and record.app_id in self._waiting:
                brought.setdefault(record.app_id, set()).add(record.kind)
        for app_id, kinds in brought.items():
            for future, wanted in self._waiting[app_id].items():
                if not future.done() and (wanted is None or not wanted.isdisjoint(kinds)):
                    future.set_result(None)

    def stop(self) -> None:
        """Let everybody who waits go with what there is, and nobody wait again."""
        self._is_stopped = True
        for waiting in self._waiting.values():
            for future in waiting:
                if not future.done():
                    future.set_result(None)

    async def read(self, app_id: str, *, after: int, limit: int, kinds: frozenset[str] | None, wait_s: float) -> Page:
        """Return the next page after the cursor; if it is empty, wait up to `wait_s` seconds for something to be in it.

        An empty page whose cursor has moved is not the end: where few are wanted of many, one look goes only so far.
        Raises RequestError 400 for a cursor that the ledger has not given out, 429 where too many wait already.
        """
        await check_cursor(self._ledger, app_id, after)
        if wait_s <= 0 or self._is_stopped:
            return await self._ledger.feed(app_id, after=after, limit=limit, kinds=kinds)
        loop = asyncio.get_running_loop()
        deadline = loop.time() + min(wait_s, LONGEST_WAIT_S)
        while True:
            # Waiting begins before reading, or a commit between the two would go unnoticed.
            future = self._enlist(app_id, kinds)
            try:
                page = await self._ledger.feed(app_id, after=after, limit=limit, kinds=kinds)
                is_end, after = page.cursor == after, page.cursor
                left_s = deadline - loop.time()
                if page.entries or left_s <= 0 or self._is_stopped:
                    return page
                if is_end:
                    await asyncio.wait((future,), timeout=left_s)
            finally:
                self._dismiss(app_id, future)

    def _enlist(self, app_id: str, kinds: frozenset[str] | None) -> asyncio.Future[None]:
        waiting = self._waiting.setdefault(app_id, {})
        if len(waiting) >= MOST_WAITING:
            raise RequestError(429, f"{MOST_WAITING} requests of this app wait for events already; ask without wait")
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        waiting[future] = kinds
        return future

    def _dismiss(self, app_id: str, future: asyncio.Future[None]) -> None:
        waiting = self._waiting[app_id]
        del waiting[future]
        if not waiting:
            del self._waiting[app_id]
