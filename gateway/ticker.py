"""When to look after what waits: often while something does, seldom while nothing does, so that an idle gateway sleeps.

A turn of a loop that has slept costs a tenth of a millisecond before anything is done in it, and twenty a second of those
are as dear as knowing that some thousand connections are alive.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from typing import Protocol

#: Seconds from `wake` to the next look, and between two looks while something is due: the precision of `linger`.
TICK_S = 0.05

#: Seconds until the next look where nothing waits, for what nobody wakes for: sweeping out what has become too old.
LONGEST_S = 10.0


class Handle(Protocol):
    """What can be called off."""

    def cancel(self) -> None:
        """Call it off."""
        ...


#: calls something back after so many seconds
Later = Callable[[float, Callable[[], None]], Handle]


class Ticker:
    """Calls `look` from `start` to `stop`; it returns in how many seconds it has something to do, None: in none that it knows.

    Whoever makes something wait calls `wake`, for it may be due sooner than all that `look` has seen.
    """

    __slots__ = ("_is_soon", "_later", "_look", "_timer")

    def __init__(self, look: Callable[[], float | None]) -> None:
        self._look = look
        self._later: Later | None = None
        self._timer: Handle | None = None
        #: the next look is at most `TICK_S` away, or is not to be had at all
        self._is_soon = True

    def start(self, later: Later) -> None:
        """Begin to look; `later` is the loop's `call_later`."""
        self._later = later
        self._look_in(TICK_S)

    def stop(self) -> None:
        """Look no more. Stopping twice, or without a start, is harmless."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        self._later = None
        self._is_soon = True

    def wake(self) -> None:
        """Look within `TICK_S`: something waits that did not."""
        if not self._is_soon:
            self._look_in(TICK_S)

    def _run(self) -> None:
        rest_s: float | None = TICK_S
        try:
            rest_s = self._look()
        except Exception:  # whatever is wrong with one departure, the others must count
            logging.getLogger("rawpush.gateway").exception("a lingering departure failed")
        self._look_in(LONGEST_S if rest_s is None else max(TICK_S, min(rest_s, LONGEST_S)))

    def _look_in(self, seconds: float) -> None:
        if self._later is None:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._is_soon = seconds <= TICK_S
        self._timer = self._later(seconds, self._run)
