"""The catalogue; that the gateway keeps to it is checked with every webhook the end-to-end tests receive."""

from __future__ import annotations

from typing import Any

import pytest

from gateway.core.catalogue import ENTRIES
from tests.described import faults

OCCUPIED: dict[str, Any] = {"channel": "room", "type": "public", "span": "spn_1", "socket_id": "1.2", "subscribers": 1}


@pytest.mark.parametrize("name", ENTRIES)
def test_no_member_is_described_twice(name: str) -> None:
    names = [fact.name for fact in ENTRIES[name].facts]
    assert len(names) == len(set(names))


def test_data_as_described_is_in_order() -> None:
    assert faults("channel.occupied", OCCUPIED) == []
    assert faults("channel.occupied", OCCUPIED | {"cache": True}) == []


@pytest.mark.parametrize(
    ("event", "data", "fault"),
    [
        ("channel.occupied", OCCUPIED | {"extra": 1}, "channel.occupied.extra is not in the catalogue"),
        ("channel.occupied", OCCUPIED | {"subscribers": "1"}, "channel.occupied.subscribers is not of type integer"),
        ("channel.occupied", OCCUPIED | {"subscribers": True}, "channel.occupied.subscribers is not of type integer"),
        ("channel.nonsense", OCCUPIED, "channel.nonsense is not in the catalogue"),
        (
            "channel.occupied",
            {name: value for name, value in OCCUPIED.items() if name != "span"},
            "channel.occupied.span is missing",
        ),
    ],
)
def test_what_differs_is_named(event: str, data: dict[str, Any], fault: str) -> None:
    assert faults(event, data) == [fault]
