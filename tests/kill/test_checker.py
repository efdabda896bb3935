"""The judge itself: a small true story, and every way of telling it wrongly."""

from __future__ import annotations

from copy import deepcopy
from typing import Any

import pytest

from tests.kill.checker import check
from tests.kill.filter import Filter
from tests.kill.history import Arrival, Envelope, Heard, History, Join, Life, Publish, SignIn, Snapshot, Visit

ENDPOINTS = {"all": Filter(), "news": Filter(events=("message.*",), include_payload=False)}

STORY: list[tuple[str, dict[str, Any]]] = [
    ("connection.opened", {"socket_id": "1.1", "span": "s1", "client": "kill/1"}),
    ("channel.occupied", {"channel": "private-a", "socket_id": "1.1", "span": "s2"}),
    ("channel.subscribed", {"channel": "private-a", "socket_id": "1.1", "subscribers": 1}),
    ("message.published", {"channel": "private-a", "event": "news-1", "data": "{}"}),
    ("client_event", {"channel": "private-a", "event": "client-1", "socket_id": "1.1", "data": "{}"}),
    ("message.published", {"channel": "private-a", "event": "news-2", "data": "{}"}),
    ("channel.unsubscribed", {"channel": "private-a", "socket_id": "1.1", "subscribers": 0}),
    ("connection.authenticated", {"socket_id": "1.1", "signin": True, "user_id": "n-1"}),
    ("connection.closed", {"socket_id": "1.1", "span": "s1", "client": "kill/1", "user_id": "n-1", "reason": "gateway_lost"}),
    ("channel.vacated", {"channel": "private-a", "socket_id": "1.1", "span": "s2"}),
]


class Told:
    """The story as everybody tells it; a test changes one thing and asks the judge."""

    def __init__(self) -> None:
        visit = Visit(1, 1, "1.1", established_at=1.0, joins=[Join("private-a", None, 2.0)], spoken={"client-1": "private-a"})
        visit.sign_ins.append(SignIn("n-1", 2.5))
        self.visit = visit
        self.publishes = [Publish(f"news-{number}", 0, ("private-a",), "{}", 1, 4.0 + number, 200, True) for number in (1, 2)]
        self.history = History(
            [Life(1, "killed", 10.0), Life(2, "clean", 20.0)],
            {1: visit},
            {publish.name: publish for publish in self.publishes},
            [Heard("client-1", "private-a", 1, 3.0)],
        )
        self.arrivals: dict[str, list[Arrival]] = {}
        self.dead: dict[str, list[Envelope]] = {}
        self.tell(STORY)

    def tell(self, story: list[tuple[str, dict[str, Any]]]) -> None:
        """Let both endpoints get this."""
        envelopes: list[dict[str, Any]] = [
            {"id": f"e{number}", "event": kind, "timestamp": "t", "data": data, "metadata": {"sequence": number}}
            for number, (kind, data) in enumerate(deepcopy(story), 1)
        ]
        self.arrivals["all"] = [Arrival(envelope, 5.0, 5.0, 1, told=True) for envelope in envelopes]
        news = [deepcopy(envelope) for envelope in envelopes if envelope["event"].startswith("message.")]
        for number, envelope in enumerate(news, 1):
            envelope["metadata"]["sequence"] = number
            del envelope["data"]["data"]
        self.arrivals["news"] = [Arrival(envelope, 5.0, 5.0, 1, told=True) for envelope in news]

        self.history.feed = [
            {name: value for name, value in envelope.items() if name != "metadata"} | {"cursor": 10 * number}
            for number, envelope in enumerate(envelopes, 1)
        ]

    def verdict(self) -> str:
        return "\n".join(check(self.history, ENDPOINTS, self.arrivals, self.dead))


@pytest.fixture
def told() -> Told:
    return Told()


def test_the_true_story(told: Told) -> None:
    assert told.verdict() == ""


@pytest.mark.parametrize("left_out", range(len(STORY)))
def test_whatever_is_left_out_is_missed(told: Told, left_out: int) -> None:
    told.tell(STORY[:left_out] + STORY[left_out + 1 :])
    assert told.verdict() != ""


@pytest.mark.parametrize("twice", range(len(STORY)))
def test_whatever_is_told_twice_is_noticed(told: Told, twice: int) -> None:
    told.tell(STORY[: twice + 1] + STORY[twice:])
    assert told.verdict() != ""


def test_what_nobody_has_seen_before_the_last_acknowledgement_may_be_missing_as_a_whole(told: Told) -> None:
    told.visit.established_at = 7.0
    told.visit.joins[0].confirmed_at = told.visit.sign_ins[0].confirmed_at = 8.0
    told.history.heard[0].at = 9.0
    told.tell([STORY[3], STORY[5]])
    assert told.verdict() == ""


def test_an_unanswered_publish_may_be_missing_and_may_not(told: Told) -> None:
    told.publishes[1].status = None
    told.tell(STORY[:5] + STORY[6:])
    assert told.verdict() == ""
    told.tell(STORY)
    assert told.verdict() == ""


def test_an_ordered_end_forgets_nothing(told: Told) -> None:
    told.history.visits[2] = Visit(2, 2, "2.2", established_at=19.0)
    assert "connection 2.2 of life 2 (visit 2) is missing" in told.verdict()


