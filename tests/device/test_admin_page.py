"""Pages: all of it, each once, and in pieces."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.admin import page
from gateway.admin.page import behind, first_of, names_after


@dataclass(frozen=True)
class One:
    opened_at: float
    socket_id: str


EVERYTHING = [One(1.0, "a"), One(2.0, "b"), One(2.0, "c"), One(2.0, "d"), One(3.0, "e")]


def test_a_page_goes_on_behind_the_last_of_the_one_before() -> None:
    assert [behind(EVERYTHING, one.opened_at, one.socket_id) for one in EVERYTHING] == [1, 2, 3, 4, 5]
    assert behind(EVERYTHING, 0.0, "") == 0


def test_also_where_that_one_is_gone() -> None:
    assert behind(EVERYTHING, 1.5, "x") == 1
    assert behind(EVERYTHING, 9.0, "x") == 5
    # Of several that came at the same moment all are told once more: better twice than never.
    assert behind(EVERYTHING, 2.0, "x") == 1


@given(st.lists(st.sampled_from("abcd"), max_size=30).map("".join), st.integers(1, 5), st.sampled_from(["", "a"]))
def test_pages_of_names_are_all_names_in_order(letters: str, limit: int, prefix: str) -> None:
    names = list({letters[start : start + 3] for start in range(len(letters))})

    async def walk() -> list[str]:
        told: list[str] = []
        while found := await names_after(names, told[-1] if told else "", prefix, limit):
            assert len(found) <= limit
            told += found
        return told

    assert asyncio.run(walk()) == sorted(name for name in names if name.startswith(prefix))


@given(
    st.lists(st.sampled_from(["Room-1", "room-2", "ROOM", "hall", "x"]), unique=True), st.sampled_from(["", "oo", "OOM-", "z"])
)
def test_a_part_is_looked_for_in_upper_and_lower_case(names: list[str], part: str) -> None:
    found = asyncio.run(names_after(names, "", "", 10, part))
    assert found == sorted(name for name in names if part.lower() in name.lower())


@given(st.integers(0, 9), st.integers(1, 9), st.integers(1, 4))
def test_the_first_that_are_taken(start: int, limit: int, step: int) -> None:
    everything = [One(float(number), str(number)) for number in range(9)]
    found = asyncio.run(first_of(everything, start, limit, lambda some: [one for one in some if one.opened_at % step == 0]))
    assert found == [one for one in everything[start:] if one.opened_at % step == 0][:limit]
    assert asyncio.run(first_of(everything, start, limit)) == everything[start:][:limit]


async def test_others_get_their_turn_while_names_are_looked_through() -> None:
    names = [f"room-{number:06}" for number in range(10 * page._AT_ONCE)]
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    assert await names_after(names, "room-000009", "", 2) == ["room-000010", "room-000011"]
    assert turns >= 10
    turns = 0
    assert await first_of([One(0.0, name) for name in names], 0, 2, lambda some: []) == []
    assert turns >= 10
    counting.cancel()


# -- what a page costs, where there are a hundred thousand; counted, since time is the machine's

MANY = 100_000


class Counted(str):
    """A name that counts what is asked of it: how often it is compared, and how often looked into."""

    __slots__ = ()
    asked = 0

    def __lt__(self, other: str) -> bool:
        Counted.asked += 1
        return str.__lt__(self, other)

    def __gt__(self, other: str) -> bool:
        Counted.asked += 1
        return str.__gt__(self, other)

    def startswith(self, *arguments: object) -> bool:  # type: ignore[override]
        Counted.asked += 1
        return str.startswith(self, *arguments)  # type: ignore[arg-type]

    def lower(self) -> str:
        Counted.asked += 1
        return str.lower(self)


@pytest.mark.parametrize(
    ("after", "prefix", "part"),
    [("", "", ""), ("room-000500", "", ""), ("room-090000", "", ""), ("", "room-09", ""), ("", "", "-0999"), ("", "", "zzz")],
)
async def test_a_page_of_names_asks_each_of_them_a_few_times_only(after: str, prefix: str, part: str) -> None:
    names = [Counted(f"room-{number * 7919 % MANY:06}") for number in range(MANY)]
    Counted.asked = 0
    found = await names_after(names, after, prefix, 500, part)
    assert Counted.asked < 4 * MANY
    assert found == [name for name in sorted(map(str, names)) if name > after and name.startswith(prefix) and part in name][:500]


async def test_a_page_of_connections_looks_at_none_that_is_not_on_it() -> None:
    looked_at: list[int] = []

    class Noted(list[One]):
        def __getitem__(self, place: Any) -> Any:
            found = list.__getitem__(self, place)
            looked_at.append(len(found) if isinstance(found, list) else 1)
            return found

        def __iter__(self) -> Any:
            raise AssertionError("walked through")

    everything = Noted(One(float(number), str(number)) for number in range(MANY))
    start = behind(everything, 90_000.0, "90000")
    assert start == 90_001
    page_ = await first_of(everything, start, 100)
    assert [page_[0].socket_id, page_[-1].socket_id] == ["90001", "90100"]
    assert sum(looked_at) < 200


async def test_what_is_looked_for_is_looked_for_once_in_each() -> None:
    everything = [One(float(number), str(number)) for number in range(MANY)]
    looked_at: list[int] = []

    def taken(some: Sequence[One]) -> list[One]:
        looked_at.append(len(some))
        return [one for one in some if one.socket_id == "99999"]

    assert len(await first_of(everything, 0, 100, taken)) == 1
    assert sum(looked_at) == MANY
    looked_at.clear()
    assert len(await first_of(everything, 0, 100, lambda some: taken(some) or list(some))) == 100
    assert len(looked_at) == 1
