"""How soon webhooks arrive while a gateway is busy: single publishes on a channel of their own, between those of a load."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import ExitStack

from bench import traffic
from bench.load import Load, Round
from bench.receiver import Receiver

#: seconds for what was published to arrive as webhooks
PATIENCE_S = 60.0

#: connections that probes take in turn: a publish is answered when it is durable, and the next one must not wait for that
_LINES = 32

_CHANNEL = "probe"
_MARK = b'"channel":"probe"'


def probe(receiver: Receiver, load: Load, batch: int, load_per_s: float, samples: int, per_s: float) -> tuple[list[float], Round]:
    """Run a round of `samples` probes, `per_s` of them, beside `load_per_s` publishes of `batch` events each.

    Returns the milliseconds from when each probe was due to when its webhook came, in order of sending, and the load's round.
    Raises SystemExit if something is refused or does not arrive.
    """
    request = traffic.publish(_CHANNEL)
    receiver.forget()
    with ThreadPoolExecutor(1) as beside, ExitStack() as stack:
        lines = [stack.enter_context(socket.create_connection(("127.0.0.1", load.server.port))) for _ in range(_LINES)]
        loaded = beside.submit(load.run, samples / per_s, load_per_s)
        start = time.monotonic()
        due_at = [start + number / per_s for number in range(samples)]
        for number, due in enumerate(due_at):
            line = lines[number % _LINES]
            if number >= _LINES:
                _check(line)
            time.sleep(max(0.0, due - time.monotonic()))
            line.sendall(request)
        for line in lines[:samples]:
            _check(line)
        one = loaded.result()
    expected = samples + (one.published - one.refused) * batch
    if one.refused or not receiver.wait(expected, PATIENCE_S):
        raise SystemExit(f"no answer: of {expected} events {receiver.events} have arrived, {one.refused} publishes were refused")
    came_at = [at for at, body in zip(receiver.came_at, receiver.bodies, strict=True) for _ in range(body.count(_MARK))]
    if len(came_at) != samples:
        raise SystemExit(f"no answer: of {samples} probes {len(came_at)} have arrived; some other event came twice")
    return [(came - due) * 1000 for due, came in zip(due_at, came_at, strict=True)], one


def _check(line: socket.socket) -> None:
    if not line.recv(4096).startswith(b"HTTP/1.1 200"):
        raise SystemExit("no answer: a publish was refused")


def probed_bodies(receiver: Receiver) -> list[bytes]:
    """Return the webhooks that carried probes."""
    return [body for body in receiver.bodies if _MARK in body]


def at(ordered: Sequence[float], share: float) -> float:
    """Return the value below which a share of the others lies; they must be sorted."""
    return ordered[int(len(ordered) * share)]
