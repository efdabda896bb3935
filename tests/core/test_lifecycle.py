from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core.ident import Ids
from gateway.core.lifecycle import (
    CATALOGUE,
    Instant,
    Lifecycle,
    LifecycleEvent,
    Record,
    Span,
    SpanClosed,
    SpanDeparting,
    SpanOpened,
)
from gateway.core.publication import Publication
from gateway.core.roster import Diff, Member, Roster

EVERYTHING = frozenset(CATALOGUE)
EPOCH = 1_754_300_000_000
FACTS = {"remote_ip": "10.0.0.1", "user_agent": "curl", "protocol": 7}
ENDING = {"code": 1000, "reason": "client", "duration_ms": 5000}
ANNA, BEN = Member("anna"), Member("ben")
ROOM, LOUNGE = "room", "presence-cache-lounge"


def at(seconds: float) -> Instant:
    return Instant(1000.0 + seconds, EPOCH + round(seconds * 1000))


def lifecycle(wanted: Iterable[str] = EVERYTHING, linger_s: float = 3.0) -> Lifecycle:
    return Lifecycle("1001", Ids(1), wanted=frozenset(wanted), linger_s=linger_s)


def events(records: Sequence[Record]) -> list[LifecycleEvent]:
    return [record for record in records if isinstance(record, LifecycleEvent)]


def kinds(records: Sequence[Record]) -> list[str]:
    return [event.kind for event in events(records)]


def data(records: Sequence[Record]) -> Mapping[str, Any]:
    """The data of the only event."""
    (event,) = events(records)
    return event.data


def spans(records: Sequence[Record]) -> list[tuple[str, str, str]]:
    """What the records say about spans: what, kind, key."""
    told = []
    for record in records:
        if isinstance(record, SpanOpened):
            told.append(("opened", record.span.kind, record.span.key))
        elif isinstance(record, SpanDeparting):
            told.append(("stays" if record.departs_at_ms is None else "departing", record.kind, record.key))
        elif isinstance(record, SpanClosed):
            told.append(("closed", record.kind, record.key))
    return told


def entered(channel: str, subscribers: int = 1, member: Member | None = None) -> Diff:
    return Diff(channel, subscribers, occupied=subscribers == 1, member_added=member)


def left(channel: str, subscribers: int = 0, member: Member | None = None) -> Diff:
    return Diff(channel, subscribers, vacated=subscribers == 0, member_removed=member)


# -- what is told, to the letter


def test_a_connection_from_end_to_end() -> None:
    life = lifecycle()
    opened = life.opened("1.1", FACTS, at(0))
    closed = life.closed("1.1", ENDING, at(5))
    (event,) = events(opened)
    span = str(event.data["span"])
    assert event.subject == "1001/connection/1.1"
    assert (event.kind, event.app_id, event.at_ms, event.channel, event.name) == ("connection.opened", "1001", EPOCH, None, None)
    assert event.data == {"socket_id": "1.1", "span": span, **FACTS}
    assert opened[1] == SpanOpened(Span("1001", "connection", "1.1", span, EPOCH, FACTS))
    assert data(closed) == {"socket_id": "1.1", "span": span, **FACTS, **ENDING}
    assert spans(closed) == [("closed", "connection", "1.1")]


def test_a_connection_that_ends_twice_is_told_once() -> None:
    life = lifecycle()
    life.opened("1.1", FACTS, at(0))
    life.closed("1.1", ENDING, at(1))
    assert life.closed("1.1", ENDING, at(1)) == ()


def test_the_first_member_on_a_channel() -> None:
    life = lifecycle()
    records = life.subscribed("1.1", entered(LOUNGE, member=ANNA), ANNA, at(0))
    assert kinds(records) == ["channel.occupied", "channel.subscribed", "channel.member_added"]
    occupied, subscribed, added = events(records)
    common = {"channel": LOUNGE, "type": "presence", "cache": True, "socket_id": "1.1", "user_id": "anna", "subscribers": 1}
    assert occupied.data == common | {"span": occupied.data["span"]}
    assert subscribed.data == common
    assert added.data == common | {"span": added.data["span"]}
    assert occupied.data["span"] != added.data["span"]
    assert {event.subject for event in events(records)} == {f"1001/channel/{LOUNGE}"}
    assert {event.channel for event in events(records)} == {LOUNGE}
    assert spans(records) == [
        ("opened", "channel", LOUNGE),
        ("opened", "subscription", f"{LOUNGE}\n1.1"),
        ("opened", "member", f"{LOUNGE}\nanna"),
    ]


