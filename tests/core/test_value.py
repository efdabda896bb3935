from __future__ import annotations

from dataclasses import replace

import pytest

from gateway.core.value import value


@value
class Place:
    street: str
    number: int = 1


def test_it_is_equal_and_hashed_by_its_fields() -> None:
    assert Place("x") == Place("x", 1)
    assert len({Place("x"), Place("x", 1), Place("y")}) == 2
    assert replace(Place("x"), number=2) == Place("x", 2)


def test_it_has_no_room_for_anything_else() -> None:
    with pytest.raises(AttributeError):
        Place("x").other = 1  # type: ignore[attr-defined]
