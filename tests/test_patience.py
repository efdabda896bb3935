"""Peers that take nothing of what is written to them, over a transport that only says how much waits."""

from __future__ import annotations

import asyncio
from typing import cast

import pytest

from gateway import patience
from gateway.patience import Patience


class Loop:
    """Keeps what is to be called later."""

    def __init__(self) -> None:
        self.later: list[tuple[float, Timer]] = []

    def call_later(self, delay: float, callback: object) -> Timer:
        assert callable(callback)
        self.later.append((delay, Timer(callback)))
        return self.later[-1][1]

    def ring(self) -> None:
        """Let the last timer fire."""
        assert not self.later[-1][1].is_cancelled
        self.later[-1][1].callback()


class Timer:
    def __init__(self, callback: object) -> None:
        assert callable(callback)
        self.callback = callback
        self.is_cancelled = False

    def cancel(self) -> None:
        self.is_cancelled = True


class Wire(asyncio.Transport):
    """Says how much waits in it."""

    waits = 0
    is_aborted = False
    limits: tuple[int | None, int | None] = (None, None)

    def get_write_buffer_size(self) -> int:
        return self.waits

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        self.limits = (high, low)

    def abort(self) -> None:
        self.is_aborted = True


@pytest.fixture
def loop() -> Loop:
    return Loop()


@pytest.fixture
def wire() -> Wire:
    return Wire()


@pytest.fixture
def held(loop: Loop, wire: Wire) -> Patience:
    held = Patience(cast(asyncio.AbstractEventLoop, loop))
    held.begin(wire)
    return held


def test_the_transport_says_so_as_soon_as_anything_waits(held: Patience, wire: Wire) -> None:
    assert wire.limits == (1, 0)


def test_who_takes_nothing_is_cut(held: Patience, loop: Loop, wire: Wire) -> None:
    wire.waits = 1000
    held.waits()
    assert loop.later[-1][0] == patience.TAKE_S
    loop.ring()
    assert wire.is_aborted
    held.ends()
    assert len(loop.later) == 1


def test_who_takes_something_is_given_time_for_the_rest(held: Patience, loop: Loop, wire: Wire) -> None:
    wire.waits = 1000
    held.waits()
    for left in (999, 10):
        wire.waits = left
        loop.ring()
        assert not wire.is_aborted
    loop.ring()
    assert wire.is_aborted


def test_who_has_taken_all_is_left_alone(held: Patience, loop: Loop, wire: Wire) -> None:
    held.goes_on()
    held.waits()
    held.goes_on()
    assert loop.later[0][1].is_cancelled
    held.waits()
    held.ends()
    assert loop.later[1][1].is_cancelled
    assert len(loop.later) == 2
