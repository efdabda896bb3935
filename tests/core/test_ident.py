from __future__ import annotations

import re

from hypothesis import given
from hypothesis import strategies as st

from gateway.core.ident import Ids, socket_id


@given(st.lists(st.integers(0, 2**44), min_size=1, max_size=50))
def test_ids_sort_by_time_of_making_whatever_the_wall_clock_does(instants: list[int]) -> None:
    ids = Ids(7)
    made = [ids.make("evt", epoch_ms) for epoch_ms in instants]
    assert made == sorted(set(made))
    assert all(re.fullmatch(r"evt_[0-9a-f]{32}", one) for one in made)


def test_two_processes_with_different_seeds_never_make_the_same_id() -> None:
    assert Ids(1).make("spn", 5) != Ids(2).make("spn", 5)


def test_the_same_seed_and_time_make_the_same_ids() -> None:
    assert Ids(2**48 + 1).make("evt", 0x0199_F0C2_A3B4) == "evt_0199f0c2a3b400000000000000000001"


@given(st.integers(0, 2**62 - 1))
def test_a_socket_id_is_two_numbers_below_two_to_the_31st(chance: int) -> None:
    left, right = socket_id(chance).split(".")
    assert int(left) < 2**31
    assert int(right) < 2**31
    assert (int(left) << 31 | int(right)) == chance
