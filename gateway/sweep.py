"""Working off what has piled up, in slices, so that nobody else has to wait for it."""

from __future__ import annotations

import logging
from collections import deque
from collections.abc import Callable

from gateway.ports import Clock

#: Seconds a slice may hold the loop: below what a person or a p99 notices.
_SLICE_S = 0.005


class Sweep:
    """Runs steps in the order in which they were added, as many in one turn of the loop as a slice has time for."""

    def __init__(self, clock: Clock, defer: Callable[[Callable[[], None]], object]) -> None:
        """`defer` runs a callable in a later turn of the loop."""
        self._clock = clock
        self._defer = defer
        self._steps: deque[Callable[[], None]] = deque()
        self._is_running = False

    def add(self, step: Callable[[], None]) -> None:
        """Have the step done soon, never before this call returns."""
        self._steps.append(step)
        if not self._is_running:
            self._is_running = True
            self._defer(self._slice)

    def finish(self) -> None:
        """Do all that is left, now."""
        while self._steps:
            self._step()

    def _slice(self) -> None:
        monotonic = self._clock.monotonic
        until = monotonic() + _SLICE_S
        while self._steps:
            self._step()
            if monotonic() >= until:
                break
        self._is_running = bool(self._steps)
        if self._is_running:
            self._defer(self._slice)

    def _step(self) -> None:
        try:
            self._steps.popleft()()
        except Exception:  # one that fails must not keep the others from being recorded
            logging.getLogger("rawpush.gateway").exception("a departure failed")
