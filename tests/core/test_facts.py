"""What the events of a channel tell in common."""

from __future__ import annotations

import pytest

from gateway.core.facts import cause_of, channel_facts
from gateway.core.roster import Member


@pytest.mark.parametrize(
    ("channel", "said"),
    [
        ("orders", {"type": "public"}),
        ("private-encrypted-cache-a", {"type": "encrypted", "cache": True}),
        ("presence-cache-a", {"type": "presence", "cache": True}),
    ],
)
def test_its_name_its_kind_and_how_many(channel: str, said: dict[str, object]) -> None:
    facts = channel_facts(channel, 3, cause_of("1.2", Member("u-1")))
    assert facts == {"channel": channel, **said, "socket_id": "1.2", "user_id": "u-1", "subscribers": 3}
    assert channel_facts(channel, 0, {}, "spn_1") == {"channel": channel, **said, "span": "spn_1", "subscribers": 0}


def test_who_has_no_user_is_the_connection_alone() -> None:
    assert cause_of("1.2", None) == {"socket_id": "1.2"}
