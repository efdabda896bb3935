"""Signals that ask a process for its end, or for something else: none is lost, and none makes a failure of that end."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Callable, Coroutine


def on(number: signal.Signals, act: Callable[[], object]) -> None:
    """Have the running loop act when a signal comes; to be used inside `deaf_at_the_end`.

    Not by the loop's own means: it gives what it was told back to the system when it is closed, and the system ends a process
    that gets a signal between that and its exit.
    """
    loop = asyncio.get_running_loop()
    signal.signal(number, lambda *_: loop.call_soon_threadsafe(act))


async def deaf_at_the_end(work: Coroutine[object, object, int]) -> int:
    """Do what a process is there for, and return its exit code; from then on the process takes no signal.

    What is left is the end of the interpreter, which no signal may make a failure of.
    """
    try:
        return await work
    finally:
        for number in (signal.SIGTERM, signal.SIGINT, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
