"""Answers at the end of a turn: in order, all of them, and not later than they must be."""

from __future__ import annotations

import asyncio

import pytest

from gateway.api import turn
from gateway.api.turn import Turn


class Debtor:
    def __init__(self, name: str, told: list[str], *, fails: bool = False) -> None:
        self.name = name
        self.told = told
        self.fails = fails

    def answer_now(self) -> None:
        if self.fails:
            raise RuntimeError(self.name)
        self.told.append(self.name)

    def force_close(self) -> None:
        self.told.append(f"{self.name} is cut")


async def test_answers_are_written_in_order_when_the_turn_is_over() -> None:
    told: list[str] = []
    one = Turn()
    for name in "abc":
        one.answer_later(Debtor(name, told))
    assert told == []
    await asyncio.sleep(0)
    assert told == ["a", "b", "c"]
    one.answer_later(Debtor("d", told))
    assert told == ["a", "b", "c"]
    await asyncio.sleep(0)
    assert told == ["a", "b", "c", "d"]


async def test_one_that_cannot_be_written_holds_up_no_other(caplog: pytest.LogCaptureFixture) -> None:
    told: list[str] = []
    one = Turn()
    for name in "abc":
        one.answer_later(Debtor(name, told, fails=name == "b"))
    await asyncio.sleep(0)
    assert told == ["a", "b is cut", "c"]
    assert "an answer could not be written" in caplog.text


async def test_many_do_not_wait_for_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(turn, "_MOST", 2)
    told: list[str] = []
    one = Turn()
    for name in "abcde":
        one.answer_later(Debtor(name, told))
    assert told == ["a", "b", "c", "d"]
    await asyncio.sleep(0)
    assert told == ["a", "b", "c", "d", "e"]