def test_an_ordered_end_loses_nobody(told: Told) -> None:
    told.visit.life = 2
    assert "did not lose it" in told.verdict()


def test_strangers(told: Told) -> None:
    told.visit.number, told.history.visits = 3, {3: told.visit}
    assert "no client opened this connection" in told.verdict()


@pytest.mark.parametrize("kind", ["webhook.events_dropped", "channel.moved"])
def test_kinds_that_must_not_come(told: Told, kind: str) -> None:
    told.tell([*STORY, (kind, {"channel": "private-a"})])
    assert "this must not happen here" in told.verdict()


def test_wishes_nobody_had(told: Told) -> None:
    told.visit.joins[0].channel = "private-b"
    told.publishes[0].channels = ("private-b",)
    told.visit.spoken = {}
    verdict = told.verdict()
    assert "nobody asked for that" in verdict
    assert "nobody published that" in verdict
    assert "nobody said that" in verdict


def test_whose_connection_it_was(told: Told) -> None:
    told.visit.sign_ins[0].user_id = "n-2"
    assert "nobody signed in like that" in told.verdict()
    told.visit.sign_ins[0].user_id = "n-1"
    kind, data = STORY[8]
    told.tell([*STORY[:8], (kind, {name: value for name, value in data.items() if name != "user_id"}), STORY[9]])
    assert "n-1 was signed in there" in told.verdict()


def test_an_author_keeps_his_order(told: Told) -> None:
    told.tell([STORY[place] for place in (0, 1, 2, 5, 4, 3, 6, 7, 8, 9)])
    assert "before others that stand before it" in told.verdict()


def test_a_repeat_where_the_answer_can_have_been_missed(told: Told) -> None:
    first = told.arrivals["all"][0]
    first.at = 9.5
    told.arrivals["all"].append(Arrival(first.envelope, 12.0, 12.0, 2, told=True))
    assert told.verdict() == ""
    first.life, first.told = 2, False
    assert told.verdict() == ""


def test_a_repeat_of_what_was_answered(told: Told) -> None:
    first = told.arrivals["all"][0]
    told.arrivals["all"].append(Arrival(first.envelope, 12.0, 12.0, 2, told=True))
    assert "although it was answered 5.0 s before" in told.verdict()
    first.life = 2
    assert "in the same life" in told.verdict()


def test_a_repeat_while_the_test_stood_still_tells_nothing(told: Told) -> None:
    first = told.arrivals["all"][0]
    told.arrivals["all"].append(Arrival(first.envelope, 12.0, 12.0, 2, told=True))
    told.history.stalls = [(5.5, 9.0)]
    assert told.verdict() == ""
    told.history.stalls = [(5.5, 8.0)]
    assert "although it was answered 2.5 s before" in told.verdict()
    first.life = 2
    assert told.verdict() == ""
    told.history.stalls = [(1.0, 3.0), (7.0, 8.0)]
    assert "in the same life" in told.verdict()


def test_a_first_request_that_is_accepted_after_the_second(told: Told) -> None:
    first = told.arrivals["all"][0]
    told.arrivals["all"].append(Arrival(first.envelope, 4.0, 6.0, 1, told=False))
    assert told.verdict() == ""


def test_a_repeat_with_other_words(told: Told) -> None:
    first = deepcopy(told.arrivals["all"][0])
    first.told = False
    told.arrivals["all"][0].told = False
    first.envelope["data"]["reason"] = "another"
    told.arrivals["all"].append(first)
    assert "two different envelopes" in told.verdict()


def test_dead_letters_fill_their_places(told: Told) -> None:
    told.dead["all"] = [told.arrivals["all"].pop(4).envelope]
    assert told.verdict() == ""


def test_endpoints_agree(told: Told) -> None:
    told.arrivals["news"].pop()
    assert "news: has not got 6 message.published" in told.verdict()
    told.tell(STORY)
    told.arrivals["news"][0].envelope["data"]["event"] = "news-7"
    assert "other contents" in told.verdict()
    told.tell(STORY)
    one, other = told.arrivals["news"]
    one.envelope["metadata"]["sequence"], other.envelope["metadata"]["sequence"] = 2, 1
    assert "another order than elsewhere" in told.verdict()


def test_what_is_polled_is_what_is_delivered(told: Told) -> None:
    left_out = told.history.feed.pop(3)
    assert "the feed has not got e4" in told.verdict()
    told.history.feed.append(left_out)
    assert "cursor does not grow" in told.verdict()
    told.tell(STORY)
    told.history.feed[3] = {**told.history.feed[3], "timestamp": "later"}
    assert "in another way" in told.verdict()
    told.tell(STORY)
    told.history.feed.append({**told.history.feed[3], "id": "e99", "cursor": 999})
    assert "only the feed" in told.verdict()


def test_snapshots_are_carried_on_by_events(told: Told) -> None:
    spans = {("connection", "1.1"): "s1", ("channel", "private-a"): "s2"}
    told.history.snapshots = [
        Snapshot(0, {}),
        Snapshot(35, {**spans, ("subscription", "private-a 1.1"): None}),
        Snapshot(70, spans),
        Snapshot(100, {}),
    ]
    assert told.verdict() == ""
    told.history.snapshots[2] = Snapshot(60, spans)
    assert "the snapshot at 60 has not" in told.verdict()
