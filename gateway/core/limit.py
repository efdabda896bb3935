"""How much and how often: sizes of texts, and token buckets. The time is always passed in."""

from __future__ import annotations

#: what is missing from a whole token only because binary fractions cannot say a tenth of a second
_ROUNDING = 1e-6


def size_of(text: str) -> int:
    """Return how many bytes the text has in UTF-8; it must not hold lone surrogates."""
    # the length of an ASCII text is known; only others are worth a copy
    return len(text) if text.isascii() else len(text.encode())


class TokenBucket:
    """Lets `rate` things a second pass, and as many at once; it starts full.

    `now` is monotonic seconds. A `now` that stands still or steps back brings no tokens, and takes none away.
    """

    __slots__ = ("_at", "_tokens", "burst", "rate")

    def __init__(self, rate: float, burst: float | None = None) -> None:
        self.rate = rate
        self.burst = rate if burst is None else burst
        self._tokens = self.burst
        self._at: float | None = None

    def take(self, now: float, count: int = 1) -> bool:
        """Take as many tokens and return True, or take none and return False if there are too few.

        A `count` above the burst never passes.
        """
        if self._at is None:
            self._at = now
        elif now > self._at:
            self._tokens = min(self.burst, self._tokens + (now - self._at) * self.rate)
            self._at = now
        if self._tokens < count - _ROUNDING:
            return False
        self._tokens = max(0.0, self._tokens - count)
        return True
