"""`/metrics`: what one scrape is answered, in the format the scraper asks for."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from itertools import chain

from prometheus_client.exposition import choose_encoder
from prometheus_client.metrics_core import Metric
from prometheus_client.process_collector import ProcessCollector
from prometheus_client.registry import Collector

from gateway.admin import metric
from gateway.admin.sources import Sources
from gateway.admin.traffic import traffic


class _Seen(Collector):
    """Metrics that were read already, and those of the process, which are read when they are asked for."""

    def __init__(self, metrics: list[Metric], process: ProcessCollector) -> None:
        self._metrics = metrics
        self._process = process

    def collect(self) -> Iterable[Metric]:
        return chain(self._metrics, self._process.collect())


class Scraper:
    """Answers scrapes."""

    def __init__(self, sources: Sources) -> None:
        self._sources = sources
        self._process = ProcessCollector(registry=None)

    async def scrape(self, accept: str) -> tuple[str, bytes]:
        """Return content type and body; `accept` is the request's header: OpenMetrics for who wants it, else the text format."""
        sources = self._sources
        carried, look = await asyncio.gather(traffic(sources.node.tenants, sources.telemetry), sources.stock.look())
        seen = _Seen(metric.collect(metric.View(sources, carried, look)), self._process)
        encode, content_type = choose_encoder(accept)
        # In a thread: writing it out, and counting a hundred thousand open files, would hold up the loop.
        return content_type, await asyncio.to_thread(encode, seen)
