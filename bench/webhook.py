"""How fast, and how soon, do webhooks arrive, against a bare HTTP client that posts the same bodies to the same receiver?
And what do they cost the subscribers?

One line for each format and outbox, one for each outbox's latency when idle, one for each format's when busy, and one
for what webhooks add to the p99 from publish to subscriber.
"""

from __future__ import annotations

import argparse
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from itertools import islice
from pathlib import Path

from bench import traffic
from bench.load import Load, Round, crowd
from bench.machine import LOAD_CORE, SERVER_CORE, cpu_s, end, pinned, spawn
from bench.probe import PATIENCE_S, at, probe, probed_bodies
from bench.receiver import Receiver
from bench.report import Result, alternate, answer, compare, refuse, summarize
from bench.server import ROOT, Server, gateway
from bench.stall import stall

#: events in one publish, the most the gateway takes with its defaults
_BATCH = 10
#: webhooks under way at once, the gateway's default
LANES = 8
#: publishes in flight: enough that there is always something to be written and something to be sent
_PUBLISHERS = 32
#: the part of the rate it was just seen to have that a busy gateway is given, and the publishes per second that are timed
_SHARE, _PROBES_PER_S = 0.3, 100


class Poster:
    """The floor: a process that posts bodies."""

    def __init__(self, process: subprocess.Popen[bytes], folder: str) -> None:
        self.pid = process.pid
        self._process = process
        self._file = Path(folder, "bodies")

    def post(self, bodies: Sequence[bytes], times: int = 1) -> list[float]:
        """Post them all, so many times, and return when each was begun."""
        assert self._process.stdin is not None
        assert self._process.stdout is not None
        self._process.stdin.write(f"{times} {traffic.write(self._file, bodies)}\n".encode())
        self._process.stdin.flush()
        return [float(word) for word in self._process.stdout.readline().split()]


@contextmanager
def poster(url: str, at_once: int) -> Iterator[Poster]:
    """Run the floor on the server's core."""
    with tempfile.TemporaryDirectory(prefix="bench-") as folder:
        process = spawn([sys.executable, "-m", "bench.poster", url, str(at_once)], SERVER_CORE, cwd=ROOT)
        try:
            yield Poster(process, folder)
        finally:
            end(process)


def rate(receiver: Receiver, outbox: str, form: str, rounds: int, seconds: float) -> int:
    """Answer how many events per second are recorded, signed and delivered."""
    settings = [receiver.webhook(format=form, events=["message.published"])]
    size, result, floor = rate_of(receiver, rounds, seconds, lambda: gateway(outbox=outbox, webhooks=settings))
    sentence = f"webhooks, format {form} ({size:.1f} events each), outbox {outbox}:"
    return answer(f"{sentence} {compare('events', 'event', result, floor, 'aiohttp, same bodies')}", result, floor)


def rate_of(
    receiver: Receiver, rounds: int, seconds: float, run: Callable[[], AbstractContextManager[Server]]
) -> tuple[float, Result, Result]:
    """Measure a gateway that delivers to the receiver; return the events in a webhook, its result, and the floor's."""
    webhooks = 0
    mine: list[Round] = []
    least: list[Round] = []
    with (
        run() as tested,
        poster(receiver.url, LANES) as bare,
        crowd(tested, [], _batches(), _PUBLISHERS) as load,
    ):
        for one in islice(_rounds(receiver, load, seconds), rounds + 1):
            mine.append(one)
            webhooks += len(receiver.bodies)
            least.append(_posted(receiver, bare))
    # The first round has warmed both up.
    result, floor = (summarize(some[1:], lambda one: one.delivered) for some in (mine, least))
    return sum(one.delivered for one in mine) / webhooks, result, floor


def _batches() -> list[bytes]:
    names = [traffic.channel(number) for number in range(10 * _BATCH)]
    return [traffic.publish_batch(names[first : first + _BATCH]) for first in range(0, len(names), _BATCH)]


def _rounds(receiver: Receiver, load: Load, seconds: float) -> Iterator[Round]:
    """Publish as fast as it goes, round after round, for so long that all of it is delivered after about `seconds`.

    Without the disk, publishes are taken in ten times as fast as they are delivered singly.
    """
    publishing_s = seconds / 4
    while True:
        one = _delivered(receiver, load, publishing_s)
        yield one
        publishing_s = min(seconds, publishing_s * seconds / one.seconds)


