"""For how long does the gateway's loop stand still while it records and delivers webhooks as fast as it can?

Seen from outside: a client pings every millisecond. Held against the same pings to a bare loop in C that has nothing else to
do, which shows what the machine does by itself, and to a gateway that has nothing else to do.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from urllib.request import urlopen

from bench import traffic
from bench.load import Load, crowd
from bench.machine import LOAD_CORE, end, spawn
from bench.probe import PATIENCE_S, at
from bench.receiver import Receiver
from bench.report import answer, refuse
from bench.server import ROOT, Server, floor, gateway

_CHANNELS, _BATCH, _PUBLISHERS = 100, 10, 32
#: a share of the waits, and the pinger's own delay above which its waits are not the server's: a part of what it measured
_SHARE, _OWN_PART = 0.999, 0.5


class Pinger:
    """A process that pings one server."""

    def __init__(self, server: Server) -> None:
        self.process = spawn([sys.executable, "-m", "bench.pinger", str(server.port)], LOAD_CORE, cwd=ROOT)

    def ping(self, seconds: float) -> tuple[list[int], list[int]]:
        """Return the sorted microseconds of waiting for pongs, and of being late with pings. Raises SystemExit."""
        assert self.process.stdin is not None
        assert self.process.stdout is not None
        self.process.stdin.write(f"{seconds}\n".encode())
        self.process.stdin.flush()
        line = self.process.stdout.readline()
        if not line:
            raise SystemExit("no answer: the pinger broke off; see above")
        said = json.loads(line)
        return sorted(said["waits"]), sorted(said["lates"])


@contextmanager
def pinging(server: Server) -> Iterator[Pinger]:
    """Connect a pinger."""
    pinger = Pinger(server)
    try:
        yield pinger
    finally:
        end(pinger.process)


def stall(receiver: Receiver, outbox: str, form: str, seconds: float) -> int:
    """Answer how long pings wait beside as many webhooks as there can be."""
    names = [traffic.channel(number) for number in range(_CHANNELS)]
    requests = [traffic.publish_batch(names[first : first + _BATCH]) for first in range(0, _CHANNELS, _BATCH)]
    with (
        gateway(outbox=outbox, webhooks=[receiver.webhook(format=form, events=["message.published"])]) as tested,
        floor() as bare,
        crowd(tested, [], requests, _PUBLISHERS) as load,
        pinging(tested) as to_gateway,
        pinging(bare) as to_floor,
    ):
        least, _ = to_floor.ping(seconds)
        idle, _ = to_gateway.ping(seconds)
        mine, lates, per_s = _beside(receiver, load, to_gateway, seconds)
        own_ms = _own_lag_ms(tested)
    late_us, wait_us = at(lates, _SHARE), at(mine, _SHARE)
    if late_us > _OWN_PART * wait_us:
        return refuse(f"the pinger itself was late, by {late_us:,} us at p99.9, where pongs took {wait_us:,} us")
    figures = {
        "events_per_s": per_s,
        "gateway_own_lag_ms": own_ms,
        "pinger_late_p999_us": late_us,
        "pinger_late_max_us": lates[-1],
    }
    for name, waits in {"gateway": mine, "idle": idle, "floor": least}.items():
        figures |= {f"{name}_p50_us": at(waits, 0.5), f"{name}_p999_us": at(waits, _SHARE), f"{name}_max_us": waits[-1]}
    return answer(
        f"a ping beside {per_s:,.0f} events per second as webhooks, format {form}, outbox {outbox}: longest wait "
        f"{mine[-1] / 1000:.1f} ms, p99.9 {wait_us / 1000:.1f} ms, p50 {at(mine, 0.5) / 1000:.2f} ms, p99.9 "
        f"{wait_us / at(least, _SHARE):.1f} x the floor's; idle: longest {idle[-1] / 1000:.1f} ms, p99.9 "
        f"{at(idle, _SHARE) / 1000:.2f} ms; the floor, idle: longest {least[-1] / 1000:.1f} ms, p99.9 "
        f"{at(least, _SHARE) / 1000:.2f} ms; the pinger's own delay: longest {lates[-1] / 1000:.1f} ms, p99.9 "
        f"{late_us / 1000:.2f} ms; late by its own account, at worst: {own_ms:.1f} ms",
        figures=figures,
    )


def _own_lag_ms(server: Server) -> float:
    """Return how late the gateway's loop was at worst in the last ten seconds, as it says: it looks four times a second."""
    with urlopen(f"http://127.0.0.1:{server.admin_port}/v1/overview", timeout=PATIENCE_S) as answered:
        return float(json.load(answered)["loop_lag_ms"])


def _beside(receiver: Receiver, load: Load, pinger: Pinger, seconds: float) -> tuple[Sequence[int], Sequence[int], float]:
    load.run(min(seconds, 0.5))
    receiver.forget()
    with ThreadPoolExecutor(1) as beside:
        loaded = beside.submit(load.run, seconds)
        waits, lates = pinger.ping(seconds)
        one = loaded.result()
    expected = (one.published - one.refused) * _BATCH
    # What the first, warming, round has left over is counted too; that only makes more arrive.
    if one.refused or not receiver.wait(expected, PATIENCE_S):
        raise SystemExit(f"no answer: of {expected} events {receiver.events} have arrived, {one.refused} publishes were refused")
    return waits, lates, expected / one.seconds
