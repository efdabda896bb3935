"""For how long does another thread of the gateway stop its loop while webhooks are recorded and delivered as fast as can be?

Seen from inside (`bench.watched`), because from outside a stop cannot be told from work that is done: a client waits for both.
Held against a gateway that takes the same publishes and has no webhooks.
"""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

from bench import traffic
from bench.load import crowd
from bench.machine import LOAD_CORE, pinned
from bench.probe import PATIENCE_S
from bench.receiver import Receiver
from bench.report import answer
from bench.server import gateway

_CHANNELS, _BATCH, _PUBLISHERS = 100, 10, 32


def watched(receiver: Receiver | None, seconds: float) -> tuple[dict[str, Any], float]:
    """Return what the watch says of so many seconds under load, and the events per second that were published meanwhile.

    Without a receiver there are no webhooks. The gateway may use all cores, as it may where it is deployed.
    """
    names = [traffic.channel(number) for number in range(_CHANNELS)]
    requests = [traffic.publish_batch(names[first : first + _BATCH]) for first in range(0, _CHANNELS, _BATCH)]
    webhooks = [receiver.webhook(format="batch", events=["message.published"])] if receiver else []
    with (
        gateway(outbox="disk", webhooks=webhooks, program=["bench.watched"], core=None) as tested,
        crowd(tested, [], requests, _PUBLISHERS) as load,
        ThreadPoolExecutor(1) as beside,
    ):
        assert tested.process is not None
        assert tested.process.stdin is not None
        assert tested.process.stdout is not None
        load.run(min(seconds, 0.5))
        loaded = beside.submit(load.run, seconds)
        tested.process.stdin.write(f"{seconds}\n".encode())
        tested.process.stdin.flush()
        line = tested.process.stdout.readline()
        one = loaded.result()
        if not line or one.refused:
            raise SystemExit(f"no answer: the gateway has said nothing, or refused {one.refused} publishes")
        events = one.published * _BATCH
        if receiver and not receiver.wait(events, PATIENCE_S):
            raise SystemExit(f"no answer: of {events} events {receiver.events} have arrived")
    return json.loads(line), events / one.seconds


def stop(seconds: float) -> int:
    """Answer how long the loop is stopped at worst, with webhooks and without."""
    with pinned(LOAD_CORE), Receiver(keep=0) as receiver:
        mine, per_s = watched(receiver, seconds)
        bare, bare_per_s = watched(None, seconds)
    figures = {"events_per_s": per_s, "without_webhooks_events_per_s": bare_per_s}
    for name, said in (("", mine), ("without_webhooks_", bare)):
        for kind in ("stopped", "for_core", "turn", "collection", "others_collection"):
            figures |= {f"{name}{kind}_{unit}_ms": said[kind][f"{unit}_us"] / 1000 for unit in ("p50", "p999", "max")}
        figures[f"{name}stops_over_1_ms"] = said["stopped"]["over_1_ms"]
    return answer(
        f"the loop, stopped by another thread of the gateway beside {per_s:,.0f} events per second recorded and delivered: "
        f"{_stops(mine)}; without webhooks, {bare_per_s:,.0f} events per second: {_stops(bare)}; besides, it was without a core "
        f"for at most {mine['for_core']['max_us'] / 1000:.2f} ms, and worked for at most {mine['turn']['max_us'] / 1000:.2f} ms "
        f"in one turn; the longest garbage collection took {mine['collection']['max_us'] / 1000:.2f} ms in its own thread, "
        f"{mine['others_collection']['max_us'] / 1000:.2f} ms in another one",
        figures=figures,
    )


def _stops(said: dict[str, Any]) -> str:
    stopped = said["stopped"]
    return (
        f"longest {stopped['max_us'] / 1000:.2f} ms, p99.9 {stopped['p999_us'] / 1000:.3f} ms, over a millisecond "
        f"{stopped['over_1_ms']} of {said['turns']:,} turns"
    )


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure, print one line, return the exit code."""
    import argparse

    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--seconds", type=float, default=10)
    return stop(parser.parse_args(arguments).seconds)


if __name__ == "__main__":
    sys.exit(main())
