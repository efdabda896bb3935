"""How long an attempt may take until the status of its answer is known."""

from __future__ import annotations

import asyncio
from types import TracebackType
from typing import Any

#: seconds by which a loop's timer may be early
_EARLY_S = 0.001


class Deadlines:
    """Ends what takes longer than `timeout_s` with TimeoutError, with one timer for all attempts of an endpoint.

    To be entered by a task for each of its attempts, one at a time. Needs a running event loop. A timer of its own for each
    attempt is set and taken down again, for nothing, with nearly every one.
    """

    __slots__ = ("_cut", "_due", "_loop", "_timeout_s", "_timer")

    def __init__(self, timeout_s: float) -> None:
        self._timeout_s = timeout_s
        self._loop = asyncio.get_running_loop()
        #: by task: until when, and how often it had been asked to end before; the first in it is the first to be due
        self._due: dict[asyncio.Task[Any], tuple[float, int]] = {}
        #: tasks that were asked to end, for here only, and have not yet left
        self._cut: dict[asyncio.Task[Any], int] = {}
        self._timer: asyncio.TimerHandle | None = None

    def __enter__(self) -> None:
        task = _current()
        due = self._loop.time() + self._timeout_s
        self._due[task] = (due, task.cancelling())
        if self._timer is None:
            self._timer = self._loop.call_at(due, self._look)

    def __exit__(self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None) -> None:
        task = _current()
        if self._due.pop(task, None) is not None:
            return
        # Somebody else may have asked it to end as well; that is not answered here.
        if task.uncancel() <= self._cut.pop(task) and kind is asyncio.CancelledError:
            raise TimeoutError from error

    def close(self) -> None:
        """Take down the timer; nothing may be under way."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _look(self) -> None:
        self._timer = None
        late = self._loop.time() + _EARLY_S
        for task, (due, before) in list(self._due.items()):
            if due > late:
                self._timer = self._loop.call_at(due, self._look)
                return
            del self._due[task]
            self._cut[task] = before
            task.cancel()


def _current() -> asyncio.Task[Any]:
    task = asyncio.current_task()
    assert task is not None
    return task