@pytest.mark.parametrize(
    ("channel", "type_", "cached"),
    [
        ("room", "public", False),
        ("cache-room", "public", True),
        ("private-a", "private", False),
        ("private-encrypted-a", "encrypted", False),
        ("private-encrypted-cache-a", "encrypted", True),
    ],
)
def test_a_channel_event_says_what_type_the_channel_has(channel: str, type_: str, cached: bool) -> None:
    told = data(lifecycle({"channel.occupied"}).subscribed("1.1", entered(channel), None, at(0)))
    assert told["type"] == type_
    assert told.get("cache", "absent") == (True if cached else "absent")
    assert "user_id" not in told


def test_without_linger_the_last_one_to_leave_takes_everything_along() -> None:
    life = lifecycle(linger_s=0)
    occupied, _, added = events(life.subscribed("1.1", entered(LOUNGE, member=ANNA), ANNA, at(0)))
    records = life.unsubscribed("1.1", left(LOUNGE, member=ANNA), ANNA, at(1))
    assert kinds(records) == ["channel.unsubscribed", "channel.member_removed", "channel.vacated"]
    unsubscribed, removed, vacated = events(records)
    common = {"channel": LOUNGE, "type": "presence", "cache": True, "socket_id": "1.1", "user_id": "anna", "subscribers": 0}
    assert unsubscribed.data == common
    assert removed.data == common | {"span": added.data["span"]}
    assert vacated.data == common | {"span": occupied.data["span"]}
    assert [what for what, _, _ in spans(records)] == ["closed", "closed", "closed"]
    assert life.next_deadline() is None


def test_with_linger_a_departure_counts_when_the_wait_is_over() -> None:
    life = lifecycle()
    life.subscribed("1.1", entered(LOUNGE, member=ANNA), ANNA, at(0))
    records = life.unsubscribed("1.1", left(LOUNGE, member=ANNA), ANNA, at(10))
    assert kinds(records) == ["channel.unsubscribed"]
    assert spans(records)[1:] == [("departing", "member", f"{LOUNGE}\nanna"), ("departing", "channel", LOUNGE)]
    assert records[-1] == SpanDeparting("1001", "channel", LOUNGE, EPOCH + 13_000)
    assert life.next_deadline() == 1013.0
    assert life.expire(at(12.9)) == ()
    expired = life.expire(at(13))
    assert kinds(expired) == ["channel.member_removed", "channel.vacated"]
    assert [event.at_ms for event in events(expired)] == [EPOCH + 13_000] * 2
    assert [event.data["socket_id"] for event in events(expired)] == ["1.1", "1.1"]
    assert life.next_deadline() is None
    assert life.expire(at(99)) == ()


def test_who_comes_back_in_time_has_never_left() -> None:
    life = lifecycle()
    occupied, _, added = events(life.subscribed("1.1", entered(LOUNGE, member=ANNA), ANNA, at(0)))
    life.unsubscribed("1.1", left(LOUNGE, member=ANNA), ANNA, at(10))
    records = life.subscribed("2.2", entered(LOUNGE, member=ANNA), ANNA, at(12.9))
    assert kinds(records) == ["channel.subscribed"]
    assert ("stays", "channel", LOUNGE) in spans(records)
    assert ("stays", "member", f"{LOUNGE}\nanna") in spans(records)
    assert life.next_deadline() is None
    assert life.expire(at(99)) == ()
    life.unsubscribed("2.2", left(LOUNGE, member=ANNA), ANNA, at(100))
    removed, vacated = events(life.expire(at(103)))
    assert (removed.data["span"], vacated.data["span"]) == (added.data["span"], occupied.data["span"])


def test_somebody_else_coming_keeps_the_channel_but_not_the_member() -> None:
    life = lifecycle()
    life.subscribed("1.1", entered(LOUNGE, member=ANNA), ANNA, at(0))
    life.unsubscribed("1.1", left(LOUNGE, member=ANNA), ANNA, at(1))
    assert kinds(life.subscribed("2.2", entered(LOUNGE, member=BEN), BEN, at(2))) == [
        "channel.subscribed",
        "channel.member_added",
    ]
    told = data(life.expire(at(9)))
    assert (told["user_id"], told["socket_id"], told["subscribers"]) == ("anna", "1.1", 1)


def test_a_blink_does_not_prolong_an_older_departure_nor_shorten_a_newer_one() -> None:
    life = lifecycle()
    life.subscribed("1.1", entered(ROOM), None, at(0))
    life.unsubscribed("1.1", left(ROOM), None, at(1))
    life.subscribed("1.1", entered(ROOM), None, at(2))
    life.unsubscribed("1.1", left(ROOM), None, at(3))
    assert life.expire(at(5.9)) == ()
    assert kinds(life.expire(at(6))) == ["channel.vacated"]


def test_a_refused_subscription_changes_nothing() -> None:
    life = lifecycle()
    assert life.subscribed("1.1", Diff(LOUNGE, 3, refused=True), ANNA, at(0)) == ()
    assert life.unsubscribed("1.1", Diff(LOUNGE, 3), ANNA, at(1)) == ()