def _delivered(receiver: Receiver, load: Load, seconds: float) -> Round:
    receiver.forget()
    used, own, start = cpu_s(load.server.pid), time.process_time(), time.monotonic()
    one = load.run(seconds)
    expected = (one.published - one.refused) * _BATCH
    if not receiver.wait(expected, PATIENCE_S):
        raise SystemExit(f"no answer: of {expected} events {receiver.events} have arrived")
    taken = receiver.came_at[-1] - start
    return _round(expected, taken, one.load_cpu_s + time.process_time() - own, cpu_s(load.server.pid) - used)


def _posted(receiver: Receiver, bare: Poster) -> Round:
    bodies, expected = receiver.bodies, receiver.events
    receiver.forget()
    used, own = cpu_s(bare.pid), time.process_time()
    begun_at = bare.post(bodies)
    if not receiver.wait(expected, PATIENCE_S):
        raise SystemExit(f"no answer: of {expected} events the floor has posted {receiver.events}")
    return _round(expected, receiver.came_at[-1] - begun_at[0], time.process_time() - own, cpu_s(bare.pid) - used)


def _round(events: int, seconds: float, load_cpu_s: float, server_cpu_s: float) -> Round:
    return Round(events, events, 0, seconds, load_cpu_s, 0, 0, 0, server_cpu_s)


def latency(receiver: Receiver, outbox: str, samples: int) -> int:
    """Answer how soon a webhook arrives after what it tells of, when nothing else is going on."""
    request, began_at, came_at = traffic.publish(traffic.channel(0)), list[float](), list[float]()
    with (
        gateway(outbox=outbox, webhooks=[receiver.webhook(events=["message.published"])]) as tested,
        poster(receiver.url, 1) as bare,
        socket.create_connection(("127.0.0.1", tested.port)) as line,
    ):
        for _ in range(samples):
            receiver.forget()
            began_at.append(time.monotonic())
            line.sendall(request)
            if not receiver.wait(1, PATIENCE_S) or not line.recv(4096).startswith(b"HTTP/1.1 200"):
                raise SystemExit("no answer: a publish was refused, or its webhook did not arrive")
            came_at.append(receiver.came_at[0])
        bodies = receiver.bodies * samples
        bare.post(bodies[:10])
        receiver.forget()
        begun_at = bare.post(bodies)
        receiver.wait(samples, PATIENCE_S)
    mine, least = _sorted_ms(began_at, came_at), _sorted_ms(begun_at, receiver.came_at)
    ratio = [at(mine, share) / at(least, share) for share in (0.5, 0.99)]
    return answer(
        f"webhook after a publish on an idle gateway, outbox {outbox}: p50 {ratio[0]:.1f} x, p99 {ratio[1]:.1f} x what a "
        f"bare POST takes (p50 {at(mine, 0.5):.2f} ms, p99 {at(mine, 0.99):.2f} ms; "
        f"{at(least, 0.5):.2f} ms, {at(least, 0.99):.2f} ms)",
        figures=_figures(mine, least),
    )


