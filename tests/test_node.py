"""The node, over the real core, a real recorder and an outbox that keeps what it is given; only the sockets are fakes."""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import itertools
from collections.abc import AsyncIterator, Callable
from dataclasses import replace

import orjson
import pytest

from gateway.backplane.local import LocalBroker, LocalTracker
from gateway.core.app import App, Limits
from gateway.core.error import RequestError
from gateway.core.ident import Ids
from gateway.core.lifecycle import LifecycleEvent, Span, SpanOpened
from gateway.core.newcomer import Newcomers
from gateway.core.publication import Publication
from gateway.core.webhook import Endpoint, Router
from gateway.node import Handshake, Live, Node
from gateway.ports import Commit
from gateway.recorder import Recorder
from gateway.telemetry import Telemetry
from tests.fake import FakeClock, FakeConnection

APP = App("1001", "key", "secret", linger_s=0.0)
HANDSHAKE = Handshake("key", "7", "js", "8.6.0", None, "test/1", "203.0.113.9")


class KeepingOutbox:
    def __init__(self) -> None:
        self.commits: list[Commit] = []
        self.full = False

    async def append(self, commit: Commit) -> None:
        self.commits.append(commit)

    def is_full(self, app_id: str) -> bool:
        return self.full


class House:
    """A node and what stands around it."""

    def __init__(self, app: App = APP, events: tuple[str, ...] = ("*",), newcomers: Newcomers | None = None) -> None:
        self.clock = FakeClock()
        self.outbox = KeepingOutbox()
        self.deferred: list[Callable[[], None]] = []
        self.telemetry = Telemetry()
        endpoints = [Endpoint(app.id, "backend", "http://127.0.0.1:9/", ("s",), events=events)] if events else []
        self.recorder = Recorder(
            outbox=self.outbox,  # type: ignore[arg-type]
            router=Router(endpoints, "gw-1", {}),
            telemetry=self.telemetry,
            wake=lambda lanes: None,
            capacity=1000,
            ids=Ids(8),
            clock=self.clock,
        )
        self.node = Node(
            apps=[app],
            ids=Ids(7),
            broker=LocalBroker(),
            tracker=LocalTracker(),
            recorder=self.recorder,
            clock=self.clock,
            telemetry=self.telemetry,
            chance=itertools.count(1).__next__,
            defer=self.deferred.append,
            activity_timeout_s=120,
            newcomers=newcomers,
        )

    def connect(self, handshake: Handshake = HANDSHAKE) -> tuple[Live, FakeConnection]:
        connection = FakeConnection()
        live = self.node.open(handshake, connection)
        assert live is not None, connection.frames()
        connection.frames()
        return live, connection

    def say(self, live: Live, event: str, data: object, channel: str | None = None) -> None:
        frame = {"event": event, "data": data} | ({} if channel is None else {"channel": channel})
        self.node.receive(live, orjson.dumps(frame).decode())

    def join(self, live: Live, channel: str, user_id: str | None = None) -> None:
        data = {"channel": channel}
        signed = f"{live.socket_id}:{channel}"
        if user_id is not None:
            data["channel_data"] = orjson.dumps({"user_id": user_id}).decode()
            signed += ":" + data["channel_data"]
        data["auth"] = "key:" + hmac.new(b"secret", signed.encode(), hashlib.sha256).hexdigest()
        self.say(live, "pusher:subscribe", data)

    def sweep(self) -> None:
        while self.deferred:
            self.deferred.pop(0)()

    async def events(self) -> list[LifecycleEvent]:
        """Return, and forget, what was recorded since the last call."""
        await self.recorder.committed()
        commits, self.outbox.commits = self.outbox.commits, []
        return [record for commit in commits for record in commit.records if isinstance(record, LifecycleEvent)]

    async def kinds(self) -> list[str]:
        return [event.kind for event in await self.events()]


@pytest.fixture
async def house() -> AsyncIterator[House]:
    async for house in furnished():
        yield house


async def furnished(app: App = APP, events: tuple[str, ...] = ("*",)) -> AsyncIterator[House]:
    house = House(app, events)
    await house.recorder.start()
    house.node.started()
    yield house
    await house.recorder.stop(1)


