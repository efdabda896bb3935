"""What an attempt sent: made again from the ledger and the endpoint's settings, since bodies that were sent are not kept.

The bytes are those that were sent unless the endpoint's settings, or the node's name, have been changed since. What can be
seen to differ, or cannot be made again, is said in a sentence instead.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from dataclasses import replace

from gateway.core import signing
from gateway.core.delivery import REPLAY_LANE, Delivery, Request, Settlement
from gateway.core.endpoint import Endpoint, shown_url
from gateway.core.format import batches
from gateway.core.lifecycle import LifecycleEvent
from gateway.core.webhook import BATCH, Router, request
from gateway.desk.answer import Answer
from gateway.desk.timeline import NEAR, cursor_before
from gateway.ports import Ledger, Trace

#: Events looked at for those of one batch, before it is given up: some hundred milliseconds of the disk, not of the loop.
_MOST_EXAMINED = 8_192

#: events whose past is asked for together, and after which others get their turn
_TOGETHER = 512

#: what stands in the place of a value that only the file may tell
_HIDDEN = "***"

_GONE = "the endpoint is not configured any more"
_OTHER = "the settings of the endpoint have been changed since"


class Sent:
    """Makes requests again. `router` is asked each time: a reload replaces it. All but `headers` may raise OSError."""

    def __init__(self, *, ledger: Ledger, router: Callable[[], Router], user_agent: str) -> None:
        self._ledger = ledger
        self._router = router
        self._user_agent = user_agent

    async def by(self, app_id: str, settled: Settlement) -> Answer:
        """Answer the request of an attempt, or why it cannot be told."""
        router = self._router()
        endpoint = router.endpoints.get(settled.endpoint)
        if endpoint is None:
            return {"unknown": _GONE}
        is_batch = settled.request_id.startswith(BATCH)
        if not settled.attempts:
            return {"unknown": "it was given up without an attempt"}
        if is_batch != batches(endpoint.format):
            return {"unknown": _OTHER}
        found = await (self._batch if is_batch else self._event)(router, app_id, settled)
        if isinstance(found, str):
            return {"unknown": found}
        made = request(endpoint, found, settled.at_ms)
        if made.id != settled.request_id:
            return {"unknown": _OTHER}
        return self._told(endpoint, made, settled.attempts, settled.at_ms)

    async def of(self, event: LifecycleEvent, trace: Trace, now_ms: int) -> Answer:
        """Answer the latest request about an event, or where there was none yet the one that would be sent now."""
        router = self._router()
        endpoint = router.endpoints.get(trace.endpoint)
        if endpoint is None:
            return {"unknown": _GONE}
        if batches(endpoint.format):
            return {"unknown": "it travels in a batch; ask for the request of an attempt, by its number"}
        if trace.attempts:
            return await self.by(event.app_id, trace.attempts[-1].settlement)
        delivery = await self._again(router, trace.endpoint, event, trace.lane, trace.sequence)
        return self._told(endpoint, request(endpoint, [delivery], now_ms), 1, now_ms)

    def _told(self, endpoint: Endpoint, made: Request, attempt: int, at_ms: int) -> Answer:
        headers = signing.headers(endpoint, made, attempt=attempt, now_s=at_ms // 1000, user_agent=self._user_agent)
        return {
            "method": "POST",
            "url": shown_url(endpoint.url),
            # what the file sets is as likely as not a credential
            "headers": {name: _HIDDEN if name in endpoint.headers else value for name, value in headers.items()},
            "body": made.body.decode(),
        }

    async def _event(self, router: Router, app_id: str, settled: Settlement) -> list[Delivery] | str:
        entry = await self._ledger.find(app_id, settled.request_id)
        if entry is None:
            return "its event is older than the retention"
        return [await self._again(router, settled.endpoint, entry.event, settled.lane, settled.first_sequence)]

    async def _again(self, router: Router, key: str, event: LifecycleEvent, lane: int, sequence: int) -> Delivery:
        if lane == REPLAY_LANE:
            # That lane counts by itself; what is in it tells the sequence it was sent with live, if it ever was.
            past = (await self._ledger.past(event.app_id, key, [event.id])).get(event.id)
            sequence = (past.sequence if past is not None else None) or 0
        return replace(router.render(key, event, sequence), lane=lane)

    async def _batch(self, router: Router, app_id: str, settled: Settlement) -> list[Delivery] | str:
        """Look for the events of a batch, from the time of its first attempt back."""
        if settled.lane == REPLAY_LANE:
            return "which events a batch of the replay lane held is not kept"
        last = self._ledger.latest(app_id)
        end = await cursor_before(self._ledger, app_id, settled.first_at_ms + 1, 0, last)
        end = min(last, end + NEAR)
        found: dict[int, Delivery] = {}
        size, examined = NEAR, 0
        while end > 0 and settled.first_sequence not in found and examined < _MOST_EXAMINED:
            start = reached = max(0, end - size)
            is_more = True
            while is_more and reached < end:  # of large events a page holds few
                page = await self._ledger.feed(app_id, after=reached, limit=_MOST_EXAMINED)
                events = [entry.event for entry in page.entries if entry.cursor <= end]
                examined += max(1, len(events))
                for sequence, event in (await self._sequences(settled, app_id, events)).items():
                    found[sequence] = router.render(settled.endpoint, event, sequence)
                is_more, reached = page.cursor > reached, page.cursor
            end, size = start, size * 2
        held = [found[sequence] for sequence in sorted(found) if found[sequence].lane == settled.lane]
        if settled.first_sequence not in found or settled.last_sequence not in found:
            return "its events are older than the retention, or were too long ago to be found quickly"
        return held if len(held) == settled.count else _OTHER

    async def _sequences(self, settled: Settlement, app_id: str, events: list[LifecycleEvent]) -> Mapping[int, LifecycleEvent]:
        """Return those of the events that lie within the bounds of the batch, by their sequence at its endpoint."""
        found: dict[int, LifecycleEvent] = {}
        for start in range(0, len(events), _TOGETHER):
            some = {event.id: event for event in events[start : start + _TOGETHER]}
            for event_id, past in (await self._ledger.past(app_id, settled.endpoint, list(some))).items():
                if past.sequence is not None and settled.first_sequence <= past.sequence <= settled.last_sequence:
                    found[past.sequence] = some[event_id]
            await asyncio.sleep(0)  # a ledger in memory answers without ever letting anybody else run
        return found
