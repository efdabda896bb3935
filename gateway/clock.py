"""The machine's own clocks."""

from __future__ import annotations

import time


class SystemClock:
    """See `Clock`."""

    def monotonic(self) -> float:
        """Return seconds since some moment in the past."""
        return time.monotonic()

    def epoch_ms(self) -> int:
        """Return Unix milliseconds."""
        return time.time_ns() // 1_000_000