def test_internal_channels_produce_no_events() -> None:
    life, channel = lifecycle(), "#server-to-user-anna"
    assert life.subscribed("1.1", entered(channel), None, at(0)) == ()
    assert life.published(Publication("1001", "e", (channel,), "x"), {channel: 1}, at(0)) == ()
    assert life.rejected("not_allowed", "client", channel, "e", 1, "1.1", at(0)) == ()
    assert life.unsubscribed("1.1", left(channel), None, at(0)) == ()
    assert life.next_deadline() is None


def test_a_publication_over_http_is_told_once_per_channel() -> None:
    publication = Publication("1001", "news", ("a", "#server-to-user-x", "b"), '{"ü":1}', except_socket_id="1.1")
    first, second = events(lifecycle().published(publication, {"a": 2}, at(1)))
    assert first.kind == second.kind == "message.published"
    assert first.data == {"channel": "a", "event": "news", "size": 8, "recipients": 2, "data": '{"ü":1}'}
    assert second.data == {"channel": "b", "event": "news", "size": 8, "recipients": 0, "data": '{"ü":1}'}
    assert (first.subject, first.channel, first.name) == ("1001/channel/a", "a", "news")
    assert first.id != second.id


def test_a_client_event_names_its_sender() -> None:
    publication = Publication("1001", "client-x", (LOUNGE,), "hi", except_socket_id="1.1", from_client=True, user_id="anna")
    (event,) = events(lifecycle().published(publication, {LOUNGE: 1}, at(0)))
    assert event.kind == "client_event"
    assert event.data == {
        "channel": LOUNGE,
        "event": "client-x",
        "size": 2,
        "recipients": 1,
        "socket_id": "1.1",
        "user_id": "anna",
        "data": "hi",
    }


def test_events_of_a_connection_carry_its_facts_and_its_user_once_known() -> None:
    life = lifecycle()
    life.opened("1.1", FACTS, at(0))
    assert data(life.authenticated("1.1", LOUNGE, at(0))) == {"socket_id": "1.1", **FACTS, "channel": LOUNGE}
    life.subscribed("1.1", entered(LOUNGE, member=ANNA), ANNA, at(0))
    failed = life.auth_failed("1.1", "private-x", "bad_signature", at(0))
    assert data(failed) == {
        "socket_id": "1.1",
        **FACTS,
        "user_id": "anna",
        "channel": "private-x",
        "reason": "bad_signature",
    }
    assert events(failed)[0].subject == "1001/connection/1.1"
    life.unsubscribed("1.1", left(LOUNGE, member=ANNA), ANNA, at(0))
    assert data(life.closed("1.1", ENDING, at(1)))["user_id"] == "anna"


@pytest.mark.parametrize(
    ("channel", "event", "socket_id", "subject"),
    [
        ("room", "client-x", "1.1", "1001/channel/room"),
        (None, None, "1.1", "1001/connection/1.1"),
        (None, "e", None, "1001/app"),
    ],
)
def test_a_refused_message(channel: str | None, event: str | None, socket_id: str | None, subject: str) -> None:
    (told,) = events(lifecycle().rejected("rate_limited", "client", channel, event, 7, socket_id, at(0)))
    given_ = {"channel": channel, "event": event, "socket_id": socket_id}
    expected = {"reason": "rate_limited", "source": "client", "size": 7}
    assert told.data == expected | {name: value for name, value in given_.items() if value is not None}
    assert (told.subject, told.channel, told.name) == (subject, channel, event)


def test_of_a_refused_name_only_the_beginning_is_told() -> None:
    told = data(lifecycle().rejected("invalid_channel", "client", "x" * 60_000, "y" * 60_000, 7, "1.1", at(0)))
    assert len(told["channel"]) == len(told["event"]) == 256
    assert len(data(lifecycle().auth_failed("1.1", "private-" + "x" * 60_000, "r", at(0)))["channel"]) == 256


def test_a_sign_in_is_told_and_names_the_user_from_then_on() -> None:
    life = lifecycle()
    (_, opened) = life.opened("1.1", FACTS, at(0))
    assert isinstance(opened, SpanOpened)
    records = life.signed_in("1.1", "anna", at(1))
    assert kinds(records) == ["connection.authenticated"]
    assert data(records) == {"socket_id": "1.1", **FACTS, "user_id": "anna", "signin": True}
    (_, kept) = records
    assert isinstance(kept, SpanOpened)
    assert (kept.span.id, kept.span.opened_at_ms) == (opened.span.id, EPOCH)
    assert kept.span.facts == {**FACTS, "user_id": "anna"}, "a crash must not take the name along"
    assert len(life.signed_in("1.1", "anna", at(2))) == 1, "nothing new about the span"
    life.subscribed("1.1", entered(LOUNGE, member=BEN), BEN, at(2))
    assert data(life.closed("1.1", ENDING, at(3)))["user_id"] == "anna", "who has signed in is who he is"


