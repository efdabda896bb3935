"""What does an endpoint that is dead cost a healthy one of the same app, against a neighbour that is healthy?

That is the floor: what is due to a second endpoint is matched and written for it, be it dead or not. One line for each
neighbour: one that refuses connections, one that takes them and never answers, and the healthy one, against none at all. The
dead are tried again several times a second.
"""

from __future__ import annotations

import argparse
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager

from bench import traffic
from bench.load import crowd
from bench.machine import LOAD_CORE, pinned
from bench.probe import PATIENCE_S, at, probe
from bench.receiver import Receiver
from bench.report import answer
from bench.server import gateway

#: events in one publish, the most the gateway takes with its defaults
_BATCH = 10
_CHANNELS = 100
#: connections of the load, more than are ever busy at its pace
_PUBLISHERS = 8
#: probes per second: few enough to be no load
_PROBES_PER_S = 100
#: kinds of neighbour: none, and one that costs what a second endpoint has to cost
_ALONE, _HEALTHY = "", "is healthy too"
#: connections that the mute endpoint has room for; beyond, connecting hangs instead of the answer
_ROOM = 4096


@contextmanager
def refusing() -> Iterator[str]:
    """Answer a URL where connections are refused: the port is taken, and nobody listens."""
    with socket.socket() as taken:
        taken.bind(("127.0.0.1", 0))
        yield _url(taken)


@contextmanager
def hanging() -> Iterator[str]:
    """Answer a URL where connections are made, by the kernel, and nobody ever reads or answers."""
    with socket.create_server(("127.0.0.1", 0), backlog=_ROOM) as mute:
        yield _url(mute)


def _url(bound: socket.socket) -> str:
    return f"http://127.0.0.1:{bound.getsockname()[1]}/hooks"


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print the lines, return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--outbox", default="disk", choices=["disk", "memory"])
    parser.add_argument("--format", default="batch", help="of both endpoints")
    parser.add_argument("--rate", type=float, default=500, help="events per second, each due to both endpoints")
    parser.add_argument("--timeout", default="1s", help="what the hanging endpoint is given to answer")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--samples", type=int, default=200, help="timed events of a round")
    options = parser.parse_args(arguments)

    names = [traffic.channel(number) for number in range(_CHANNELS)]
    requests = [traffic.publish_batch(names[first : first + _BATCH]) for first in range(0, _CHANNELS, _BATCH)]
    settings = {"events": ["message.published"], "format": options.format}
    dead = settings | {"timeout": options.timeout, "retry.initial": "0.1s", "retry.max_delay": "0.5s"}
    with pinned(LOAD_CORE), ExitStack() as stack:
        receiver, other = stack.enter_context(Receiver()), stack.enter_context(Receiver())
        neighbours = {
            _ALONE: [],
            "refuses": [receiver.webhook(**dead) | {"name": "neighbour", "url": stack.enter_context(refusing())}],
            "hangs": [receiver.webhook(**dead) | {"name": "neighbour", "url": stack.enter_context(hanging())}],
            _HEALTHY: [other.webhook(**settings) | {"name": "neighbour"}],
        }
        loads = {}
        warmed = 0
        for kind, neighbour in neighbours.items():
            tested = stack.enter_context(gateway(outbox=options.outbox, webhooks=[receiver.webhook(**settings), *neighbour]))
            loads[kind] = stack.enter_context(crowd(tested, [], requests, _PUBLISHERS))
            # At once, in which all of its connections have their turn: one that says nothing would be cut off meanwhile.
            one = loads[kind].run(2 * _PUBLISHERS * _BATCH / options.rate, options.rate / _BATCH)
            warmed += (one.published - one.refused) * _BATCH
        # What still comes of this must not be taken for what the first round publishes.
        if not receiver.wait(warmed, PATIENCE_S):
            raise SystemExit(f"no answer: of {warmed} events {receiver.events} have arrived before the first round")
        delays: dict[str, list[float]] = {kind: [] for kind in loads}
        for number in range(options.rounds + 1):
            for kind, load in loads.items():
                some, _ = probe(receiver, load, _BATCH, options.rate / _BATCH, options.samples, _PROBES_PER_S)
                # The first round meets cold code, and a neighbour that is not yet known to be dead.
                delays[kind] += some if number else ()
    # Of all rounds together: what comes once in several seconds would fall into the rounds of one kind and not of another.
    times = {kind: [at(sorted(some), share) for share in (0.5, 0.99)] for kind, some in delays.items()}
    alone, beside = times.pop(_ALONE), times[_HEALTHY]
    conditions = f"{options.rate:g} events per second to each, format {options.format}, outbox {options.outbox}"
    return max(
        answer(
            f"webhook to a healthy endpoint whose neighbour {kind}, {conditions}: "
            + ("" if mine is beside else f"{_ratios(mine, beside)} the time beside a neighbour that is healthy, ")
            + f"{_ratios(mine, alone)} the time without the neighbour (p50 {mine[0]:.2f} ms, p99 {mine[1]:.2f} ms; "
            f"beside a healthy one {beside[0]:.2f} ms, {beside[1]:.2f} ms; without {alone[0]:.2f} ms, {alone[1]:.2f} ms)",
            figures={
                f"{name}_{unit}": times_ms[number]
                for name, times_ms in (("gateway", mine), ("beside_healthy", beside), ("alone", alone))
                for number, unit in enumerate(("p50_ms", "p99_ms"))
            },
        )
        for kind, mine in times.items()
    )


def _ratios(mine: Sequence[float], floor: Sequence[float]) -> str:
    return f"p50 {mine[0] / floor[0]:.2f} x, p99 {mine[1] / floor[1]:.2f} x"


if __name__ == "__main__":
    sys.exit(main())
