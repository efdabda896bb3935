"""Sending again: dead letters, one event, or a piece of the ledger, to one endpoint.

What is replayed goes through a lane of its own, in order, and keeps its id. Of each event it depends on its past at the
endpoint how it is sent:

    it was due           as it was: the envelope is made anew from the ledger, with the sequence it had
    it is still due      not at all: it will come by itself
    it never was due,    with `sequence` 0, which says that it stands outside of the endpoint's sequence: a number from
    and the filter of    the end of the line would claim that it happened after everything else, and its gap could never
    today selects it     be told from a loss. The same in each replay of it
    it never was due     not at all

A long replay is done in steps. Each returns where the next one goes on, and does not go beyond what was there when the first
one began: what is given up again while it runs is not replayed for ever.
"""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace

from gateway.core.delivery import REPLAY_LANE, Delivery
from gateway.core.error import RequestError
from gateway.core.lifecycle import LifecycleEvent
from gateway.core.webhook import Router
from gateway.desk.feed import check_cursor
from gateway.desk.selection import Selection
from gateway.desk.timeline import cursor_before
from gateway.ports import Ledger, Outbox, Past, Wake

#: Deliveries in one step: their envelopes are in memory together, and written in one transaction.
MOST_REPLAYED = 1_000

#: Events or dead letters looked at in one step, whether they are meant or not: well under a second.
MOST_EXAMINED = 2_000

#: Bytes of envelopes after which those that were asked for by number are put into the lane, before the next ones are read.
MOST_AT_ONCE = 32 << 20

#: Milliseconds by which times along the ledger may be out of order, where a wall clock was set back.
_SLACK_MS = 60_000

#: events whose past is asked for together, and after which others get their turn
_BREATH = 64

_RESUME = re.compile(r"(dead|range):([0-9]{1,18}):([0-9]{1,18})")


@dataclass(frozen=True, slots=True)
class Replayed:
    """What one step did; `resume` is to be handed to the next one, None: there is nothing left."""

    replayed: int
    #: events that were meant but not sent: still due, or never due and not for this endpoint
    left_out: int = 0
    resume: str | None = None
    #: numbers of dead letters that are not there
    missing: tuple[int, ...] = ()