def test_a_sign_in_names_the_user_also_where_only_some_events_are_wanted() -> None:
    life = lifecycle({"connection.closed"})
    life.opened("1.1", FACTS, at(0))
    assert kinds(life.signed_in("1.1", "anna", at(1))) == []
    assert data(life.closed("1.1", ENDING, at(3)))["user_id"] == "anna"
    assert lifecycle({"channel.occupied"}).signed_in("1.1", "anna", at(0)) == ()


def test_a_refused_sign_in_is_told() -> None:
    told = data(lifecycle().auth_failed("1.1", None, "bad_signature", at(0)))
    assert told == {"socket_id": "1.1", "signin": True, "reason": "bad_signature"}


# -- noise


def test_noise_is_counted_and_what_was_left_out_is_told_with_the_next_and_at_the_end() -> None:
    life = lifecycle()
    life.opened("1.1", FACTS, at(0))
    told = [life.rejected("rate_limited", "client", "a", "client-x", 1, "1.1", at(0)) for _ in range(110)]
    assert [len(records) for records in told] == [1] * 10 + [0] * 100
    assert data(life.rejected("rate_limited", "client", "a", "client-x", 1, "1.1", at(1)))["repeats"] == 100
    assert "repeats" not in data(life.rejected("rate_limited", "client", "a", "client-x", 1, "1.1", at(2)))
    for _ in range(7):
        life.rejected("rate_limited", "client", "a", "client-x", 1, "1.1", at(2))
    for _ in range(13):
        life.auth_failed("1.1", "private-a", "bad_signature", at(2))
    closed = data(life.closed("1.1", ENDING, at(2)))
    assert closed["suppressed"] == {"connection.auth_failed": 3, "message.rejected": 7}


def test_one_connection_s_noise_leaves_others_and_http_their_own() -> None:
    life = lifecycle()
    for _ in range(50):
        life.rejected("rate_limited", "client", "a", "x", 1, "1.1", at(0))
        life.auth_failed("1.1", "private-a", "r", at(0))
    assert life.rejected("rate_limited", "client", "a", "x", 1, "2.2", at(0))
    assert life.rejected("invalid_channel", "http", "a", "x", 1, None, at(0))
    assert life.auth_failed("2.2", "private-a", "r", at(0))


def test_a_connection_without_noise_says_nothing_of_it() -> None:
    life = lifecycle()
    life.opened("1.1", FACTS, at(0))
    life.rejected("rate_limited", "client", "a", "x", 1, "2.2", at(0))
    assert "suppressed" not in data(life.closed("1.1", ENDING, at(0)))


# -- what is wanted


def everything_that_can_happen(life: Lifecycle) -> list[Record]:
    publication = Publication("1001", "client-x", (LOUNGE,), "hi", except_socket_id="1.1", from_client=True)
    records: list[Record] = []
    records += life.opened("1.1", FACTS, at(0))
    records += life.authenticated("1.1", LOUNGE, at(0))
    records += life.auth_failed("1.1", LOUNGE, "bad_signature", at(0))
    records += life.subscribed("1.1", entered(LOUNGE, member=ANNA), ANNA, at(0))
    records += life.published(publication, {LOUNGE: 0}, at(0))
    records += life.published(Publication("1001", "x", (LOUNGE,), "hi"), {LOUNGE: 1}, at(0))
    records += life.rejected("rate_limited", "client", LOUNGE, "client-x", 1, "1.1", at(0))
    records += life.unsubscribed("1.1", left(LOUNGE, member=ANNA), ANNA, at(1))
    records += life.closed("1.1", ENDING, at(1))
    records += life.expire(at(9))
    return records


def test_when_nothing_is_wanted_nothing_is_made_or_kept() -> None:
    life = lifecycle(())
    assert everything_that_can_happen(life) == []
    assert life.next_deadline() is None


@pytest.mark.parametrize("kind", sorted(set(kinds(everything_that_can_happen(lifecycle())))))
def test_only_what_is_wanted_is_told_and_what_is_opened_is_closed(kind: str) -> None:
    records = everything_that_can_happen(lifecycle({kind}))
    assert kinds(records) == [kind]
    told = spans(records)
    assert {span[1:] for span in told if span[0] == "opened"} == {span[1:] for span in told if span[0] == "closed"}
    assert len({span[1] for span in told}) <= 1


