"""How well each endpoint has answered lately: the difference between what the counters stand at and stood at."""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence
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

    def of(self, key: str) -> dict[str, Any]:
        """Return the attempts at an endpoint since the oldest reading: how many, the share that succeeded, and latencies.

        Latencies are read off the histogram, so they are as exact as its bounds are close; None: beyond the last of them.
        """
        then = self._readings[0]
        results = {result: count for (one, result), count in self._telemetry.attempts.items() if one == key and result != "none"}
        made = sum(results.values()) - then.made.get(key, 0)
        if made <= 0:
            return {"attempts": 0}
        good = results.get("2xx", 0) - then.good.get(key, 0)
        told: dict[str, Any] = {"attempts": made, "success_rate": round(good / made, 4)}
        histogram = self._telemetry.attempt_s.get(key)
        if histogram is not None:
            before = then.counts.get(key, _NONE)
            counts = [count - was for count, was in zip(histogram.counts, before, strict=True)]
            told |= {"p50_ms": quantile(counts, 0.5), "p95_ms": quantile(counts, 0.95)}
        return told


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
