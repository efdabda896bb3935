"""How fast does a client event reach the others of its channel, against a bare loop that sends the same frame to as many?"""

from __future__ import annotations

import argparse
import json
import socket
import sys
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from functools import partial

from bench import traffic
from bench.contest import Contest, guests
from bench.load import Load, talkers
from bench.report import answer, compare, summarize
from bench.server import Server, floor, gateway

_CHANNEL = "private-bench"
#: the most that may be set: the limit is not what is measured
_UNLIMITED = {"client_events": 1_000_000}
_PATIENCE_S = 10.0


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print one line, return the exit code."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--receivers", type=int, default=10)
    parser.add_argument("--window", type=int, default=8, help="events in flight; each has its sender among the receivers")
    parser.add_argument("--peers", action="store_true", help="soketi too, if it is installed: bench/peer")
    parser.add_argument("--rounds", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=1, help="length of a round")
    options = parser.parse_args(arguments)
    if options.window > options.receivers + 1:
        parser.error("--window: more events in flight than there are connections")

    with Contest() as contest:
        for run in (partial(gateway, limits=_UNLIMITED), floor):
            contest.host(run, lambda server: _talking(server, options.receivers + 1, options.window))
        for each in guests(options.peers, only_pusher=True):
            contest.guest(each, lambda server, peer: _talking(server, options.receivers + 1, options.window))
        rounds, beside = contest.run(options.rounds, options.seconds, lambda one: one.delivered)
    result, least = (summarize(some, lambda one: one.delivered) for some in rounds)
    sentence = f"client events to {options.receivers} receivers, {options.window} in flight:"
    sentence += f" {compare('deliveries', 'delivery', result, least, 'one send each')}{beside.said}"
    return answer(sentence, result, least, peers=beside.results)


@contextmanager
def _talking(server: Server, members: int, at_once: int) -> Iterator[Load]:
    with ExitStack() as stack:
        sockets = [stack.enter_context(_subscribed(server)) for _ in range(members)]
        yield stack.enter_context(talkers(server, sockets, traffic.client_event(_CHANNEL), at_once))


def _subscribed(server: Server) -> socket.socket:
    # A signature holds the socket id, which only the server knows beforehand; so this is not left to the load.
    line = socket.create_connection(("127.0.0.1", server.port), timeout=_PATIENCE_S)
    line.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    line.sendall(traffic.hello())
    _, _, frame = _until(line, b"connection_established").partition(b"\r\n\r\n")
    established = json.loads(frame[2:])
    line.sendall(traffic.subscription(_CHANNEL, json.loads(established["data"])["socket_id"]))
    _until(line, b"subscription_succeeded")
    line.settimeout(None)
    return line


def _until(line: socket.socket, word: bytes) -> bytes:
    said = b""
    # Each is one short frame of text, whose JSON ends with its last byte.
    while word not in said or not said.endswith(b"}"):
        if not (more := line.recv(4096)):
            raise SystemExit(f"no answer: a member was turned away: {said!r}")
        said += more
    return said


if __name__ == "__main__":
    sys.exit(main())
