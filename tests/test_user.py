"""Users on a node, over the real core and recorder."""

from __future__ import annotations

import hashlib
import hmac
from collections.abc import AsyncIterator
from dataclasses import replace

import orjson
import pytest

from gateway.core.app import App, Limits
from gateway.core.publication import Publication
from gateway.node import Live
from tests.fake import FakeConnection
from tests.test_node import APP, House, furnished


def sign_in(house: House, live: Live, user_id: str = "ada", **more: object) -> None:
    user_data = orjson.dumps({"id": user_id, **more}).decode()
    signed = f"{live.socket_id}::user::{user_data}"
    auth = "key:" + hmac.new(b"secret", signed.encode(), hashlib.sha256).hexdigest()
    house.say(live, "pusher:signin", {"auth": auth, "user_data": user_data})


def signed_in(house: House, user_id: str = "ada", **more: object) -> tuple[Live, FakeConnection]:
    live, connection = house.connect()
    sign_in(house, live, user_id, **more)
    assert connection.frames()[0]["event"] == "pusher:signin_success"
    return live, connection


def watching(house: House, *user_ids: str) -> FakeConnection:
    """Return the connection of somebody who watches these users, and has been told who of them is there."""
    return signed_in(house, "watcher", watchlist=list(user_ids))[1]


def tick(house: House, seconds: float = 0.05) -> None:
    house.clock.move(seconds)
    house.node.tick()
    house.sweep()


def news(connection: FakeConnection) -> list[tuple[str, list[str]]]:
    """Return, and forget, what the connection was told of its watchlist; it must have been told nothing else."""
    found: list[tuple[str, list[str]]] = []
    for frame in connection.frames():
        assert frame.keys() == {"event", "data"}
        assert frame["event"] == "pusher_internal:watchlist_events"
        found += [(event["name"], event["user_ids"]) for event in orjson.loads(frame["data"])["events"]]
    return found


def leave(house: House, live: Live) -> None:
    house.node.lost(live, 1006, "connection_lost")
    house.sweep()


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async for house in furnished():
        yield house


@pytest.fixture
async def lingering() -> AsyncIterator[House]:
    async for house in furnished(replace(APP, linger_s=3.0)):
        yield house


# -- signing in


async def test_a_sign_in_is_answered_and_told(house: House) -> None:
    live, connection = house.connect()
    sign_in(house, live, user_info={"name": "Ada"})
    (answer,) = connection.frames()
    assert answer == {
        "event": "pusher:signin_success",
        "data": '{"user_data":"{\\"id\\":\\"ada\\",\\"user_info\\":{\\"name\\":\\"Ada\\"}}"}',
    }
    leave(house, live)
    events = await house.events()
    assert [event.kind for event in events] == ["connection.opened", "connection.authenticated", "connection.closed"]
    assert events[1].data["signin"] is True
    assert [event.data.get("user_id") for event in events] == [None, "ada", "ada"]
    assert await house.node.tracker.channels("1001") == {}


async def test_a_refused_sign_in_leaves_the_connection_as_it_is(house: House) -> None:
    live, connection = house.connect()
    house.say(live, "pusher:signin", {"auth": "key:wrong", "user_data": '{"id":"ada"}'})
    (error,) = connection.frames()
    assert error["event"] == "pusher:error"
    assert error["data"]["code"] is None
    assert connection.closed is None
    events = await house.events()
    assert (events[1].kind, events[1].data["signin"]) == ("connection.auth_failed", True)
    sign_in(house, live)
    assert connection.frames()[0]["event"] == "pusher:signin_success"


async def test_without_room_nobody_signs_in(house: House) -> None:
    live, connection = house.connect()
    await house.events()
    house.outbox.full = True
    sign_in(house, live)
    (error,) = connection.frames()
    assert error["event"] == "pusher:error"
    assert "queue is full" in error["data"]["message"]
    assert await house.kinds() == []
    assert not house.node._tenants["1001"].hub.subscribers("#server-to-user-ada")
    house.outbox.full = False
    sign_in(house, live, "bob")
    assert connection.frames()[0]["event"] == "pusher:signin_success"