def busy(receiver: Receiver, outbox: str, form: str, samples: int, seconds: float) -> int:
    """Answer how soon a webhook arrives while the gateway delivers a part of what it could."""
    with (
        gateway(outbox=outbox, webhooks=[receiver.webhook(format=form, events=["message.published"])]) as tested,
        poster(receiver.url, 1) as bare,
        crowd(tested, [], _batches(), _PUBLISHERS) as load,
    ):
        most_per_s = max(one.delivered / one.seconds for one in islice(_rounds(receiver, load, seconds), 2))
        delays, one = probe(receiver, load, _BATCH, _SHARE * most_per_s / _BATCH, samples, _PROBES_PER_S)
        bodies = probed_bodies(receiver)
        bare.post(bodies[:10])
        receiver.forget()
        begun_at = bare.post(bodies)
    per_s = one.published * _BATCH / one.seconds
    if per_s < 0.8 * _SHARE * most_per_s:
        return refuse(f"the load has kept only a pace of {per_s:,.0f} events per second")
    mine, least = sorted(delays[len(delays) // 10 :]), _sorted_ms(begun_at, receiver.came_at)
    return answer(
        f"webhook after a publish beside {per_s:,.0f} events per second, {per_s / most_per_s:.0%} of the most, format {form}, "
        f"outbox {outbox}: p50 {at(mine, 0.5) / at(least, 0.5):.1f} x, p99 {at(mine, 0.99) / at(least, 0.99):.1f} x what a "
        f"bare POST of the same bodies takes on an idle machine (p50 {at(mine, 0.5):.2f} ms, p99 {at(mine, 0.99):.2f} ms; "
        f"{at(least, 0.5):.2f} ms, {at(least, 0.99):.2f} ms)",
        figures={"events_per_s": per_s, **_figures(mine, least)},
    )


def _figures(mine: Sequence[float], least: Sequence[float]) -> dict[str, float]:
    shares = {"p50_ms": 0.5, "p99_ms": 0.99}
    return {
        f"{name}_{unit}": at(of, share) for name, of in (("gateway", mine), ("floor", least)) for unit, share in shares.items()
    }


def _sorted_ms(begun_at: Sequence[float], came_at: Sequence[float]) -> list[float]:
    # The first tenth meets cold code and new connections.
    return sorted((came - begun) * 1000 for begun, came in list(zip(begun_at, came_at, strict=True))[len(begun_at) // 10 :])


def burden(receiver: Receiver, outbox: str, rounds: int, seconds: float, subscribers: int, per_s: float) -> int:
    """Answer what webhooks for everything add to the time from a publish to its subscribers."""
    scripts, requests = traffic.subscribers(subscribers, 1), [traffic.publish(traffic.channel(0))]

    with (
        gateway(outbox=outbox, webhooks=[receiver.webhook(format="batch")]) as with_webhooks,
        gateway() as without,
        crowd(with_webhooks, scripts, requests, LANES) as to_with,
        crowd(without, scripts, requests, LANES) as to_without,
    ):
        results = alternate([to_with, to_without], rounds, seconds, per_s)
    if not receiver.events:
        return refuse("no webhook has arrived")
    burdened, free = (summarize(some, lambda one: one.delivered) for some in results)
    return answer(
        f"publish to {subscribers} subscribers, {per_s:g} publishes per second, with webhooks for everything, outbox {outbox}: "
        f"p50 {burdened.p50_us / free.p50_us:.2f} x, p99 {burdened.p99_us / free.p99_us:.2f} x the time without webhooks "
        f"(p50 {burdened.p50_us:,.0f} us, p99 {burdened.p99_us:,.0f} us; {free.p50_us:,.0f} us, {free.p99_us:,.0f} us), "
        f"{burdened.cpu_us / free.cpu_us:.2f} x the CPU per delivery",
        burdened,
        free,
        names=("with webhooks", "without"),
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the lines, return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--outboxes", nargs="+", default=["memory", "disk"])
    parser.add_argument("--formats", nargs="+", default=["batch", "event"])
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=float, default=1, help="length of a round")
    parser.add_argument("--samples", type=int, default=300, help="for the latency")
    parser.add_argument("--subscribers", type=int, default=100)
    parser.add_argument("--rate", type=float, default=100, help="publishes per second to these subscribers")
    parser.add_argument("--stall", action="store_true", help="only how long the loop stands still meanwhile, outbox by outbox")
    options = parser.parse_args(arguments)

    codes = []
    with pinned(LOAD_CORE), Receiver() as receiver:
        if options.stall:
            return max(stall(receiver, outbox, form, options.seconds) for outbox in options.outboxes for form in options.formats)
        for outbox in options.outboxes:
            codes += [rate(receiver, outbox, form, options.rounds, options.seconds) for form in options.formats]
            codes.append(latency(receiver, outbox, options.samples))
            codes += [busy(receiver, outbox, form, options.samples, options.seconds) for form in options.formats]
            receiver.forget()
            codes.append(burden(receiver, outbox, options.rounds, options.seconds, options.subscribers, options.rate))
    return max(codes)


if __name__ == "__main__":
    sys.exit(main())
