"""How well each endpoint has answered lately: the difference between what the counters stand at and stood at."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any

from gateway.telemetry import ATTEMPT_BOUNDS_S, Telemetry

#: Seconds between two readings, and how many are kept: five minutes, so that what is told is neither noise nor history.
READING_S = 30.0
_READINGS = 10

_NONE = (0,) * (len(ATTEMPT_BOUNDS_S) + 1)


class _Reading:
    """What the counters stood at: good attempts, all attempts and the histogram of their times, by endpoint."""

    __slots__ = ("at", "counts", "good", "made")

    def __init__(self, at: float, telemetry: Telemetry) -> None:
        self.at = at
        self.good: dict[str, int] = {}
        self.made: dict[str, int] = {}
        for (key, result), count in telemetry.attempts.items():
            if result != "none":  # given up without an attempt
                self.made[key] = self.made.get(key, 0) + count
            if result == "2xx":
                self.good[key] = count
        self.counts = {key: tuple(told.counts) for key, told in telemetry.attempt_s.items()}


class Recent:
    """Call `beat` often; it reads the counters every `READING_S` seconds. Times are monotonic seconds."""

    def __init__(self, telemetry: Telemetry, now: float) -> None:
        self._telemetry = telemetry
        self._readings: deque[_Reading] = deque([_Reading(now, telemetry)], maxlen=_READINGS + 1)

    def beat(self, now: float) -> None:
        """Read the counters, if it is time."""
        if now - self._readings[-1].at >= READING_S:
            self._readings.append(_Reading(now, self._telemetry))

    def told(self, now: float) -> Callable[[str], dict[str, Any]]:
        """Return what tells of each endpoint its attempts since the oldest reading: how many, the share of 2xx, latencies.

        Latencies are read off the histogram, so they are as exact as its bounds are close; None: beyond the last of them.
        """
        then, today = self._readings[0], _Reading(now, self._telemetry)

        def tell(key: str) -> dict[str, Any]:
            made = today.made.get(key, 0) - then.made.get(key, 0)
            if made <= 0:
                return {"attempts": 0}
            good = today.good.get(key, 0) - then.good.get(key, 0)
            pairs = zip(today.counts.get(key, _NONE), then.counts.get(key, _NONE), strict=True)
            counts = [count - was for count, was in pairs]
            rate = {"attempts": made, "success_rate": round(good / made, 4)}
            return rate | ({"p50_ms": quantile(counts, 0.5), "p95_ms": quantile(counts, 0.95)} if any(counts) else {})

        return tell


def quantile(counts: Sequence[int], share: float) -> float | None:
    """Return the milliseconds within which that share of attempts was answered; None: nobody knows, or beyond the bounds."""
    wanted, below = share * sum(counts), 0
    if not wanted:
        return None
    for place, count in enumerate(counts[:-1]):
        if below + count >= wanted:
            lower = ATTEMPT_BOUNDS_S[place - 1] if place else 0.0
            return round(1000 * (lower + (ATTEMPT_BOUNDS_S[place] - lower) * (wanted - below) / count), 1)
        below += count
    return None