class Replay:
    """Each method does one step. All raise RequestError, 503 among others where the outbox takes no more now."""

    def __init__(self, *, outbox: Outbox, ledger: Ledger, router: Callable[[], Router], wake: Wake) -> None:
        self._outbox = outbox
        self._ledger = ledger
        self._router = router
        self._wake = wake

    async def event(self, app_id: str, endpoint: str, event_id: str) -> Replayed:
        """Replay one event; raises RequestError 404 and 409 where it cannot be."""
        entry = await self._ledger.find(app_id, event_id)
        if entry is None:
            raise RequestError(404, f"event {event_id!r} is not in the ledger (any more)", "event_id")
        past = await self._ledger.past(app_id, endpoint, [event_id])
        delivery = self._delivery(endpoint, entry.event, past.get(event_id))
        if isinstance(delivery, str):
            raise RequestError(409, f"event {event_id!r} is not replayed: {delivery}", "event_id")
        await self._put(app_id, endpoint, [delivery])
        return Replayed(1)

    async def letters(self, app_id: str, endpoint: str, numbers: Sequence[int]) -> Replayed:
        """Send the dead letters with these numbers again, at most `MOST_REPLAYED`."""
        found: list[Delivery] = []
        missing = []
        count = size = 0
        for number in sorted(set(numbers)):
            letters = await self._ledger.dead(endpoint, after=number - 1, limit=1)
            if letters and letters[0][0] == number:
                found.append(letters[0][1].delivery)
                count += 1
                size += len(found[-1].envelope)
                if size >= MOST_AT_ONCE:
                    await self._put(app_id, endpoint, found)
                    found, size = [], 0
            else:
                missing.append(number)
        if not count:
            raise RequestError(404, "there are no dead letters with these numbers (any more)", "dead_letters")
        await self._put(app_id, endpoint, found)
        return Replayed(count, missing=tuple(missing))

    async def all_letters(self, app_id: str, endpoint: str, selection: Selection, limit: int, resume: str | None) -> Replayed:
        """Send again those dead letters that were there at the first step and are selected, oldest first."""
        after, left = (0, await self._ledger.count_dead(endpoint)) if resume is None else _resumed("dead", resume)
        chosen: list[Delivery] = []
        page = await self._ledger.dead(endpoint, after=after, limit=min(left, MOST_EXAMINED)) if left else ()
        for number, letter in page:
            if len(chosen) == limit:
                break
            after, left = number, left - 1
            if selection.takes_delivery(letter.delivery):
                chosen.append(letter.delivery)
        await self._put(app_id, endpoint, chosen)
        return Replayed(len(chosen), resume=f"dead:{after}:{left}" if page and left else None)

    async def range(
        self,
        app_id: str,
        endpoint: str,
        selection: Selection,
        limit: int,
        *,
        after: int | None = None,
        until: int | None = None,
        resume: str | None = None,
    ) -> Replayed:
        """Replay the selected events between two cursors (`until` included), those without a past here as the filter says."""
        if resume is not None:
            after, last = _resumed("range", resume)
        else:
            newest = self._ledger.latest(app_id)
            last = newest if until is None else min(until, newest)
            if after is None:
                after = 0
            await check_cursor(self._ledger, app_id, after)
            if selection.from_ms is not None:
                after = await cursor_before(self._ledger, app_id, selection.from_ms - _SLACK_MS, after, last)
        chosen: list[Delivery] = []
        left_out = 0
        page = await self._ledger.feed(app_id, after=after, limit=MOST_EXAMINED, kinds=selection.kinds)
        is_done = page.cursor == after or page.cursor >= last
        reached = page.cursor
        past: Mapping[str, Past] = {}
        for place, entry in enumerate(page.entries):
            if place % _BREATH == 0:
                ids = [one.event.id for one in page.entries[place : place + _BREATH] if selection.takes(one.event)]
                past = await self._ledger.past(app_id, endpoint, ids) if ids else {}
                await asyncio.sleep(0)  # a ledger in memory answers without ever letting anybody else run
            if entry.cursor > last or (selection.to_ms is not None and entry.event.at_ms > selection.to_ms + _SLACK_MS):
                is_done = True
                break
            if len(chosen) == limit:
                is_done = False
                break
            reached = entry.cursor
            if not selection.takes(entry.event):
                continue
            delivery = self._delivery(endpoint, entry.event, past.get(entry.event.id))
            if isinstance(delivery, str):
                left_out += 1
            else:
                chosen.append(delivery)
        else:
            reached = page.cursor
        await self._put(app_id, endpoint, chosen)
        return Replayed(len(chosen), left_out, None if is_done else f"range:{reached}:{last}")

    def _delivery(self, endpoint: str, event: LifecycleEvent, past: Past | None) -> Delivery | str:
        """Return the delivery that sends the event to the endpoint again, or a sentence that says why there is none."""
        if past is not None and past.is_due:
            return "it is still due to this endpoint"
        router = self._router()
        sequence = None if past is None else past.sequence
        if sequence is None and (setting := router.left_out_by(endpoint, event)) is not None:
            return f"it was never due to this endpoint, whose `{setting}` leaves it out"
        return router.render(endpoint, event, sequence or 0)

    async def _put(self, app_id: str, endpoint: str, deliveries: Sequence[Delivery]) -> None:
        if not deliveries:
            return
        if self._outbox.is_full(app_id):
            raise RequestError(503, "the outbox is full; go on with the replay when some of it has been delivered")
        await self._outbox.replay(endpoint, [replace(delivery, lane=REPLAY_LANE) for delivery in deliveries])
        self._wake([(endpoint, REPLAY_LANE)])


def _resumed(what: str, resume: str) -> tuple[int, int]:
    match = _RESUME.fullmatch(resume)
    if match is None or match[1] != what:
        raise RequestError(400, "resume must be what the step before has answered, with the same selection", "resume")
    return int(match[2]), int(match[3])
