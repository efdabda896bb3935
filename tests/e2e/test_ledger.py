"""The checker itself: it accepts a ledger that balances, and names each way in which one can fail to."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from tests.e2e import ledger

Event = tuple[str, dict[str, Any]]
OPENED: Event = ("connection.opened", {"socket_id": "1.1", "span": "c1"})
CLOSED: Event = ("connection.closed", {"socket_id": "1.1", "span": "c1"})
OCCUPIED: Event = ("channel.occupied", {"channel": "presence-a", "socket_id": "1.1", "span": "o1", "subscribers": 1})
VACATED: Event = ("channel.vacated", {"channel": "presence-a", "span": "o1", "subscribers": 0})
ADDED: Event = ("channel.member_added", {"channel": "presence-a", "socket_id": "1.1", "user_id": "u", "span": "m1"})
REMOVED: Event = ("channel.member_removed", {"channel": "presence-a", "user_id": "u", "span": "m1"})
JOINED: Event = ("channel.subscribed", {"channel": "presence-a", "socket_id": "1.1", "user_id": "u", "subscribers": 1})
LEFT: Event = ("channel.unsubscribed", {"channel": "presence-a", "socket_id": "1.1", "user_id": "u", "subscribers": 0})
SAID: Event = ("client_event", {"channel": "presence-a", "socket_id": "1.1", "event": "client-x"})
#: one connection that joins, speaks, leaves and goes
LIFE = [OPENED, OCCUPIED, ADDED, JOINED, SAID, LEFT, REMOVED, VACATED, CLOSED]


def envelopes(*events: Event) -> list[dict[str, Any]]:
    return [
        {"id": f"evt_{number}", "event": kind, "data": copy.deepcopy(data), "metadata": {"webhook_id": "w", "sequence": number}}
        for number, (kind, data) in enumerate(events, 1)
    ]


def without(*left_out: Event) -> list[Event]:
    return [event for event in LIFE if event not in left_out]


def changed(event: Event, **data: object) -> Event:
    return event[0], {**event[1], **data}


def test_a_ledger_that_balances() -> None:
    assert ledger.check(envelopes(*LIFE)) == []


def test_departures_may_linger_beyond_the_connection() -> None:
    assert ledger.check(envelopes(*without(REMOVED, VACATED), REMOVED, VACATED)) == []


def test_channels_may_overtake_each_other() -> None:
    other = changed(OCCUPIED, channel="b", span="o2")
    gone = changed(VACATED, channel="b", span="o2")
    first, *rest = envelopes(OPENED, other, *LIFE[1:], gone)
    assert ledger.check([first, *rest[1:8], rest[0], *rest[8:]]) == []


def test_repeats_under_their_own_id_are_harmless() -> None:
    arrived = envelopes(*LIFE)
    assert ledger.check([arrived[0], *arrived, arrived[3], arrived[0]]) == []


@pytest.mark.parametrize(
    ("events", "sentence"),
    [
        (without(OPENED), "connection 1.1 is not open"),
        (without(CLOSED), "connection 1.1 is still open at the end"),
        ([OPENED, *LIFE], "connection 1.1 is open already"),
        ([*LIFE, CLOSED], "connection 1.1 is not open"),
        ([*LIFE, changed(OPENED, span="c2"), changed(CLOSED, span="c2")], "connection 1.1 has ended before"),
        ([*without(CLOSED), changed(CLOSED, span="c9")], "was opened as span c1, and closed as c9"),
        ([*without(SAID), SAID], "connection 1.1 is not open"),
        ([OPENED, *without(OPENED, LEFT, CLOSED), CLOSED], "1.1 is still subscribed to presence-a"),
        (without(OCCUPIED), "channel presence-a is not open"),
        (without(VACATED), "channel presence-a is still open at the end"),
        ([OPENED, OCCUPIED, *LIFE[1:]], "channel presence-a is open already"),
        ([*LIFE, VACATED], "channel presence-a is not open"),
        ([*without(VACATED, CLOSED), changed(VACATED, span="o9"), CLOSED], "was opened as span o1, and closed as o9"),
        ([OPENED, ADDED, JOINED, OCCUPIED, LEFT, REMOVED, VACATED, CLOSED], "presence-a is not occupied"),
        ([OPENED, OCCUPIED, ADDED, JOINED, VACATED, LEFT, REMOVED, CLOSED], "presence-a still has subscribers"),
        ([OPENED, OCCUPIED, ADDED, JOINED, LEFT, VACATED, REMOVED, CLOSED], "presence-a still has members"),
        (without(ADDED), "member u of presence-a is not open"),
        (without(REMOVED), "member u of presence-a is still open at the end"),
        ([*LIFE[:3], ADDED, *LIFE[3:]], "member u of presence-a is open already"),
        ([OPENED, OCCUPIED, ADDED, JOINED, REMOVED, LEFT, VACATED, CLOSED], "u is still subscribed to presence-a"),
        ([*LIFE[:6], changed(REMOVED, span="m9"), *LIFE[7:]], "was opened as span m1, and closed as m9"),
        ([*LIFE[:4], changed(JOINED, subscribers=1), *LIFE[4:]], "1.1 is subscribed to presence-a already"),
        (without(JOINED), "1.1 is not subscribed to presence-a"),
        ([*LIFE[:3], changed(JOINED, subscribers=2), *LIFE[4:]], "says 2 subscribers of presence-a, there are 1"),
        ([*LIFE[:8], OCCUPIED, VACATED, CLOSED], "span o1 was used before"),
    ],
)
def test_what_does_not_balance_is_named(events: list[Event], sentence: str) -> None:
    assert sentence in "\n".join(ledger.check(envelopes(*events)))


def test_what_is_open_is_in_order_while_somebody_is_there() -> None:
    assert ledger.check(envelopes(OPENED, OCCUPIED, ADDED, JOINED), ended=False) == []


def test_a_subscription_left_open_is_named() -> None:
    assert "1.1 is still subscribed to presence-a at the end" in ledger.check(envelopes(OPENED, OCCUPIED, JOINED))


def test_a_hole_in_the_sequence_is_named() -> None:
    arrived = envelopes(*LIFE)
    del arrived[4]
    assert ledger.check(arrived) == ["sequences 5 to 5 are missing"]


def test_a_sequence_must_begin_with_one() -> None:
    assert "sequences 1 to 1 are missing" in ledger.check(envelopes(SAID, *LIFE)[1:])


def test_a_sequence_given_twice_is_named() -> None:
    arrived = envelopes(*LIFE)
    arrived.insert(5, {**arrived[4], "id": "evt_other"})
    assert ledger.check(arrived) == ["sequence 5 was given twice, the second time to evt_other"]


def test_a_repeat_that_was_changed_is_named() -> None:
    arrived = envelopes(*LIFE)
    arrived.append({**arrived[4], "timestamp": "later"})
    assert ledger.check(arrived) == ["evt_5 came with two different envelopes"]


def test_an_inversion_within_a_subject_is_named() -> None:
    arrived = envelopes(*LIFE)
    arrived[3], arrived[5] = arrived[5], arrived[3]
    assert "channel presence-a: sequence 5 (client_event) arrived after sequence 6" in ledger.check(arrived)


def test_an_event_without_channel_or_socket_belongs_to_the_endpoint() -> None:
    assert ledger.subject(envelopes(("webhook.test", {}))[0]) == "endpoint"