async def test_every_sign_in_is_told_and_the_same_user_counts_once(house: House) -> None:
    live, connection = signed_in(house)
    sign_in(house, live)
    sign_in(house, live, "bob")
    assert [frame["event"] for frame in connection.frames()] == ["pusher:signin_success", "pusher:error"]
    kinds = await house.kinds()
    assert kinds == ["connection.opened", "connection.authenticated", "connection.authenticated"]
    house.node.publish([Publication("1001", "note", ("#server-to-user-ada", "#server-to-user-bob"), "1")])
    assert len(connection.frames()) == 1


# -- what is sent to a user


async def test_what_is_sent_to_a_user_reaches_each_of_his_connections_and_no_webhook(house: House) -> None:
    (first, to_first), (_, to_second), (_, to_other) = signed_in(house), signed_in(house), signed_in(house, "bob")
    await house.events()
    note = Publication("1001", "note", ("#server-to-user-ada",), '{"hi":1}')
    expected = {"event": "note", "channel": "#server-to-user-ada", "data": '{"hi":1}'}
    assert house.node.publish([note]) is None, "nothing to record"
    assert (to_first.frames(), to_second.frames(), to_other.frames()) == ([expected], [expected], [])
    house.say(first, "pusher:subscribe", {"channel": "#server-to-user-ada", "auth": ""})
    assert [frame["event"] for frame in to_first.frames()] == ["pusher_internal:subscription_succeeded"]
    house.node.publish([note])
    assert (to_first.frames(), to_second.frames()) == ([expected], [expected]), "once, asked for or not"
    leave(house, first)
    house.node.publish([note])
    assert (to_first.frames(), to_second.frames()) == ([], [expected])
    assert await house.kinds() == ["connection.closed"]


async def test_a_presence_channel_knows_who_has_signed_in(house: House) -> None:
    live, connection = signed_in(house, user_info={"name": "Ada"})
    house.join(live, "presence-room")
    (succeeded,) = connection.frames()
    assert orjson.loads(succeeded["data"])["presence"]["hash"] == {"ada": {"name": "Ada"}}
    assert "channel.member_added" in await house.kinds()


# -- watchlists


async def test_a_watcher_is_told_the_present_state_and_then_each_change(house: House) -> None:
    ada, _ = signed_in(house)
    watcher = watching(house, "ada", "bob")
    # the frame with the present state came behind the answer, in the same go
    live, connection = house.connect()
    sign_in(house, live, "other", watchlist=["bob", "ada"])
    answer, state = connection.frames()
    assert answer["event"] == "pusher:signin_success"
    assert orjson.loads(state["data"]) == {
        "events": [{"name": "online", "user_ids": ["ada"]}, {"name": "offline", "user_ids": ["bob"]}]
    }
    signed_in(house, "bob")
    signed_in(house, "cid")
    assert news(watcher) == [], "with the next tick"
    tick(house)
    assert news(watcher) == news(connection) == [("online", ["bob"])]
    leave(house, ada)
    tick(house)
    assert news(watcher) == [("offline", ["ada"])]


async def test_a_newcomer_is_told_what_is_true_and_not_what_was_told_last(house: House) -> None:
    watcher = watching(house, "ada", "bob")
    signed_in(house)
    live, connection = house.connect()
    sign_in(house, live, "bob", watchlist=["bob", "ada"])
    connection.offered.pop(0)
    assert news(connection) == [("online", ["bob", "ada"])]
    assert sorted(news(watcher)) == [("online", ["ada"]), ("online", ["bob"])]
    live, connection = house.connect()
    sign_in(house, live, "other", watchlist=["bob", "ada"])
    connection.offered.pop(0)
    assert news(connection) == [("online", ["bob", "ada"])]
    tick(house)
    assert news(watcher) == news(connection) == []


