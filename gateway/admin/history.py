"""The last ten minutes, a sample a second: what the charts of the dashboard show, also of the time before it was opened."""

from __future__ import annotations

import asyncio
import time
from collections import deque

from gateway.admin.pulse import until
from gateway.admin.sources import Sources

#: seconds between two samples, and how many are kept
SAMPLE_S = 1.0
KEPT = 600

#: Seconds between two looks at the backlog, while somebody sees it and while nobody does, and at least as a multiple of what
#: a look takes: a twentieth of a thread at most.
_LOOK_S, _IDLE_LOOK_S = 2.0, 10.0
_LOOK_SHARE = 20.0

#: what a sample holds, in this order: counts as they stand, and what happened per second since the sample before
FIELDS = ("at", "connections", "channels", "received", "sent", "published", "events", "attempts", "backlog", "lag_ms")

_RATES = {
    "received": "frames_received",
    "sent": "deliveries",
    "published": "publications",
    "events": "events",
    "attempts": "attempts",
}

Sample = tuple[float | int | None, ...]


class History:
    """Call `sample` once a second, or have `run` do it."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._before: tuple[float, dict[str, int]] = (sources.clock.monotonic(), sources.pulse.counters())
        self._backlog: int | None = None
        #: how many look at it
        self.onlookers = 0
        #: how many there have been, the forgotten ones included
        self.taken = 0
        self.samples: deque[Sample] = deque(maxlen=KEPT)

    def sample(self) -> None:
        """Take a sample."""
        sources = self._sources
        now, counters = sources.clock.monotonic(), sources.pulse.counters()
        then, before = self._before
        self._before = (now, counters)
        span_s = max(now - then, 0.001)
        tenants = sources.node.tenants.values()
        self.samples.append(
            (
                sources.clock.epoch_ms(),
                sum(len(tenant.lives) for tenant in tenants),
                sum(tenant.hub.channels for tenant in tenants),
                *(round((counters[name] - before[name]) / span_s, 2) for name in _RATES.values()),
                self._backlog,
                round(sources.pulse.worst_lag_s * 1000, 1),
            )
        )
        self.taken += 1

    def since(self, taken: int) -> list[Sample]:
        """Return the samples after so many, as far as they are kept."""
        fresh = min(self.taken - taken, len(self.samples))
        return [self.samples[place] for place in range(len(self.samples) - fresh, len(self.samples))]

    async def look(self) -> None:
        """Ask how much is due to all endpoints together."""
        look = await self._sources.stock.look()
        told = [endpoint["backlog"] for endpoints in look.endpoints.values() for endpoint in endpoints]
        self._backlog = sum(told) if look.is_whole else None

    async def run(self) -> None:
        """Sample until cancelled."""
        await asyncio.gather(self._keep_sampling(), self._keep_looking())

    async def _keep_sampling(self) -> None:
        loop = asyncio.get_running_loop()
        while True:
            await asyncio.sleep(until(loop.time(), SAMPLE_S))
            self.sample()

    async def _keep_looking(self) -> None:
        pause_s = _LOOK_S
        while True:
            await asyncio.sleep(pause_s)
            began_at = time.perf_counter()
            await self.look()
            took_s = time.perf_counter() - began_at
            pause_s = max(_LOOK_S if self.onlookers else _IDLE_LOOK_S, _LOOK_SHARE * took_s)