def test_all_that_can_happen_is_told_in_the_order_of_the_ledger() -> None:
    assert kinds(everything_that_can_happen(lifecycle())) == [
        "connection.opened",
        "connection.authenticated",
        "connection.auth_failed",
        "channel.occupied",
        "channel.subscribed",
        "channel.member_added",
        "client_event",
        "message.published",
        "message.rejected",
        "channel.unsubscribed",
        "connection.closed",
        "channel.member_removed",
        "channel.vacated",
    ]


def test_what_was_open_before_it_was_wanted_has_no_end() -> None:
    life = lifecycle({"message.published"})
    life.opened("1.1", FACTS, at(0))
    life.subscribed("1.1", entered(LOUNGE, member=ANNA), ANNA, at(0))
    assert life.reconfigure(EVERYTHING, 0) == ()
    assert kinds(life.subscribed("2.2", entered(LOUNGE, 2), ANNA, at(1))) == ["channel.subscribed"]
    assert data(life.authenticated("1.1", ROOM, at(1))) == {"socket_id": "1.1", "channel": ROOM}
    assert kinds(life.unsubscribed("2.2", left(LOUNGE, 1), ANNA, at(2))) == ["channel.unsubscribed"]
    assert life.unsubscribed("1.1", left(LOUNGE, member=ANNA), ANNA, at(2)) == ()
    assert life.closed("1.1", ENDING, at(2)) == ()
    assert kinds(life.subscribed("3.3", entered(LOUNGE, member=ANNA), ANNA, at(3)))[0] == "channel.occupied"


def test_what_is_no_longer_wanted_is_forgotten_without_a_word() -> None:
    life = lifecycle()
    opened = list(life.opened("1.1", FACTS, at(0)))
    opened += life.subscribed("1.1", entered(LOUNGE, member=ANNA), ANNA, at(0))
    opened += life.subscribed("1.1", entered(ROOM), None, at(0))
    opened += life.unsubscribed("1.1", left(ROOM), None, at(0))
    records = life.reconfigure(frozenset(), 3.0)
    assert kinds(records) == []
    assert sorted(key[1:] for key in spans(records)) == sorted(
        key[1:] for key in spans(opened) if key[0] == "opened" and key[2] != f"{ROOM}\n1.1"
    )
    assert {what for what, _, _ in spans(records)} == {"closed"}
    assert life.next_deadline() is None
    assert life.expire(at(99)) == ()
    assert life.reconfigure(EVERYTHING, 3.0) == ()
    assert life.unsubscribed("1.1", left(LOUNGE, member=ANNA), ANNA, at(100)) == ()
    assert life.closed("1.1", ENDING, at(100)) == ()


def test_a_shorter_linger_lets_no_member_outlive_its_channel() -> None:
    life = lifecycle(linger_s=60)
    life.subscribed("1.1", entered(LOUNGE, member=ANNA), ANNA, at(0))
    life.subscribed("2.2", entered(LOUNGE, 2, BEN), BEN, at(0))
    life.unsubscribed("1.1", left(LOUNGE, 1, ANNA), ANNA, at(1))
    life.reconfigure(EVERYTHING, 3)
    life.unsubscribed("2.2", left(LOUNGE, 0, BEN), BEN, at(2))
    expired = events(life.expire(at(5)))
    assert [(event.kind, event.data["user_id"]) for event in expired] == [
        ("channel.member_removed", "ben"),
        ("channel.member_removed", "anna"),
        ("channel.vacated", "ben"),
    ]
    assert life.next_deadline() is None


# -- after a crash


def left_behind(records: Sequence[Record]) -> dict[tuple[str, str], Span]:
    """What the outbox would hold after these records."""
    kept: dict[tuple[str, str], Span] = {}
    write(kept, records)
    return kept


def write(kept: dict[tuple[str, str], Span], records: Sequence[Record]) -> None:
    """Be an outbox, and a strict one: a span opens once, and departs or closes only while it is open."""
    for record in records:
        if isinstance(record, SpanOpened):
            key = (record.span.kind, record.span.key)
            assert key not in kept
            kept[key] = record.span
        elif isinstance(record, SpanDeparting):
            old = kept[record.kind, record.key]
            kept[record.kind, record.key] = Span(
                old.app_id, old.kind, old.key, old.id, old.opened_at_ms, old.facts, record.departs_at_ms
            )
        elif isinstance(record, SpanClosed):
            del kept[record.kind, record.key]


def crashed() -> tuple[dict[tuple[str, str], Span], list[LifecycleEvent]]:
    """A life that ends with two connections on two channels; what the outbox holds, and the ledger."""
    life = lifecycle()
    records = [
        *life.opened("1.1", FACTS, at(0)),
        *life.opened("2.2", {}, at(1)),
        *life.subscribed("1.1", entered(LOUNGE, member=ANNA), ANNA, at(2)),
        *life.subscribed("2.2", entered(LOUNGE, 2), ANNA, at(3)),
        *life.subscribed("2.2", entered(ROOM), None, at(4)),
    ]
    return left_behind(records), events(records)