async def test_a_life(house: House) -> None:
    live, connection = house.connect()
    house.join(live, "presence-room", "u-1")
    assert [frame["event"] for frame in connection.frames()] == ["pusher_internal:subscription_succeeded"]
    house.clock.move(2)
    house.node.lost(live, 1000, "client")
    house.sweep()
    events = await house.events()
    assert [event.kind for event in events] == [
        "connection.opened",
        "connection.authenticated",
        "channel.occupied",
        "channel.subscribed",
        "channel.member_added",
        "channel.unsubscribed",
        "channel.member_removed",
        "channel.vacated",
        "connection.closed",
    ]
    opened, closed = events[0].data, events[-1].data
    assert opened["remote_ip"] == "203.0.113.9"
    assert opened["client"] == "js/8.6.0"
    assert closed["span"] == opened["span"]
    assert (closed["code"], closed["reason"], closed["duration_ms"]) == (1000, "client", 2000)
    assert events[2].data["span"] == events[-2].data["span"]


async def test_refusals_come_as_error_frame_then_close_and_leave_no_trace() -> None:
    limited = replace(APP, limits=Limits(connections=1), allowed_origins=("good.example",))
    async for house in furnished(limited):
        house.connect()
        for handshake, code in (
            (replace(HANDSHAKE, protocol=None), 4008),
            (replace(HANDSHAKE, protocol="3"), 4007),
            (replace(HANDSHAKE, protocol="7.0"), 4007),
            (replace(HANDSHAKE, protocol="²"), 4007),
            (replace(HANDSHAKE, protocol="9" * 5000), 4007),
            (replace(HANDSHAKE, key="KEY"), 4001),
            (replace(HANDSHAKE, origin="https://bad.example"), 4009),
            (replace(HANDSHAKE, origin="https://good.example"), 4100),
        ):
            connection = FakeConnection()
            assert house.node.open(handshake, connection) is None
            (frame,) = connection.frames()
            assert frame["event"] == "pusher:error"
            assert frame["data"]["code"] == code
            assert connection.closed is not None
            assert connection.closed[0] == code
        assert await house.kinds() == ["connection.opened"]


async def test_a_disabled_app_and_a_hard_limit_have_their_own_codes() -> None:
    for app, code in (
        (replace(APP, enabled=False), 4003),
        (replace(APP, needs_tls=True), 4000),
        (replace(APP, limits=Limits(connections=1), hard_connection_limit=True), 4004),
    ):
        async for house in furnished(app):
            assert house.node.open(replace(HANDSHAKE, is_secure=True), FakeConnection()) is None or app.enabled
            connections = [FakeConnection(), FakeConnection()]
            for connection in connections:
                house.node.open(HANDSHAKE, connection)
            assert connections[1].closed is not None
            assert connections[1].closed[0] == code


async def test_a_place_is_free_again_once_its_connection_has_ended() -> None:
    async for house in furnished(replace(APP, limits=Limits(connections=1))):
        for _ in range(3):
            live, _ = house.connect()
            assert house.node.open(HANDSHAKE, FakeConnection()) is None
            house.node.lost(live, 1006, "connection_lost")


async def test_a_publication_reaches_every_subscriber_but_the_one_left_out(house: House) -> None:
    lives = [house.connect() for _ in range(3)]
    for live, connection in lives:
        house.say(live, "pusher:subscribe", {"channel": "orders"})
        connection.frames()
    await house.events()
    durable = house.node.publish([Publication("1001", "e", ("orders", "empty"), '{"a":1}', lives[0][0].socket_id)])
    assert [connection.frames() for _, connection in lives] == [
        [],
        [{"event": "e", "channel": "orders", "data": '{"a":1}'}],
        [{"event": "e", "channel": "orders", "data": '{"a":1}'}],
    ]
    assert durable is not None
    await durable
    events = await house.events()
    assert [(event.kind, event.channel, event.data["recipients"]) for event in events] == [
        ("message.published", "orders", 2),
        ("message.published", "empty", 0),
    ]


async def test_leaving_out_a_socket_that_is_not_there_leaves_out_nobody(house: House) -> None:
    live, connection = house.connect()
    house.say(live, "pusher:subscribe", {"channel": "orders"})
    connection.frames()
    house.node.publish([Publication("1001", "e", ("orders",), "x", "9.9")])
    assert len(connection.frames()) == 1


async def test_a_client_event_goes_to_the_others_with_the_true_user(house: House) -> None:
    (ada, to_ada), (bob, to_bob) = house.connect(), house.connect()
    house.join(ada, "presence-room", "ada")
    house.join(bob, "presence-room", "bob")
    to_ada.frames(), to_bob.frames()
    house.say(ada, "client-hi", {"n": 1}, "presence-room")
    assert to_ada.frames() == []
    assert to_bob.frames() == [{"event": "client-hi", "channel": "presence-room", "data": '{"n":1}', "user_id": "ada"}]
    (event,) = [event for event in await house.events() if event.kind == "client_event"]
    assert event.data["user_id"] == "ada"
    assert event.data["recipients"] == 1
    assert event.name == "client-hi"


