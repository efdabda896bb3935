"""The gateway as it is, with a watch on its loop: for how long is it stopped, and by whom?

Called with `-c FILE`, as `python -m gateway serve`. Each line on standard input is for how many seconds to watch; the answer
is a line of JSON. While it watches, the loop never sleeps: it looks at the clock in every turn. The time of a turn in which
the loop's thread did not use the processor is a stop. How much of that was another thread of the gateway that held the
interpreter, is the least that one of these says:

* The kernel knows for how long the thread was ready to run and had no core (or another thread, which may hold the
  interpreter, had none): that is the machine's doing, the rest may be the gateway's.
* Who holds the interpreter for long uses the processor. So it was no longer than the others have used it.
* Who waits for the interpreter sets a clock and asks again. A sleep that is much longer is one from which the machine did
  not wake it: a virtual one is itself ready to run and without a core now and then, and no kernel inside knows.
"""

from __future__ import annotations

import argparse
import asyncio
import gc
import json
import os
import resource
import sys
import threading
import time
from pathlib import Path
from typing import NamedTuple

from gateway.bootstrap import Gateway
from gateway.cli import _ready
from gateway.config import load
from gateway.process import serve

#: threads that hold the interpreter now and then
_WORKERS = "outbox-"

#: Nanoseconds by which who has set a clock may be late on a machine that does its part: 50,000 are allowed it (timerslack_ns),
#: and up to 450,000 in all were seen where both threads had a core.
_SLACK_NS = 400_000


class _Moment(NamedTuple):
    """What the clocks and counters stand at; nanoseconds, but for `sleeps`."""

    at: int
    #: processor time of the loop's thread, and of the others
    used: int
    others_used: int
    #: for how long those that are asked were ready to run and had no core
    waited: int
    #: how often the loop's thread went to sleep
    sleeps: int


class _Clocks:
    """The clocks of the loop's thread, which reads them, and of all others; some of these are also asked for their waits."""

    def __init__(self, threads: list[int]) -> None:
        self._files = [os.open(f"/proc/self/task/{number}/schedstat", os.O_RDONLY) for number in threads]

    def read(self) -> _Moment:
        used = time.thread_time_ns()
        return _Moment(
            time.monotonic_ns(),
            used,
            time.process_time_ns() - used,
            # The second number is the wait (Documentation/scheduler/sched-stats.rst of the kernel).
            sum(int(os.pread(file, 64, 0).split()[1]) for file in self._files),
            resource.getrusage(resource.RUSAGE_THREAD).ru_nvcsw,
        )

    def close(self) -> None:
        for file in self._files:
            os.close(file)


class _Collections:
    """The garbage collections of this process: for how long each has held the interpreter, in the loop's thread and in others."""

    def __init__(self) -> None:
        self._loops = threading.get_native_id()
        self._begun_at = 0
        self.own: list[int] = [0]
        self.others: list[int] = [0]
        gc.callbacks.append(self._note)

    def end(self) -> None:
        gc.callbacks.remove(self._note)

    def _note(self, phase: str, info: object) -> None:
        # There is never more than one at a time, and none gives the interpreter up.
        if phase == "start":
            self._begun_at = time.thread_time_ns()
        else:
            some = self.own if threading.get_native_id() == self._loops else self.others
            some.append(time.thread_time_ns() - self._begun_at)


class _Watch:
    """Looks at the clock in every turn of the loop, for so long."""

    def __init__(self, loop: asyncio.AbstractEventLoop, seconds: float) -> None:
        self._loop = loop
        others = [each.native_id for each in threading.enumerate() if each.name.startswith(_WORKERS) and each.native_id]
        self._clocks = _Clocks([threading.get_native_id(), *others])
        self._stops: list[int] = []
        self._for_core: list[int] = []
        self._turns: list[int] = []
        self._collections = _Collections()
        self._before = self._clocks.read()
        self._until = self._before.at + int(seconds * 1e9)
        self._longest_sleep = int(sys.getswitchinterval() * 1e9) + _SLACK_NS
        loop.call_soon(self._look)

    def _look(self) -> None:
        now, before = self._clocks.read(), self._before
        used = now.used - before.used
        off = now.at - before.at - used
        asleep = (now.sleeps - before.sleeps) * self._longest_sleep
        held = min(off - (now.waited - before.waited), now.others_used - before.others_used, asleep)
        self._stops.append(max(0, held))
        self._for_core.append(off - max(0, held))
        self._turns.append(used)
        self._before = now
        if now.at < self._until:
            self._loop.call_soon(self._look)
            return
        self._clocks.close()
        self._collections.end()
        said = {"stopped": self._stops, "for_core": self._for_core, "turn": self._turns}
        said |= {"collection": self._collections.own, "others_collection": self._collections.others}
        print(json.dumps({"turns": len(self._stops)} | {name: _described(some) for name, some in said.items()}), flush=True)


def _described(ns: list[int]) -> dict[str, float]:
    ordered = sorted(ns)
    return {
        "p50_us": ordered[len(ordered) // 2] / 1e3,
        "p999_us": ordered[int(len(ordered) * 0.999)] / 1e3,
        "max_us": ordered[-1] / 1e3,
        "over_1_ms": sum(one > 1e6 for one in ordered),
    }


def main() -> int:
    """Run the gateway."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("-c", type=Path, required=True)
    options = parser.parse_args()

    def ready(gateway: Gateway) -> None:
        loop = asyncio.get_running_loop()
        loop.add_reader(sys.stdin.fileno(), lambda: _asked(loop))
        _ready(gateway)

    return serve(load(options.c, os.environ), ready=ready)


def _asked(loop: asyncio.AbstractEventLoop) -> None:
    line = os.read(sys.stdin.fileno(), 64)
    if line:
        _Watch(loop, float(line))
    else:
        loop.remove_reader(sys.stdin.fileno())


if __name__ == "__main__":
    sys.exit(main())