def test_after_a_crash_the_books_are_closed() -> None:
    kept, ledger = crashed()
    life = Lifecycle("1001", Ids(2), wanted=EVERYTHING, linger_s=3)
    records = life.recover(kept.values(), at(100), 30.0)
    told = [(event.kind, event.data.get("channel"), event.data.get("socket_id")) for event in events(records)]
    assert told == [
        ("channel.unsubscribed", LOUNGE, "1.1"),
        ("channel.unsubscribed", LOUNGE, "2.2"),
        ("channel.unsubscribed", ROOM, "2.2"),
        ("connection.closed", None, "1.1"),
        ("connection.closed", None, "2.2"),
    ]
    assert [event.data["subscribers"] for event in events(records)[:3]] == [1, 0, 0]
    assert {event.data["reason"] for event in events(records)} == {"gateway_lost"}
    assert events(records)[0].data == {
        "channel": LOUNGE,
        "type": "presence",
        "cache": True,
        "socket_id": "1.1",
        "user_id": "anna",
        "subscribers": 1,
        "reason": "gateway_lost",
    }
    assert events(records)[3].data == {
        "socket_id": "1.1",
        "span": ledger[0].data["span"],
        **FACTS,
        "user_id": "anna",
        "code": 1006,
        "reason": "gateway_lost",
        "duration_ms": 100_000,
    }
    write(kept, records)
    assert {key: span.departs_at_ms for key, span in kept.items()} == {
        ("member", f"{LOUNGE}\nanna"): EPOCH + 130_000,
        ("channel", LOUNGE): EPOCH + 130_000,
        ("channel", ROOM): EPOCH + 130_000,
    }
    assert life.next_deadline() == 1130.0
    expired = life.expire(at(130))
    assert [(event.kind, event.data["channel"]) for event in events(expired)] == [
        ("channel.member_removed", LOUNGE),
        ("channel.vacated", LOUNGE),
        ("channel.vacated", ROOM),
    ]
    assert events(expired)[0].data == {
        "channel": LOUNGE,
        "type": "presence",
        "cache": True,
        "span": ledger[4].data["span"],
        "user_id": "anna",
        "subscribers": 0,
    }
    write(kept, expired)
    assert kept == {}


def test_whoever_reconnects_after_a_crash_goes_on_with_his_span() -> None:
    kept, ledger = crashed()
    life = Lifecycle("1001", Ids(2), wanted=EVERYTHING, linger_s=0)
    write(kept, life.recover(kept.values(), at(100), 30.0))
    records = life.subscribed("3.3", entered(LOUNGE, member=ANNA), ANNA, at(129))
    assert kinds(records) == ["channel.subscribed"]
    write(kept, records)
    assert [event.data["channel"] for event in events(life.expire(at(500)))] == [ROOM]
    removed, vacated = events(life.unsubscribed("3.3", left(LOUNGE, member=ANNA), ANNA, at(501)))[1:]
    assert (vacated.data["span"], removed.data["span"]) == (ledger[2].data["span"], ledger[4].data["span"])


def test_a_recovery_that_was_lost_itself_is_done_again() -> None:
    kept, _ = crashed()
    first = Lifecycle("1001", Ids(2), wanted=EVERYTHING, linger_s=3).recover(kept.values(), at(100), 30.0)
    second = Lifecycle("1001", Ids(2), wanted=EVERYTHING, linger_s=3).recover(list(reversed(kept.values())), at(100), 30.0)
    assert first == second


@pytest.mark.parametrize(
    ("departs_in_s", "linger_s", "recovery_linger_s", "expected_s"),
    [
        (2, 3, 30, 30),  # nobody could come back while there was nobody to come back to
        (50, 60, 30, 50),
        (-500, 60, 30, 30),
        (7200, 60, 30, 60),  # the wall clock was set back meanwhile
        (2, 3, 0, 2),
    ],
)
def test_a_pending_departure_keeps_its_time_within_reason(
    departs_in_s: float, linger_s: float, recovery_linger_s: float, expected_s: float
) -> None:
    span = Span("1001", "channel", ROOM, "spn_1", EPOCH, {}, EPOCH + round(departs_in_s * 1000))
    life = lifecycle(linger_s=linger_s)
    life.recover([span], at(0), recovery_linger_s)
    assert life.next_deadline() == 1000.0 + expected_s


def test_spans_that_nobody_wants_any_more_are_closed_silently() -> None:
    kept, _ = crashed()
    life = lifecycle({"message.published"})
    records = life.recover(kept.values(), at(100), 30.0)
    assert kinds(records) == []
    write(kept, records)
    assert kept == {}
    assert life.next_deadline() is None


