"""Pages of what may be very much: each costs a copy, never a walk through everything in one turn of the loop."""

from __future__ import annotations

import asyncio
from bisect import bisect_left, bisect_right
from collections.abc import Callable, Sequence
from typing import Protocol, TypeVar

#: on one page, unless asked otherwise, and at most
USUAL, MOST = 100, 500

#: Names looked at in one turn of the loop: some 1 ms.
_AT_ONCE = 4_096


class Opened(Protocol):
    """Something with a beginning (monotonic seconds) and a name."""

    @property
    def opened_at(self) -> float: ...
    @property
    def socket_id(self) -> str: ...


O = TypeVar("O", bound=Opened)  # noqa: E741 -- the type of one of them


def behind(everything: Sequence[O], opened_at: float, socket_id: str) -> int:
    """Return the place behind the one that began then and is called so, in a sequence by beginning; it may be gone."""
    first = bisect_left(everything, opened_at, key=lambda one: one.opened_at)
    last = bisect_right(everything, opened_at, lo=first, key=lambda one: one.opened_at)
    for place in range(first, last):
        if everything[place].socket_id == socket_id:
            return place + 1
    return first


async def names_after(names: Sequence[str], after: str, prefix: str, limit: int, part: str = "") -> list[str]:
    """Return the first names, in order, that come after `after` and begin with `prefix`: at most `limit`.

    `part` is in each of them, in lower case or not.
    """
    found: list[str] = []
    part = part.lower()
    for start in range(0, len(names), _AT_ONCE):
        piece = names[start : start + _AT_ONCE]
        if len(found) == limit:
            # What comes behind a full page is not sorted into it: of a hundred thousand names few are left here.
            last = found[-1]
            piece = [name for name in piece if after < name < last]
        elif after:
            piece = [name for name in piece if name > after]
        if prefix:
            piece = [name for name in piece if name.startswith(prefix)]
        if part:
            piece = [name for name in piece if part in name.lower()]
        if piece:
            found = sorted([*found, *piece])[:limit]
        await asyncio.sleep(0)
    return found


async def first_of(
    everything: Sequence[O], start: int, limit: int, taken: Callable[[Sequence[O]], Sequence[O]] | None = None
) -> Sequence[O]:
    """Return the first that are taken, from place `start` on: at most `limit`.

    `taken` returns those of a piece, in their order; None: all are.
    """
    if taken is None:
        return everything[start : start + limit]
    found: list[O] = []
    for begin in range(start, len(everything), _AT_ONCE):
        found += taken(everything[begin : begin + _AT_ONCE])
        if len(found) >= limit:
            break
        await asyncio.sleep(0)
    return found[:limit]