async def test_member_frames_go_to_the_others_once_per_user(house: House) -> None:
    (first, to_first), (second, _), (watcher, to_watcher) = house.connect(), house.connect(), house.connect()
    house.join(watcher, "presence-room", "w")
    to_watcher.frames()
    house.join(first, "presence-room", "u")
    house.join(second, "presence-room", "u")
    assert [frame["event"] for frame in to_watcher.frames()] == ["pusher_internal:member_added"]
    to_first.frames()
    house.node.lost(first, 1006, "connection_lost")
    house.sweep()
    assert to_watcher.frames() == []
    house.say(second, "pusher:unsubscribe", {"channel": "presence-room"})
    (removed,) = to_watcher.frames()
    assert removed == {
        "event": "pusher_internal:member_removed",
        "channel": "presence-room",
        "data": '{"user_id":"u"}',
    }


async def test_a_full_presence_channel_refuses_and_forgets() -> None:
    async for house in furnished(replace(APP, limits=Limits(presence_members=1))):
        (ada, _), (bob, to_bob) = house.connect(), house.connect()
        house.join(ada, "presence-room", "ada")
        house.join(bob, "presence-room", "bob")
        assert [frame["event"] for frame in to_bob.frames()] == ["pusher:error", "pusher:subscription_error"]
        house.say(ada, "pusher:unsubscribe", {"channel": "presence-room"})
        house.join(bob, "presence-room", "bob")
        assert [frame["event"] for frame in to_bob.frames()] == ["pusher_internal:subscription_succeeded"]


async def test_what_was_refused_has_not_authenticated() -> None:
    async for house in furnished(replace(APP, limits=Limits(presence_members=1))):
        (ada, _), (bob, _) = house.connect(), house.connect()
        house.join(ada, "presence-room", "ada")
        await house.events()
        house.join(bob, "presence-room", "bob")
        house.outbox.full = True
        house.join(bob, "private-c")
        assert await house.kinds() == []
        assert not bob.session.authenticated
        house.outbox.full = False
        house.join(bob, "private-c")
        assert (await house.kinds())[0] == "connection.authenticated"


async def test_nobody_listening_costs_nothing() -> None:
    async for house in furnished(events=()):
        live, _ = house.connect()
        house.join(live, "presence-room", "ada")
        assert house.node.publish([Publication("1001", "e", ("presence-room",), "x")]) is None
        house.node.lost(live, 1000, "client")
        house.sweep()
        assert house.recorder.queued == 0
        house.outbox.full = True
        house.connect()


async def test_a_full_queue_and_a_full_outbox_are_told_apart(house: House) -> None:
    for _ in range(1000):
        house.node.publish([Publication("1001", "e", ("orders",), "x")])
    assert house.node.why_not_ready() == ["the event queue is full for app 1001"]
    await house.events()
    assert house.node.why_not_ready() == []


async def test_without_room_work_is_refused_and_what_happens_anyway_is_recorded(house: House) -> None:
    (ada, to_ada), (bob, to_bob) = house.connect(), house.connect()
    house.join(ada, "private-c")
    house.join(bob, "private-c")
    to_ada.frames(), to_bob.frames()
    await house.events()
    house.outbox.full = True
    with pytest.raises(RequestError) as refused:
        house.node.publish([Publication("1001", "e", ("private-c",), "x")])
    assert (refused.value.status, refused.value.reason) == (503, "overloaded")
    newcomer = FakeConnection()
    assert house.node.open(HANDSHAKE, newcomer) is None
    assert newcomer.closed is not None
    assert newcomer.closed[0] == 4100
    house.say(ada, "client-x", {}, "private-c")
    assert [frame["event"] for frame in to_ada.frames()] == ["pusher:error"]
    assert to_bob.frames() == []
    house.say(bob, "pusher:subscribe", {"channel": "orders"})
    assert [frame["event"] for frame in to_bob.frames()] == ["pusher:error", "pusher:subscription_error"]
    for _ in range(5):
        house.say(bob, "pusher:subscribe", {"channel": "private-d", "auth": "key:wrong"})
    assert house.node.why_not_ready() == ["the outbox is full, or cannot be written, for app 1001"]
    house.node.lost(ada, 1006, "connection_lost")
    house.sweep()
    kinds = await house.kinds()
    assert kinds == ["channel.unsubscribed", "connection.closed"], "what must happen is recorded, what was refused is counted"
    house.outbox.full = False
    assert house.node.why_not_ready() == []
    house.say(bob, "pusher:subscribe", {"channel": "private-d", "auth": "key:wrong"})
    house.say(bob, "pusher:subscribe", {"channel": "orders"})
    events = await house.events()
    assert [(event.kind, event.data.get("repeats")) for event in events] == [
        ("connection.auth_failed", 5),
        ("channel.occupied", None),
        ("channel.subscribed", None),
    ]