async def test_who_has_several_connections_is_online_until_the_last_has_gone(house: House) -> None:
    watcher = watching(house, "ada")
    (first, _), (second, _) = signed_in(house), signed_in(house)
    tick(house)
    assert news(watcher) == [("online", ["ada"])]
    leave(house, first)
    tick(house)
    assert news(watcher) == []
    leave(house, second)
    tick(house)
    assert news(watcher) == [("offline", ["ada"])]


async def test_a_reload_of_the_page_is_no_news(lingering: House) -> None:
    house = lingering
    ada, _ = signed_in(house)
    watcher = watching(house, "ada")
    for _ in range(5):
        leave(house, ada)
        tick(house, 2.9)
        ada, _ = signed_in(house)
        tick(house, 2.9)
    leave(house, ada)
    tick(house, 2.9)
    assert news(watcher) == []
    tick(house, 0.1)
    assert news(watcher) == [("offline", ["ada"])]


async def test_a_popular_user_who_flickers_costs_a_frame_a_tick_at_most(house: House) -> None:
    watchers = [watching(house, "ada") for _ in range(20)]
    for connection in watchers:
        connection.frames()
    for _ in range(100):
        leave(house, signed_in(house)[0])
    signed_in(house)
    tick(house)
    assert [news(connection) for connection in watchers] == [[("online", ["ada"])]] * 20


async def test_a_change_is_encoded_once_for_all_watchers(house: House) -> None:
    watchers = [watching(house, "ada") for _ in range(20)]
    signed_in(house)
    tick(house)
    assert len({id(connection.offered[-1]) for connection in watchers}) == 1


async def test_a_list_that_is_too_long_is_cut_and_said_to_be() -> None:
    async for house in furnished(replace(APP, limits=Limits(watchlist=2))):
        live, connection = house.connect()
        sign_in(house, live, "watcher", watchlist=["a", "b", "c"])
        answer, error, state = connection.frames()
        assert answer["event"] == "pusher:signin_success"
        assert error["data"]["code"] == 4302
        assert orjson.loads(state["data"]) == {"events": [{"name": "offline", "user_ids": ["a", "b"]}]}
        signed_in(house, "c")
        tick(house)
        assert connection.frames() == []


async def test_signing_in_again_replaces_the_watchlist(house: House) -> None:
    live, connection = house.connect()
    sign_in(house, live, "watcher", watchlist=["ada", "bob"])
    sign_in(house, live, "watcher", watchlist=["bob"])
    connection.frames()
    signed_in(house)
    tick(house)
    assert news(connection) == []
    signed_in(house, "bob")
    tick(house)
    assert news(connection) == [("online", ["bob"])]


async def test_nothing_is_left_of_a_watcher_who_has_gone(house: House) -> None:
    live, connection = house.connect()
    sign_in(house, live, "watcher", watchlist=["ada"])
    connection.frames()
    signed_in(house)
    leave(house, live)
    tick(house)
    assert connection.frames() == []
    tenant = live.tenant
    assert not tenant.watchlists.is_watched("ada")
    assert not tenant.hub.subscribers("#server-to-user-watcher")


async def test_one_may_watch_oneself(house: House) -> None:
    live, connection = house.connect()
    sign_in(house, live, "ada", watchlist=["ada"])
    connection.frames()
    tick(house)
    assert connection.frames() == []


# -- terminating


