"""Garbage collections: in the event loop's thread only.

Left alone, the interpreter collects in whichever thread makes the object that is one too many. Where that is the one that
writes to the disk, the loop stands still for as long as it takes, and does not even know why. So the interpreter's own
trigger is off while the gateway runs, and the loop looks instead: a few times a second, when it wakes up anyway, and as
often as objects are made at the pace of the last look. What is collected, and how rarely all of it, is as ever.
"""

from __future__ import annotations

import gc
from collections.abc import Callable

from gateway.ports import Clock

#: Seconds between two looks at the least: where more is made than that the loop has time for, a look is for more objects.
_SOON_S = 0.001

#: All is looked through again when so much of what survived that the last time has come on top. The interpreter's own rule:
#: without it a gateway that grows would spend on this a time that grows with the square of its size.
_GROWN = 0.25


class Collector:
    """Collects between `begin` and `end`; all of it in one thread, nothing anywhere else. From `hold` to `begin`: nothing."""

    __slots__ = ("_at", "_clock", "_fresh", "_is_on", "_later", "_left", "_old", "_rest")

    def __init__(self, clock: Clock) -> None:
        self._clock = clock
        self._later: Callable[[float, Callable[[], None]], object] | None = None
        self._rest: Callable[[], float] = lambda: 1.0
        self._is_on = False
        #: when the last look was, and how many objects it left behind uncounted
        self._at = 0.0
        self._left = 0
        #: how many objects the last full collection has left, and how many have become as old since
        self._old = 0
        self._fresh = 0

    def hold(self) -> None:
        """Collect nothing until `begin`: what a start makes stays, and to look through it would take half of its time."""
        gc.disable()
        self._is_on = True

    def begin(self, later: Callable[[float, Callable[[], None]], object], rest: Callable[[], float]) -> None:
        """Take over from the interpreter. `later` calls back in this thread, after so many seconds.

        `rest` returns how many until the next look where little is made. What is there now stays to the end: nobody need walk
        through it again and again. To be called once.
        """
        gc.collect()
        gc.freeze()
        gc.disable()
        self._later, self._rest = later, rest
        self._is_on = True
        self._at, self._left = self._clock.monotonic(), gc.get_count()[0]
        later(rest(), self._look)

    def end(self) -> None:
        """Leave it to the interpreter again."""
        if self._is_on:
            self._is_on = False
            gc.enable()

    def _look(self) -> None:
        if not self._is_on or self._later is None:
            return
        made = gc.get_count()[0] - self._left
        generation = self._due()
        if generation is not None:
            self._collect(generation)
        now = self._clock.monotonic()
        elapsed, self._at = now - self._at, now
        self._left = gc.get_count()[0]
        wait_s = self._rest()
        if made > 0:
            wait_s = min(wait_s, max(_SOON_S, elapsed / made * (gc.get_threshold()[0] - self._left)))
        self._later(wait_s, self._look)

    def _due(self) -> int | None:
        """Return the oldest generation that the interpreter would collect now, None if there is none."""
        (young, middle, old), (most_young, most_middle, most_old) = gc.get_count(), gc.get_threshold()
        if young <= most_young:
            return None
        if old > most_old and self._fresh >= _GROWN * self._old:
            return 2
        return 1 if middle > most_middle else 0

    def _collect(self, generation: int) -> None:
        if generation == 0:
            gc.collect(0)
        elif generation == 1:
            # What survives this becomes old.
            count = len(gc.get_objects(generation=0)) + len(gc.get_objects(generation=1))
            self._fresh += max(0, count - gc.collect(1))
        else:
            gc.collect(2)
            self._old = len(gc.get_objects(generation=2))
            self._fresh = 0
