from __future__ import annotations

import itertools

import pytest
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, rule

from gateway.core.roster import Diff, Member, Roster

ADA = Member("u-1", b'{"name":"Ada"}')
ADA_ELSEWHERE = Member("u-1", b'{"name":"Countess"}')
BOB = Member("u-2")
EVE = Member("u-3")
MANY = 100


def test_occupied_and_vacated() -> None:
    roster = Roster()
    assert roster.enter("c", "1.1", None, MANY) == Diff("c", 1, occupied=True)
    assert roster.enter("c", "1.2", None, MANY) == Diff("c", 2)
    assert roster.leave("c", "1.1") == Diff("c", 1)
    assert roster.leave("c", "1.2") == Diff("c", 0, vacated=True)
    assert list(roster.channels()) == []


def test_entering_twice_changes_nothing() -> None:
    roster = Roster()
    roster.enter("presence-c", "1.1", ADA, 1)
    diff = roster.enter("presence-c", "1.1", BOB, 1)
    assert diff == Diff("presence-c", 1, members={"u-1": ADA})
    assert roster.leave("presence-c", "1.1").member_removed == ADA


def test_leaving_what_one_is_not_in_changes_nothing() -> None:
    roster = Roster()
    assert roster.leave("c", "1.1") == Diff("c", 0)
    assert roster.leave("presence-c", "1.1") == Diff("presence-c", 0, members={})
    roster.enter("presence-c", "1.1", ADA, MANY)
    assert roster.leave("presence-c", "1.2") == Diff("presence-c", 1, members={"u-1": ADA})


def test_members_are_in_order_of_arrival() -> None:
    roster = Roster()
    for number, member in enumerate([EVE, ADA, BOB]):
        roster.enter("presence-c", f"1.{number}", member, MANY)
    roster.leave("presence-c", "1.0")
    roster.enter("presence-c", "1.9", EVE, MANY)
    assert list(roster.members("presence-c")) == ["u-1", "u-2", "u-3"]


@pytest.mark.parametrize("order", list(itertools.permutations(["1.1", "1.2", "1.3"])))
def test_first_tab_in_and_last_tab_out_in_every_order(order: tuple[str, ...]) -> None:
    roster = Roster()
    roster.enter("presence-c", "9.9", BOB, MANY)
    assert roster.enter("presence-c", "1.1", ADA, MANY).member_added == ADA
    assert roster.enter("presence-c", "1.2", ADA_ELSEWHERE, MANY).member_added is None
    assert roster.enter("presence-c", "1.3", Member("u-1"), MANY).member_added is None
    for left, socket_id in enumerate(order, 1):
        diff = roster.leave("presence-c", socket_id)
        # the first connection's info stays, also when that connection is the first to go
        assert diff.member_removed == (ADA if left == 3 else None)
        assert diff.members == ({"u-2": BOB} if left == 3 else {"u-2": BOB, "u-1": ADA})
        assert roster.users("presence-c") == (1 if left == 3 else 2)


def test_who_comes_back_is_seen_anew() -> None:
    roster = Roster()
    roster.enter("presence-c", "1.1", ADA, MANY)
    roster.leave("presence-c", "1.1")
    assert roster.enter("presence-c", "1.2", ADA_ELSEWHERE, MANY).member_added == ADA_ELSEWHERE


def test_the_limit_counts_users_not_connections() -> None:
    roster = Roster()
    for number in range(5):
        assert not roster.enter("presence-c", f"1.{number}", ADA, 2).refused
    roster.enter("presence-c", "2.1", BOB, 2)
    refused = roster.enter("presence-c", "3.1", EVE, 2)
    assert refused == Diff("presence-c", 6, members={"u-1": ADA, "u-2": BOB}, refused=True)
    assert not roster.enter("presence-c", "2.2", BOB, 2).refused
    assert roster.leave("presence-c", "3.1").member_removed is None, "whoever was refused is not there"
    roster.leave("presence-c", "2.1")
    roster.leave("presence-c", "2.2")
    assert roster.enter("presence-c", "3.1", EVE, 2).member_added == EVE


def test_a_refusal_leaves_no_empty_channel_behind() -> None:
    roster = Roster()
    assert roster.enter("presence-c", "1.1", ADA, 0).refused
    assert list(roster.channels()) == []


