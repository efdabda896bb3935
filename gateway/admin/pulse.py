"""The pulse: a few times a second, how late the event loop is, and once a second what the counters stand at."""

from __future__ import annotations

import asyncio
from collections import deque

from gateway.admin.recent import Recent
from gateway.telemetry import Histogram, Telemetry

#: seconds between two beats
BEAT_S = 0.25
#: seconds between two readings of the counters, and over how many of them rates are told
_READING_S = 1.0
_READINGS = 10

#: A loop late by 10 ms is felt by nobody; a second is an outage to a client that waits for its subscription.
LAG_BOUNDS_S = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5)


def until(now: float, every_s: float) -> float:
    """Return the seconds until it is time again, at least half of `every_s`; both on the loop's clock.

    That is at whole multiples of `every_s`, so that all who keep time by this wake a loop that sleeps together.
    """
    rest_s = every_s - now % every_s
    return rest_s if rest_s >= every_s / 2 else rest_s + every_s


class Pulse:
    """Call `beat`, or have `run` do it. Times are monotonic seconds."""

    def __init__(self, telemetry: Telemetry, started_at: float) -> None:
        self.started_at = started_at
        self.lag = Histogram(LAG_BOUNDS_S)
        self.recent = Recent(telemetry, started_at)
        self._telemetry = telemetry
        self._worst = 0.0
        #: (when, the counters, the worst lag since the reading before)
        self._readings: deque[tuple[float, dict[str, int], float]] = deque(maxlen=_READINGS + 1)
        self._readings.append((started_at, self.counters(), 0.0))

    def beat(self, now: float, late_s: float) -> None:
        """The loop came to this `late_s` later than it was told to."""
        self.lag.observe(late_s)
        self.recent.beat(now)
        self._worst = max(self._worst, late_s)
        if now - self._readings[-1][0] >= _READING_S:
            self._readings.append((now, self.counters(), self._worst))
            self._worst = 0.0

    def rates(self) -> dict[str, float]:
        """Return what happened per second, over the last ten seconds or so."""
        first, last = self._readings[0], self._readings[-1]
        span_s = last[0] - first[0]
        return {name: round((count - first[1][name]) / span_s, 3) if span_s else 0.0 for name, count in last[1].items()}

    @property
    def worst_lag_s(self) -> float:
        """How late the loop was at worst, in the same time."""
        return max(self._worst, *(worst for _, _, worst in self._readings))

    async def run(self) -> None:
        """Beat until cancelled."""
        loop = asyncio.get_running_loop()
        while True:
            rest_s = until(loop.time(), BEAT_S)
            due = loop.time() + rest_s
            await asyncio.sleep(rest_s)
            now = loop.time()
            self.beat(now, max(0.0, now - due))

    def counters(self) -> dict[str, int]:
        """Return what the counters stand at."""
        told = self._telemetry
        return {
            "connections": told.connections_opened,
            "frames_received": told.frames_received,
            "publications": sum(told.publications.values()),
            "deliveries": told.deliveries,
            "events": sum(told.events.values()),
            "attempts": sum(told.attempts.values()),
        }
