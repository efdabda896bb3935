"""Commands that go on until somebody ends them, which is no failure."""

from __future__ import annotations

import asyncio
import signal
from collections.abc import Coroutine


async def until_stopped(work: Coroutine[object, object, int]) -> int:
    """Do the work to its end, or to Ctrl-C or SIGTERM, when it is cancelled; return its exit code, or then 0."""
    loop = asyncio.get_running_loop()
    task = loop.create_task(work)
    was_stopped = False

    def stop() -> None:
        nonlocal was_stopped
        was_stopped = True
        task.cancel()

    for number in (signal.SIGINT, signal.SIGTERM):
        loop.add_signal_handler(number, stop)
    try:
        return await task
    except asyncio.CancelledError:
        if was_stopped:
            return 0
        raise
    finally:
        for number in (signal.SIGINT, signal.SIGTERM):
            loop.remove_signal_handler(number)
