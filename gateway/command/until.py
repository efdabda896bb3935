"""Commands that go on until somebody ends them, which is no failure."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine

from gateway.signals import deaf_at_the_end, on


async def until_stopped(work: Coroutine[object, object, int]) -> int:
    """Do the work to its end, or to Ctrl-C or SIGTERM, when it is cancelled; return its exit code, or then 0.

    The process takes no signal after that.
    """
    return await deaf_at_the_end(_until_stopped(work))


async def _until_stopped(work: Coroutine[object, object, int]) -> int:
    task = asyncio.get_running_loop().create_task(work)
    was_stopped = False

    def stop() -> None:
        nonlocal was_stopped
        was_stopped = True
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        on(number, stop)
    try:
        return await task
    except asyncio.CancelledError:
        if was_stopped:
            return 0
        raise