async def test_terminating_a_user_closes_exactly_the_connections_signed_in_as_him(house: House) -> None:
    (first, to_first), (second, to_second), (_, to_other) = signed_in(house), signed_in(house), signed_in(house, "bob")
    present, to_present = house.connect()
    house.join(present, "presence-room", "ada")
    to_present.frames()
    await house.events()
    house.node.users.terminate("1001", "ada")
    for connection in (to_first, to_second):
        (error,) = connection.frames()
        assert (error["event"], error["data"]["code"]) == ("pusher:error", 4009)
        assert connection.closed is not None
        assert connection.closed[0] == 4009
    assert to_other.closed is None
    assert to_present.closed is None
    for unknown in ("ada", "nobody", "a/b", "", "😀", "x" * 10_000):
        house.node.users.terminate("1001", unknown)
    house.node.users.terminate("no-such-app", "ada")
    _, back = signed_in(house)
    assert back.closed is None
    for live in (first, second):
        house.node.lost(live, 1000, "client")
    house.sweep()
    closed = [event.data for event in await house.events() if event.kind == "connection.closed"]
    assert [(data["code"], data["reason"], data["user_id"]) for data in closed] == [(4009, "terminated", "ada")] * 2


# -- authorised connections


GUARDED = replace(APP, authorised_connections=True, authorisation_timeout_s=5.0)


async def test_who_does_not_prove_himself_in_time_is_sent_away() -> None:
    async for house in furnished(GUARDED):
        names = ("idle", "public", "signed in", "private", "presence", "wrong sign-in", "wrong auth", "gone")
        there = {name: house.connect() for name in names}
        house.say(there["public"][0], "pusher:subscribe", {"channel": "orders"})
        house.say(there["wrong sign-in"][0], "pusher:signin", {"auth": "key:x", "user_data": '{"id":"u"}'})
        house.say(there["wrong auth"][0], "pusher:subscribe", {"channel": "private-a", "auth": "key:x"})
        leave(house, there.pop("gone")[0])
        tick(house, 4.9)
        house.join(there["private"][0], "private-a")
        house.join(there["presence"][0], "presence-a", "u")
        sign_in(house, there["signed in"][0])
        house.say(there["idle"][0], "pusher:ping", {})
        tick(house, 0.1)
        closed = {name: connection.closed and connection.closed[0] for name, (_, connection) in there.items()}
        sent_away = ("idle", "public", "wrong sign-in", "wrong auth")
        assert closed == {name: 4009 if name in sent_away else None for name in there}
        error = there["idle"][1].frames()[-1]
        assert error["data"]["code"] == 4009
        assert "within 5 seconds" in error["data"]["message"]
        tick(house, 100)
        assert there["private"][1].closed is None
        leave(house, there["idle"][0])
        assert (await house.events())[-1].data["reason"] == "unauthorised"


async def test_a_full_queue_or_channel_proves_nothing() -> None:
    async for house in furnished(replace(GUARDED, limits=Limits(presence_members=1))):
        house.join(house.connect()[0], "presence-a", "first")
        late, connection = house.connect()
        house.join(late, "presence-a", "second")
        tick(house, 5.0)
        assert connection.closed is not None


async def test_a_reload_puts_those_on_probation_who_have_proved_nothing(house: House) -> None:
    (_, idle), (member, known) = house.connect(), house.connect()
    house.join(member, "private-a")
    _, user = signed_in(house)
    house.clock.move(1000)
    house.node.adopt([GUARDED])
    tick(house, 4.9)
    assert idle.closed is None
    tick(house, 0.1)
    assert [connection.closed is not None for connection in (idle, known, user)] == [True, False, False]
    _, newcomer = house.connect()
    house.node.adopt([APP])
    tick(house, 100)
    assert newcomer.closed is None


async def test_a_crowd_is_sent_away_in_pieces() -> None:
    async for house in furnished(GUARDED, events=()):
        crowd = [house.connect()[1] for _ in range(450)]
        house.clock.move(5)
        counts = []
        for _ in range(3):
            house.node.tick()
            counts.append(sum(connection.closed is not None for connection in crowd))
        assert counts == [200, 400, 450]


async def test_users_of_two_apps_do_not_meet() -> None:
    async for house in furnished():
        house.node.adopt([App("2002", "second", "secret")])
        watcher = watching(house, "ada")
        house.node.users.terminate("2002", "watcher")
        assert watcher.closed is None