def test_another_app_s_spans_are_left_alone() -> None:
    assert lifecycle().recover([Span("2002", "connection", "1.1", "spn_1", EPOCH)], at(0), 30.0) == ()


def test_a_user_id_may_hold_anything() -> None:
    odd = Member("a\nb ü")
    kept = left_behind(lifecycle().subscribed("1.1", entered(LOUNGE, member=odd), odd, at(0)))
    life = lifecycle()
    life.recover(kept.values(), at(1), 0.0)
    removed = events(life.expire(at(1)))[0]
    assert removed.data["user_id"] == "a\nb ü"


# -- random histories against a model

SOCKETS = ("1.1", "2.2")
CHANNELS = ("presence-p", "room")
MEMBERS = (ANNA, BEN)

# Each does something in any state, so that short histories get far.
toggle = st.tuples(st.just("toggle"), st.sampled_from(SOCKETS), st.sampled_from(CHANNELS), st.sampled_from(MEMBERS))
pass_ = st.tuples(st.just("pass"), st.sampled_from((0.1, 1.0, 2.9, 3.0, 10.0)))
operations = st.one_of(
    toggle,
    toggle,
    pass_,
    st.tuples(st.just("close"), st.sampled_from(SOCKETS)),
    st.tuples(st.just("crash"), st.sampled_from((0, 1, 2)), st.sampled_from((-3600.0, 0.0, 5.0))),
    st.tuples(st.just("linger"), st.sampled_from((0.0, 3.0, 20.0))),
)


class World:
    """Connections and a real roster on one side; the lifecycle, its ledger and an outbox on the other."""

    def __init__(self, linger_s: float) -> None:
        self.monotonic, self.epoch_ms = 1000.0, EPOCH
        self.linger_s = linger_s
        self.lives = 0
        self.outbox: dict[tuple[str, str], Span] = {}
        self.ledger: list[LifecycleEvent] = []
        #: when a channel or member was last there, and how long that may linger
        self.gone: dict[tuple[str, ...], float] = {}
        self.begin()

    def begin(self) -> None:
        self.lives += 1
        self.roster = Roster()
        self.connections: dict[str, dict[str, Member | None]] = {}
        self.life = Lifecycle("1001", Ids(self.lives), wanted=EVERYTHING, linger_s=self.linger_s)

    @property
    def now(self) -> Instant:
        return Instant(self.monotonic, self.epoch_ms)

    def record(self, records: Sequence[Record]) -> None:
        write(self.outbox, records)
        self.ledger += events(records)

    def do(self, operation: tuple[Any, ...]) -> None:
        match operation:
            case ("toggle", socket_id, channel, _) if channel in self.connections.get(socket_id, {}):
                self.leave(socket_id, channel)
            case ("toggle", socket_id, channel, member):
                if socket_id not in self.connections:
                    self.connections[socket_id] = {}
                    self.record(self.life.opened(socket_id, FACTS, self.now))
                member = member if channel.startswith("presence-") else None
                self.connections[socket_id][channel] = member
                self.record(self.life.subscribed(socket_id, self.roster.enter(channel, socket_id, member, 9), member, self.now))
            case ("close", socket_id) if socket_id in self.connections:
                for channel in list(self.connections[socket_id]):
                    self.leave(socket_id, channel)
                del self.connections[socket_id]
                self.record(self.life.closed(socket_id, ENDING, self.now))
            case ("pass", seconds):
                self.monotonic += seconds
                self.epoch_ms += round(seconds * 1000)
                self.record(self.life.expire(self.now))
            case ("crash", lost_recoveries, step_s):
                self.crash(lost_recoveries, step_s)
            case ("linger", linger_s):
                self.linger_s = linger_s
                self.record(self.life.reconfigure(EVERYTHING, linger_s))

    def leave(self, socket_id: str, channel: str) -> None:
        member = self.connections[socket_id].pop(channel)
        diff = self.roster.leave(channel, socket_id)
        self.record(self.life.unsubscribed(socket_id, diff, member, self.now))
        if diff.member_removed is not None:
            self.gone[channel, diff.member_removed.user_id] = self.monotonic + self.linger_s
        if diff.vacated:
            self.gone[channel,] = self.monotonic + self.linger_s

    def crash(self, lost_recoveries: int, step_s: float) -> None:
        """The process dies, and dies again so many times before its successor's first commit; the wall clock may have stepped."""
        self.monotonic = 50.0 * self.lives
        self.epoch_ms += round(step_s * 1000)
        for _ in range(lost_recoveries + 1):
            self.begin()
            records = self.life.recover(tuple(self.outbox.values()), self.now, 5.0)
        self.record(records)
        # Everything that is open lingers anew, at least for the recovery's time and at most for the longest there is.
        self.gone = {where: self.monotonic + max(5.0, self.linger_s) for where in self.open_stays()}

    def open_stays(self) -> set[tuple[str, ...]]:
        return {tuple(key.split("\n")) for kind, key in self.outbox if kind in ("channel", "member")}

    def check(self) -> None:
        """The ledger balances: read alone, it gives exactly what is there, and what lingers."""
        book = Book()
        for event in self.ledger:
            book.enter(event)
        assert book.connections.keys() == self.connections.keys()
        assert book.subscriptions == {(c, s) for s, channels in self.connections.items() for c in channels}
        there: set[tuple[str, ...]] = {(channel,) for channel, _, _ in self.roster.channels()}
        there |= {(channel, user_id) for channel, _, _ in self.roster.channels() for user_id in self.roster.members(channel)}
        assert book.stays.keys() == self.open_stays()
        assert there <= book.stays.keys()
        for where in book.stays.keys() - there:
            assert self.monotonic < self.gone[where]
            kind = "channel" if len(where) == 1 else "member"
            assert self.outbox[kind, "\n".join(where)].departs_at_ms is not None
        for where in there:
            assert self.outbox["channel" if len(where) == 1 else "member", "\n".join(where)].departs_at_ms is None
        for (kind, key), span in self.outbox.items():
            if kind != "subscription":
                assert span.id == (book.connections[key] if kind == "connection" else book.stays[tuple(key.split("\n"))])
        assert len({event.id for event in self.ledger}) == len(self.ledger)
        assert (self.life.next_deadline() is None) == (book.stays.keys() == there)


