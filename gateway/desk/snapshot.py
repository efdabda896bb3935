"""A snapshot as it is told: it may hold a hundred thousand spans, so it is written in pieces, and others have their turn."""

from __future__ import annotations

import asyncio

import orjson

from gateway.desk import answer
from gateway.desk.answer import Answer
from gateway.ports import Snapshot

#: Spans written in one turn of the loop: some 2 ms.
_AT_ONCE = 512


async def written(taken: Snapshot) -> Answer:
    """Return the open spans by kind, and the cursor they are true at; the lists are finished JSON, which orjson takes over."""
    pieces: dict[str, list[bytes]] = {"connections": [], "subscriptions": [], "channels": [], "members": []}
    for start in range(0, len(taken.spans), _AT_ONCE):
        told: dict[str, list[Answer]] = {}
        for span in taken.spans[start : start + _AT_ONCE]:
            told.setdefault(f"{span.kind}s", []).append(answer.span(span))
        for kind, some in told.items():
            pieces[kind].append(orjson.dumps(some)[1:-1])
        await asyncio.sleep(0)
    return {"cursor": taken.cursor} | {kind: orjson.Fragment(b"[%b]" % b",".join(some)) for kind, some in pieces.items()}
