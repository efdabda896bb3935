"""What has happened to one connection or on one channel, each event with what became of its webhooks."""

from __future__ import annotations

import asyncio

from gateway.core.catalogue import ENTRIES
from gateway.core.lifecycle import LifecycleEvent
from gateway.desk import answer
from gateway.desk.answer import Answer
from gateway.ports import Ledger

#: Events looked at in one go, and of these in one turn: well under a second, and some milliseconds.
_MOST_EXAMINED = 10_000
_PIECE = 1_000

#: Milliseconds by which times along the ledger may be out of order, where a wall clock was set back.
_SLACK_MS = 60_000
#: cursors so close together are read through, not searched any further
NEAR = 256

OF_CONNECTION = frozenset(kind for kind, entry in ENTRIES.items() if any(fact.name == "socket_id" for fact in entry.facts))
OF_CHANNEL = frozenset(kind for kind, entry in ENTRIES.items() if any(fact.name == "channel" for fact in entry.facts))


async def timeline(
    ledger: Ledger, app_id: str, *, socket_id: str = "", channel: str = "", after: int, from_ms: int | None, limit: int
) -> Answer:
    """Answer the events of a connection, or else of a channel, oldest first, from a cursor or a time on.

    One answer looks only so far: `after` leads on, and is missing where there is nothing more.
    """
    kinds = OF_CONNECTION if socket_id else OF_CHANNEL
    since_ms = 0 if from_ms is None else from_ms - _SLACK_MS
    if since_ms > 0 and not after:
        after = await cursor_before(ledger, app_id, since_ms, 0, ledger.latest(app_id))
    found: list[LifecycleEvent] = []
    has_more, examined = True, 0
    while has_more and examined < _MOST_EXAMINED and len(found) < limit:
        page = await ledger.feed(app_id, after=after, limit=_PIECE, kinds=kinds)
        examined += _PIECE
        has_more, reached = page.cursor != after, page.cursor
        for entry in page.entries:
            if len(found) == limit:
                reached = after
                break
            after = entry.cursor
            data = entry.event.data
            is_of = data.get("socket_id") == socket_id if socket_id else data.get("channel") == channel
            if is_of and entry.event.at_ms >= since_ms:
                found.append(entry.event)
        after = reached
        await asyncio.sleep(0)  # a ledger in memory answers without ever letting anybody else run
    events = [answer.event(event) | {"webhooks": await _webhooks(ledger, event)} for event in found]
    return {"events": events} | ({"after": after} if has_more else {})


async def _webhooks(ledger: Ledger, event: LifecycleEvent) -> list[Answer]:
    told = []
    for trace in await ledger.trace(event.app_id, event.id):
        last = trace.attempts[-1].settlement.outcome if trace.attempts else None
        one: Answer = {"name": trace.endpoint.partition("/")[2], "state": trace.state, "attempts": len(trace.attempts)}
        told.append(one | ({"status": last.status} if last is not None and last.status is not None else {}))
    return told


async def cursor_before(ledger: Ledger, app_id: str, at_ms: int, low: int, high: int) -> int:
    """Return a cursor from `low` to `high` that no event of that time or later comes before, `NEAR` from the last such one."""
    while high - low > NEAR:
        middle = (low + high) // 2
        page = await ledger.feed(app_id, after=middle, limit=1)
        if page.entries and page.entries[0].cursor <= high and page.entries[0].event.at_ms < at_ms:
            low = page.entries[0].cursor
        else:
            high = middle
    return low