class Book:
    """What a receiver keeps, and refuses to believe."""

    def __init__(self) -> None:
        self.connections: dict[str, object] = {}
        self.subscriptions: set[tuple[str, str]] = set()
        self.stays: dict[tuple[str, ...], object] = {}
        self.spans_seen: set[object] = set()

    def enter(self, event: LifecycleEvent) -> None:
        told: Mapping[str, Any] = event.data
        channel, socket_id, span = told.get("channel", ""), told.get("socket_id", ""), told.get("span")
        match event.kind:
            case "connection.opened":
                self.begin(self.connections, socket_id, span)
            case "connection.closed":
                assert not [1 for _, subscriber in self.subscriptions if subscriber == socket_id]
                assert self.connections.pop(socket_id) == span
            case "channel.occupied":
                self.begin(self.stays, (channel,), span)
            case "channel.vacated":
                assert not [1 for where in self.stays if where[0] == channel and len(where) == 2]
                assert not [1 for subscribed, _ in self.subscriptions if subscribed == channel]
                assert self.stays.pop((channel,)) == span
            case "channel.member_added":
                assert (channel,) in self.stays
                self.begin(self.stays, (channel, told["user_id"]), span)
            case "channel.member_removed":
                assert self.stays.pop((channel, told["user_id"])) == span
            case "channel.subscribed":
                assert (channel,) in self.stays
                assert socket_id in self.connections
                assert (channel, socket_id) not in self.subscriptions
                self.subscriptions.add((channel, socket_id))
                assert told["subscribers"] == len([1 for subscribed, _ in self.subscriptions if subscribed == channel])
            case "channel.unsubscribed":
                self.subscriptions.remove((channel, socket_id))
                assert told["subscribers"] == len([1 for subscribed, _ in self.subscriptions if subscribed == channel])
            case _:
                raise AssertionError(event.kind)

    def begin(self, open_: dict[Any, object], key: object, span: object) -> None:
        assert key not in open_
        assert span not in self.spans_seen
        self.spans_seen.add(span)
        open_[key] = span


@given(st.lists(operations, min_size=10, max_size=30), st.sampled_from((0.0, 3.0)))
def test_the_ledger_balances_whatever_happens(history: list[tuple[Any, ...]], linger_s: float) -> None:
    world = World(linger_s)
    for operation in history:
        world.do(operation)
        world.check()
    for socket_id in SOCKETS:
        world.do(("close", socket_id))
    world.do(("pass", 40.0))
    world.check()
    assert world.outbox == {}
    assert world.life.next_deadline() is None


# -- what begins and ends nothing


def test_what_is_noticed_of_a_channel_is_told_if_somebody_wants_it() -> None:
    cycle = lifecycle(["channel.cache_miss"])
    (told,) = events(cycle.noticed("channel.cache_miss", LOUNGE, 2, {"socket_id": "1.2"}, at(0)))
    assert (told.kind, told.channel, told.subject) == ("channel.cache_miss", LOUNGE, f"1001/channel/{LOUNGE}")
    assert told.data == {"channel": LOUNGE, "type": "presence", "cache": True, "socket_id": "1.2", "subscribers": 2}
    assert cycle.noticed("channel.subscription_count", ROOM, 2, {}, at(0)) == ()
