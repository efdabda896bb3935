"""Stores in which many events wait for an endpoint, as publishes make them, written through the outbox itself.

A million of them take the better part of a minute, so what was written once is kept for the process's life, and copied.
"""

from __future__ import annotations

import asyncio
import atexit
import shutil
import tempfile
import time
from collections.abc import Iterable
from contextlib import suppress
from functools import cache
from pathlib import Path

from bench import traffic
from bench.webhook import LANES
from gateway.config.record import OutboxSettings
from gateway.core.ident import Ids
from gateway.core.lifecycle import Instant, Lifecycle, LifecycleEvent
from gateway.core.publication import Publication
from gateway.core.webhook import Endpoint, Router
from gateway.outbox.sqlite import SqliteOutbox
from gateway.ports import Commit

#: the name of the endpoint they wait for
ENDPOINT = "backlog"

_CHANNELS = 1000
#: events written at once
_AT_ONCE = 2000


def stock(state: Path, count: int) -> float:
    """Make a gateway's folder, in which so many events wait; return how many per second were written."""
    kept, per_s = _kept(count)
    shutil.copytree(kept, state)
    state.chmod(0o700)
    return per_s


def prepare(count: int) -> None:
    """Write so many already, for whoever asks for them later; if that cannot be, he will hear of it."""
    with suppress(OSError):
        _kept(count)


@cache
def _kept(count: int) -> tuple[Path, float]:
    folder = Path(tempfile.mkdtemp(prefix="bench-"))
    atexit.register(shutil.rmtree, folder, ignore_errors=True)
    return folder, asyncio.run(_fill(folder / "outbox.sqlite", count))


async def _fill(path: Path, count: int) -> float:
    settings = OutboxSettings()
    outbox = SqliteOutbox(
        path=path, synchronous=settings.synchronous, max_size=settings.max_size, retention_s=settings.retention_s
    )
    await outbox.open()
    due_to = Endpoint(traffic.APP_ID, ENDPOINT, "http://127.0.0.1/", ("secret",), format="batch", concurrency=LANES)
    router = Router([due_to], "bench", {})
    lifecycle = Lifecycle(traffic.APP_ID, Ids(1), wanted=frozenset({"message.published"}), linger_s=0)
    start = time.monotonic()
    for first in range(0, count, _AT_ONCE):
        events = list(_events(lifecycle, range(first, min(count, first + _AT_ONCE))))
        await outbox.append(Commit(tuple(events), tuple(delivery for event in events for delivery in router.route(event))))
    taken = time.monotonic() - start
    await outbox.close()
    return count / taken


def _events(lifecycle: Lifecycle, numbers: Iterable[int]) -> Iterable[LifecycleEvent]:
    now = Instant(time.monotonic(), time.time_ns() // 1_000_000)
    for number in numbers:
        name, channel, data = traffic.event(traffic.channel(number % _CHANNELS)).values()
        for record in lifecycle.published(Publication(traffic.APP_ID, name, (channel,), data), {}, now):
            assert isinstance(record, LifecycleEvent)
            yield record