def test_questions() -> None:
    roster = Roster()
    roster.enter("orders", "1.1", None, MANY)
    roster.enter("presence-a", "1.1", ADA, MANY)
    roster.enter("presence-a", "1.2", ADA, MANY)
    roster.enter("presence-cache-b", "1.1", BOB, MANY)
    assert list(roster.channels()) == [("orders", 1, None), ("presence-a", 2, 1), ("presence-cache-b", 1, 1)]
    assert list(roster.channels("presence-c")) == [("presence-cache-b", 1, 1)]
    assert (roster.subscribers("orders"), roster.users("orders")) == (1, None)
    assert (roster.subscribers("presence-a"), roster.users("presence-a")) == (2, 1)
    assert (roster.subscribers("none"), roster.users("none")) == (0, None)
    assert (roster.subscribers("presence-none"), roster.users("presence-none")) == (0, 0)
    assert roster.members("orders") == {}


CHANNELS = ("a", "private-b", "presence-c", "presence-cache-d")
channels = st.sampled_from(CHANNELS)
sockets = st.sampled_from(["1.1", "1.2", "1.3", "1.4"])
members = st.builds(Member, st.sampled_from(["u-1", "u-2", "u-3"]), st.sampled_from([b"{}", b'{"a":1}', b'{"b":2}']))
MOST = 2


class RosterModel(RuleBasedStateMachine):
    """The roster against a list, in order of arrival, that is walked for each question; what the diffs say must add up."""

    def __init__(self) -> None:
        super().__init__()
        self.roster = Roster()
        self.model: list[tuple[str, str, Member | None]] = []
        self.occupied: set[str] = set()
        self.present: dict[str, dict[str, Member]] = {channel: {} for channel in CHANNELS}

    def on(self, channel: str) -> list[tuple[str, Member | None]]:
        return [(socket_id, member) for name, socket_id, member in self.model if name == channel]

    def fold(self, diff: Diff) -> None:
        """Follow the diffs alone, as a receiver of lifecycle events does."""
        assert not (diff.occupied and diff.vacated)
        if diff.occupied:
            assert diff.channel not in self.occupied, "occupied twice"
            self.occupied.add(diff.channel)
        if diff.vacated:
            self.occupied.remove(diff.channel)
        present = self.present[diff.channel]
        if diff.member_added is not None:
            assert diff.member_added.user_id not in present, "added twice"
            present[diff.member_added.user_id] = diff.member_added
        if diff.member_removed is not None:
            assert present.pop(diff.member_removed.user_id) == diff.member_removed
        assert diff.subscribers == len(self.on(diff.channel))
        if diff.channel.startswith("presence-"):
            assert diff.members is not None
            assert list(diff.members.items()) == list(present.items())
        else:
            assert diff.members is None

    @rule(channel=channels, socket_id=sockets, member=members)
    def enter(self, channel: str, socket_id: str, member: Member) -> None:
        here = self.on(channel)
        is_presence = channel.startswith("presence-")
        users = {somebody.user_id for _, somebody in here if somebody is not None}
        is_new = all(socket_id != other for other, _ in here)
        is_full = is_presence and is_new and member.user_id not in users and len(users) >= MOST
        if is_new and not is_full:
            self.model.append((channel, socket_id, member if is_presence else None))
        diff = self.roster.enter(channel, socket_id, member if is_presence else None, MOST)
        assert diff.refused == is_full
        assert (diff.member_added is not None) == (is_presence and is_new and not is_full and member.user_id not in users)
        self.fold(diff)

    @rule(channel=channels, socket_id=sockets)
    def leave(self, channel: str, socket_id: str) -> None:
        self.model = [entry for entry in self.model if entry[:2] != (channel, socket_id)]
        self.fold(self.roster.leave(channel, socket_id))

    @invariant()
    def both_agree(self) -> None:
        expected = {}
        for channel in CHANNELS:
            here = self.on(channel)
            is_presence = channel.startswith("presence-")
            users = {member.user_id for _, member in here if member is not None}
            assert self.roster.subscribers(channel) == len(here)
            assert self.roster.users(channel) == (len(users) if is_presence else None)
            assert set(self.roster.members(channel)) == users == set(self.present[channel])
            if here:
                expected[channel] = (len(here), len(users) if is_presence else None)
        assert {name: (subscribers, users) for name, subscribers, users in self.roster.channels()} == expected
        assert set(expected) == self.occupied


TestRosterModel = RosterModel.TestCase
