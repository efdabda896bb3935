"""What takes too long ends with TimeoutError, and nothing else does; one timer is enough for all."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest

from gateway.delivery.deadline import Deadlines
from tests.patience import LONG_S


async def _for_ever() -> None:
    await asyncio.get_running_loop().create_future()


async def _attempt(deadlines: Deadlines, begun: asyncio.Event | None = None) -> None:
    with deadlines:
        if begun is not None:
            begun.set()
        await _for_ever()


async def test_what_takes_too_long_is_ended_and_the_task_is_as_before() -> None:
    deadlines = Deadlines(0.05)
    loop, task = asyncio.get_running_loop(), asyncio.current_task()
    began = loop.time()
    with pytest.raises(TimeoutError):
        await _attempt(deadlines)
    assert 0.045 < loop.time() - began < LONG_S
    assert task is not None
    assert task.cancelling() == 0


async def test_what_ends_in_time_is_left_alone_though_others_are_late() -> None:
    deadlines = Deadlines(0.05)
    with deadlines:
        pass
    with pytest.raises(TimeoutError):
        await _attempt(deadlines)
    with pytest.raises(ValueError, match="its own"), deadlines:
        raise ValueError("its own")


async def test_each_has_all_of_its_time() -> None:
    deadlines = Deadlines(0.1)
    first = asyncio.create_task(_attempt(deadlines))
    with pytest.raises(TimeoutError):  # half of its time passes
        await _attempt(Deadlines(0.05))
    began = asyncio.get_running_loop().time()
    with pytest.raises(TimeoutError):
        await _attempt(deadlines)
    assert asyncio.get_running_loop().time() - began > 0.095
    with pytest.raises(TimeoutError):
        await first


async def test_whoever_is_cancelled_is_not_late() -> None:
    deadlines, begun = Deadlines(LONG_S), asyncio.Event()
    task = asyncio.create_task(_attempt(deadlines, begun))
    await begun.wait()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    deadlines.close()


async def test_whoever_is_late_and_cancelled_at_once_is_cancelled() -> None:
    deadlines, begun = Deadlines(LONG_S), asyncio.Event()
    task = asyncio.create_task(_attempt(deadlines, begun))
    await begun.wait()
    deadlines._due = {one: (0.0, before) for one, (_, before) in deadlines._due.items()}
    deadlines._look()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


async def test_many_attempts_set_one_timer(monkeypatch: pytest.MonkeyPatch) -> None:
    deadlines, loop = Deadlines(LONG_S), asyncio.get_running_loop()
    timers: list[float] = []
    call_at = loop.call_at

    def noted(when: float, *rest: Any, **more: Any) -> asyncio.TimerHandle:
        timers.append(when)
        return call_at(when, *rest, **more)

    monkeypatch.setattr(loop, "call_at", noted)
    for _ in range(100):
        with deadlines:
            pass
    assert len(timers) == 1
    deadlines.close()
