"""How soon is a gateway up that finds a backlog in its outbox, how fast does it deliver it, and what does that take?

One line: start against a start without a backlog, deliveries per second against a bare HTTP client that posts the same
bodies, memory, and disk. The backlog is written through the outbox itself, of events as publishes make them.
"""

from __future__ import annotations

import argparse
import sqlite3
import sys
import tempfile
import time
from collections.abc import Mapping, Sequence
from contextlib import closing
from pathlib import Path

from bench.load import Round
from bench.machine import LOAD_CORE, cpu_s, peak_bytes, pinned, resident_bytes
from bench.receiver import Receiver
from bench.report import answer, compare, summarize
from bench.server import Server, gateway
from bench.stock import ENDPOINT, stock
from bench.webhook import LANES, poster
from gateway.outbox.query import QUERY

#: webhooks remembered, for the floor to post, and how often it posts them
_KEPT, _REPEATS = 50, 40
#: starts without a backlog; the quickest counts, the first meets cold files
_STARTS = 2
#: seconds a backlog is given: so many events per second are the least
_PATIENCE_S, _LEAST_PER_S = 30.0, 2000
#: seconds what was delivered is given to be swept out of the file
_SWEPT_S = 60.0


def drain(receiver: Receiver, server: Server, count: int, start_cpu_s: float) -> Round:
    """Wait until the whole backlog has been delivered, which has begun before the gateway said that it is ready.

    `start_cpu_s` is what a start without a backlog uses.
    """
    own = time.process_time()
    if not receiver.wait(count, _PATIENCE_S + count / _LEAST_PER_S):
        raise SystemExit(f"no answer: of {count} events {receiver.events} have arrived")
    return _round(
        count, receiver.came_at[-1] - receiver.came_at[0], time.process_time() - own, max(0.0, cpu_s(server.pid) - start_cpu_s)
    )


def _floor(receiver: Receiver) -> Round:
    bodies, events = receiver.bodies, _REPEATS * sum(map(receiver.events_in, receiver.bodies))
    with poster(receiver.url, LANES) as bare:
        bare.post(bodies)
        receiver.forget()
        used, own = cpu_s(bare.pid), time.process_time()
        begun_at = bare.post(bodies, _REPEATS)
        if not receiver.wait(events, _PATIENCE_S):
            raise SystemExit(f"no answer: of {events} events the floor has posted {receiver.events}")
        return _round(events, receiver.came_at[-1] - begun_at[0], time.process_time() - own, cpu_s(bare.pid) - used)


def _round(events: int, seconds: float, load_cpu_s: float, server_cpu_s: float) -> Round:
    return Round(events, events, 0, seconds, load_cpu_s, 0, 0, 0, server_cpu_s)


def _start(webhooks: Sequence[Mapping[str, object]]) -> tuple[float, float]:
    """Start without a backlog; return the seconds until it is ready, and those of the processor."""
    start = time.monotonic()
    with gateway(outbox="disk", webhooks=webhooks) as tested:
        return time.monotonic() - start, cpu_s(tested.pid)


def _swept_s(path: Path) -> float:
    """Wait until what was delivered is deleted as well; return the seconds it took."""
    start = time.monotonic()
    with closing(sqlite3.connect(f"file:{path}?mode=ro", uri=True)) as connection:
        while connection.execute("SELECT EXISTS (SELECT * FROM delivery)").fetchone()[0]:
            if time.monotonic() > start + _SWEPT_S:
                raise SystemExit("no answer: what was delivered is still in the file")
            time.sleep(0.05)
    return time.monotonic() - start


def _sizes(state: Path) -> tuple[int, int]:
    """Return the bytes of all files of a store that is closed, and those of them that hold something."""
    with closing(sqlite3.connect(state / "outbox.sqlite")) as connection:
        (used,) = connection.execute(QUERY["used_size"]).fetchone()
    return sum(file.stat().st_size for file in state.iterdir()), used


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print one line, return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--events", type=int, default=100_000)
    parser.add_argument("--folder", help="where the store is made; the system's temporary folder otherwise")
    options = parser.parse_args(arguments)
    count = options.events

    with tempfile.TemporaryDirectory(prefix="bench-", dir=options.folder) as folder:
        state = Path(folder, "state")
        filled_per_s = stock(state, count)
        size_before, _ = _sizes(state)
        with pinned(LOAD_CORE), Receiver(keep=_KEPT) as receiver:
            webhooks = [receiver.webhook(name=ENDPOINT, format="batch", events=["message.published"])]
            empty_s, start_cpu_s = min(_start(webhooks) for _ in range(_STARTS))
            start = time.monotonic()
            with gateway(outbox="disk", webhooks=webhooks, state=state) as tested:
                ready_s = time.monotonic() - start
                rss = [resident_bytes(tested.pid)]
                one = drain(receiver, tested, count, start_cpu_s)
                swept_s = _swept_s(state / "outbox.sqlite")
                rss += [peak_bytes(tested.pid), resident_bytes(tested.pid)]
            webhooks_sent = len(receiver.came_at)
            size_after, used_after = _sizes(state)
            least = _floor(receiver)
    result, floor = (summarize([some], lambda some: some.delivered) for some in (one, least))
    at_start, peak, at_end = (size / 2**20 for size in rss)
    return answer(
        f"a backlog of {count:,} events (written at {filled_per_s:,.0f} per second): ready after {ready_s:.2f} s, "
        f"{ready_s / empty_s:.2f} x the start without ({empty_s:.2f} s); drained in {one.seconds:.1f} s, "
        f"{count / webhooks_sent:.0f} events a webhook, "
        f"{compare('events', 'event', result, floor, 'aiohttp, same bodies')}; "
        f"memory {at_start:.0f} MB at start, {peak:.0f} peak, {at_end:.0f} at the end; "
        f"disk {size_before / count:.0f} bytes per event before, {used_after / count:.0f} after "
        f"(a file of {size_after / count:.0f}, the rest free), swept {swept_s:.1f} s after the last arrived",
        result,
        floor,
        figures={
            "ready_s": ready_s,
            "ready_without_backlog_s": empty_s,
            "swept_s": swept_s,
            "rss_start_mb": at_start,
            "rss_peak_mb": peak,
            "rss_end_mb": at_end,
        },
    )


if __name__ == "__main__":
    sys.exit(main())
