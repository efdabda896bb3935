"""Whose connection it was: a sign-in says so, else the first presence channel does, and a crash changes neither."""

from __future__ import annotations

from collections.abc import Sequence

from gateway.core.ident import Ids
from gateway.core.lifecycle import Instant, Lifecycle, LifecycleEvent, Record, SpanClosed, SpanOpened
from gateway.core.roster import Diff, Member
from gateway.core.span import Span

WANTED = frozenset({"connection.closed", "channel.unsubscribed"})
ENDING = {"code": 1000, "reason": "client"}


def lifecycle() -> Lifecycle:
    return Lifecycle("1001", Ids(1), wanted=WANTED, linger_s=3)


def at(seconds: int) -> Instant:
    return Instant(float(seconds), 1_754_300_000_000 + seconds * 1000)


def joined(life: Lifecycle, channel: str, user_id: str, now: Instant) -> Sequence[Record]:
    member = Member(user_id)
    return life.subscribed("1.1", Diff(channel, 1, occupied=True, member_added=member), member, now)


def user_in(records: Sequence[Record]) -> object:
    (event,) = [record for record in records if isinstance(record, LifecycleEvent) and record.kind == "connection.closed"]
    return event.data.get("user_id")


def users_at_the_end(life: Lifecycle, records: Sequence[Record]) -> tuple[object, object]:
    """Return whom the end of the connection names: as this life tells it, and as the next one does after a crash."""
    kept: dict[tuple[str, str], Span] = {}
    for record in records:
        if isinstance(record, SpanOpened):
            kept[record.span.kind, record.span.key] = record.span
        elif isinstance(record, SpanClosed):
            del kept[record.kind, record.key]
    after = user_in(lifecycle().recover(kept.values(), at(100), 30.0))
    return user_in(life.closed("1.1", ENDING, at(99))), after


def test_who_has_signed_in_is_who_he_is_whatever_he_is_called_on_a_channel() -> None:
    for channel_first in (True, False):
        life = lifecycle()
        records = [*life.opened("1.1", {}, at(0))]
        if channel_first:
            records += joined(life, "presence-a", "ben", at(1))
        records += life.signed_in("1.1", "anna", at(2))
        if not channel_first:
            records += joined(life, "presence-a", "ben", at(3))
        assert users_at_the_end(life, records) == ("anna", "anna")


def test_who_has_not_signed_in_is_who_he_was_on_his_first_presence_channel() -> None:
    life = lifecycle()
    records = [
        *life.opened("1.1", {}, at(0)),
        *joined(life, "presence-b", "ben", at(1)),
        *joined(life, "presence-a", "cy", at(2)),
    ]
    assert users_at_the_end(life, records) == ("ben", "ben")
