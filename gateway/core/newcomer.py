"""How many connections one address may open: a bucket for each address that has come of late, and no more than so many.

A bucket that is full again says nothing that a new one would not say. So buckets live in two generations, and the older one is
dropped when each of its buckets has had the time to fill up; or earlier where very many addresses come, whose limit is then
looser for a while. Nobody is refused for what others do.
"""

from __future__ import annotations

from ipaddress import IPv6Address, ip_address

from gateway.core.limit import TokenBucket

#: Addresses in one generation: 8 MB.
_MOST = 65_536

#: bits of an IPv6 address that one customer has, as a rule: all below is his to make up
_CUSTOMER = 64


class Newcomers:
    """Lets each address bring `rate` connections a second, and `burst` at once; a rate of 0 lets everybody come."""

    __slots__ = ("_burst", "_lasts_s", "_old", "_rate", "_turn_at", "_young")

    def __init__(self, rate: float = 0.0, burst: float = 1.0) -> None:
        self._rate = rate
        self._burst = burst
        self._lasts_s = burst / rate if rate else 0.0
        self._young: dict[str, TokenBucket] = {}
        self._old: dict[str, TokenBucket] = {}
        self._turn_at = float("-inf")

    def __len__(self) -> int:
        """How many addresses are remembered."""
        return len(self._young) + len(self._old)

    def admits(self, address: str, now: float) -> bool:
        """Count a newcomer, and tell whether its address brings no more than it may; `now` is monotonic seconds.

        What is no IP address (a Unix socket, a peer that has gone) is not counted: it may stand for everybody.
        """
        if not self._rate:
            return True
        whose = _customer(address)
        if not whose:
            return True
        if now >= self._turn_at or len(self._young) >= _MOST:
            self._old = self._young if now < self._turn_at + self._lasts_s else {}
            self._young = {}
            self._turn_at = now + self._lasts_s
        bucket = self._young.get(whose)
        if bucket is None:
            known = self._old.pop(whose, None)
            bucket = self._young[whose] = TokenBucket(self._rate, self._burst) if known is None else known
        return bucket.take(now)


def _customer(address: str) -> str:
    """Return what stands for everybody who may have several addresses like this one; empty if it is none."""
    if ":" not in address:
        return address if "." in address else ""
    try:
        found = ip_address(address)
    except ValueError:
        return ""
    return f"{int(found) >> _CUSTOMER:x}:" if isinstance(found, IPv6Address) else address