async def test_a_kick_says_why_and_takes_precedence(house: House) -> None:
    live, connection = house.connect()
    house.node.kick(live, 4201, "no pong came", "ping_timeout")
    house.node.kick(live, 4200, "again", "shutdown")
    (frame,) = connection.frames()
    assert frame["data"]["code"] == 4201
    assert connection.closed == (4201, "no pong came")
    house.say(live, "pusher:subscribe", {"channel": "orders"})
    house.node.lost(live, 1006, "connection_lost")
    house.sweep()
    events = await house.events()
    assert [event.kind for event in events] == ["connection.opened", "connection.closed"]
    assert (events[1].data["code"], events[1].data["reason"]) == (4201, "ping_timeout")


async def test_linger_lets_a_reload_pass_unnoticed() -> None:
    async for house in furnished(replace(APP, linger_s=3.0)):
        live, _ = house.connect()
        house.join(live, "presence-room", "ada")
        await house.events()
        house.node.lost(live, 1001, "client")
        house.sweep()
        house.clock.move(2.9)
        house.node.tick()
        back, _ = house.connect()
        house.join(back, "presence-room", "ada")
        house.clock.move(10)
        house.node.tick()
        assert await house.kinds() == [
            "channel.unsubscribed",
            "connection.closed",
            "connection.opened",
            "connection.authenticated",
            "channel.subscribed",
        ]
        house.node.lost(back, 1001, "client")
        house.sweep()
        house.clock.move(3.1)
        house.node.tick()
        assert (await house.kinds())[-2:] == ["channel.member_removed", "channel.vacated"]


async def test_shutdown_spreads_and_refuses_and_closes_the_books() -> None:
    async for house in furnished(replace(APP, linger_s=3.0)):
        lives = [house.connect() for _ in range(5)]
        for live, _ in lives:
            house.say(live, "pusher:subscribe", {"channel": "orders"})
        await house.events()
        draining = asyncio.create_task(house.node.drain(0.0))
        await asyncio.sleep(0)
        assert house.node.why_not_ready() == ["shutting down"]
        newcomer = FakeConnection()
        assert house.node.open(HANDSHAKE, newcomer) is None
        assert newcomer.closed is not None
        assert newcomer.closed[0] == 4100
        for live, connection in lives:
            assert connection.closed is not None
            assert connection.closed[0] == 4200
            assert not draining.done()
            house.node.lost(live, 4200, "server")
        await draining
        house.node.settle_departures(at_once=True)
        kinds = await house.kinds()
        assert kinds == ["channel.unsubscribed", "connection.closed"] * 5 + ["channel.vacated"]


async def test_a_mass_departure_is_worked_off_in_slices(house: House) -> None:
    lives = [house.connect()[0] for _ in range(50)]
    for live in lives:
        house.say(live, "pusher:subscribe", {"channel": "orders"})
    await house.events()
    for live in lives:
        house.node.lost(live, 1006, "connection_lost")
    assert len(house.deferred) == 1, "one sweep, however many have gone"
    sharp = house.clock.monotonic

    def slow() -> float:
        house.clock.now += 0.003
        return sharp()

    house.clock.monotonic = slow  # type: ignore[method-assign]
    turns = 0
    while house.deferred:
        house.deferred.pop(0)()
        turns += 1
    assert turns > 10
    kinds = await house.kinds()
    assert kinds.count("connection.closed") == 50
    assert kinds.count("channel.vacated") == 1


async def test_a_former_life_is_closed_before_anybody_comes() -> None:
    house = House()
    await house.recorder.start()
    newcomer = FakeConnection()
    assert house.node.open(HANDSHAKE, newcomer) is None, "not ready yet"
    spans = []
    first = House()
    await first.recorder.start()
    first.node.started()
    live, _ = first.connect()
    first.join(live, "presence-room", "ada")
    await first.recorder.committed()
    for commit in first.outbox.commits:
        spans += [record.span for record in commit.records if isinstance(record, SpanOpened)]
    await first.recorder.stop(1)
    house.node.recover(spans, 30.0)
    house.node.started()
    events = await house.events()
    assert [event.kind for event in events] == ["channel.unsubscribed", "connection.closed"]
    assert events[1].data["reason"] == "gateway_lost"
    back, _ = house.connect()
    house.join(back, "presence-room", "ada")
    house.clock.move(60)
    house.node.tick()
    assert "channel.occupied" not in await house.kinds()
    await house.recorder.stop(1)


async def test_what_is_open_of_an_app_that_is_not_in_the_file_is_closed_once_it_is_there_again() -> None:
    house = House()
    await house.recorder.start()
    left = [Span("2002", "connection", "1.1", "spn_1", 1), Span("2002", "channel", "orders", "spn_2", 1)]
    assert house.node.recover([*left, Span("1001", "connection", "2.2", "spn_3", 1)], 30.0) == len(left)
    house.node.started()
    assert [event.app_id for event in await house.events()] == ["1001"]
    apps = [APP, App("2002", "second", "s")]
    house.recorder.router = Router([Endpoint(app.id, "all", "http://127.0.0.1:9/", ("s",)) for app in apps], "n", {})
    house.node.adopt(apps)
    house.node.adopt(apps)
    (closed,) = await house.events()
    assert (closed.app_id, closed.kind, closed.data["reason"]) == ("2002", "connection.closed", "gateway_lost")
    house.clock.move(31)
    house.node.tick()
    assert await house.kinds() == ["channel.vacated"]
    await house.recorder.stop(1)


async def test_an_app_that_publishes_or_asks_too_fast_is_told_so() -> None:
    async for house in furnished(replace(APP, limits=Limits(publishes=2, batch=2, reads=1))):
        publication = Publication("1001", "e", ("orders",), "x")
        house.node.publish([publication, publication])
        with pytest.raises(RequestError) as refused:
            house.node.publish([publication])
        assert (refused.value.status, refused.value.reason) == (429, "rate_limited")
        house.node.admit_read("1001")
        with pytest.raises(RequestError) as refused:
            house.node.admit_read("1001")
        assert refused.value.status == 429
        house.clock.move(1)
        house.node.publish([publication])
        house.node.admit_read("1001")


async def test_a_batch_that_is_refused_for_its_rate_costs_nothing_and_the_largest_can_pass() -> None:
    async for house in furnished(replace(APP, limits=Limits(publishes=1, batch=3))):
        publication = Publication("1001", "e", ("orders",), "x")
        house.node.publish([publication] * 3)
        for _ in range(3):
            house.clock.move(0.9)
            with pytest.raises(RequestError):
                house.node.publish([publication] * 3)
        house.clock.move(0.3)
        house.node.publish([publication] * 3)


async def test_apps_come_change_and_go() -> None:
    async for house in furnished(replace(APP, linger_s=60.0)):
        live, connection = house.connect()
        house.say(live, "pusher:subscribe", {"channel": "orders"})
        await house.events()
        house.node.adopt([replace(APP, client_events=False, linger_s=60.0), App("2002", "second", "s")])
        assert live.session.app.client_events is False
        other, _ = house.connect(replace(HANDSHAKE, key="second"))
        house.node.lost(other, 1000, "client")
        connection.frames()
        leaving = asyncio.create_task(house.node.dismiss(["1001"]))
        await asyncio.sleep(0)
        (frame,) = connection.frames()
        assert frame["data"]["code"] == 4001
        house.node.lost(live, 4001, "server")
        await leaving
        assert await house.kinds() == ["channel.unsubscribed", "connection.closed", "channel.vacated"]
        assert house.node.app("1001") is None
        with pytest.raises(RequestError):
            house.node.publish([Publication("1001", "e", ("orders",), "x")])
        house.node.reject("1001", "invalid_data", None, None, 0)
        assert house.node.open(HANDSHAKE, FakeConnection()) is None


async def test_a_disabled_app_sends_its_connections_home(house: House) -> None:
    live, connection = house.connect()
    house.node.adopt([replace(APP, enabled=False)])
    (frame,) = connection.frames()
    assert frame["data"]["code"] == 4003
    house.node.lost(live, 4003, "server")
    house.sweep()
    assert (await house.events())[-1].data["reason"] == "app_disabled"


async def test_an_address_that_brings_too_many_is_told_to_come_back_later() -> None:
    house = House(newcomers=Newcomers(1, 2))
    house.node.started()
    for _ in range(2):
        house.connect()
    refused = FakeConnection()
    assert house.node.open(HANDSHAKE, refused) is None
    assert refused.frames()[0]["data"]["code"] == 4100
    assert refused.closed is not None
    assert refused.closed[0] == 4100
    assert house.telemetry.connections_refused == {4100: 1}
    house.connect(replace(HANDSHAKE, remote_ip="192.0.2.77"))
    house.clock.move(1)
    house.connect()
