"""The channel half of the vectors: names, signatures, frames in both directions, client events, presence."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from gateway.core import frame, ident
from gateway.core.app import App, Limits
from gateway.core.channel import is_legal, kind_of
from gateway.core.effect import Authenticated, AuthFailed, Publish, Rejected, Reply, SignIn, Subscribe
from gateway.core.frame import ClientEvent, ClientFrame, Ping, Pong, SubscribeRequest, UnsubscribeRequest, decode
from gateway.core.roster import Diff, Member, Roster
from gateway.core.session import Session

VECTORS: dict[str, Any] = json.loads((Path(__file__).parent / "vectors.json").read_text(encoding="utf-8"))
APP = App(id=VECTORS["apps"][0]["app_id"], key=VECTORS["apps"][0]["key"], secret=VECTORS["apps"][0]["secret"])
SOCKET_ID: str = VECTORS["socket_id"]
SENDER = Member("u-17")


def by_name(rows: list[dict[str, Any]]) -> list[Any]:
    return [pytest.param(row, id=row["name"]) for row in rows]


# -- names


@pytest.mark.parametrize("row", VECTORS["channel_names"], ids=lambda row: repr(row["channel"][:20]))
def test_channel_names(row: dict[str, Any]) -> None:
    name = row["channel"]
    assert is_legal(name, Limits().channel_name) == row["subscribe_name_ok"]
    if row["subscribe_name_ok"]:
        kind = kind_of(name)
        assert {"encrypted": "private-encrypted"}.get(kind.type, kind.type) == row["kind"]
        assert (kind.caches, kind.needs_auth, kind.allows_client_events) == (
            row["cache"],
            row["auth_required"],
            row["client_events_allowed"],
        )


@given(st.integers(0, 2**62 - 1))
def test_socket_ids_are_what_every_sdk_demands(chance: int) -> None:
    socket_id = ident.socket_id(chance)
    # Python writes \Z for the end of the text as the vectors do
    assert re.compile(VECTORS["socket_ids"]["regex"], re.ASCII).match(socket_id)
    assert all(int(part) < 2**63 for part in socket_id.split("."))


# -- signatures


def sign_in(session: Session, user_id: str) -> None:
    (frame,) = {
        row["signin_frame"] for row in VECTORS["user_auth"] if row["valid"] and row["user_data"] == f'{{"id":"{user_id}"}}'
    }
    (effect,) = session.receive(decode(frame), 0.0)
    assert isinstance(effect, SignIn)


@pytest.mark.parametrize("row", by_name(VECTORS["channel_auth"]))
def test_channel_auth(row: dict[str, Any]) -> None:
    assert row["socket_id"] == SOCKET_ID
    session = Session(APP, SOCKET_ID)
    if user_id := row.get("connection_signed_in_as"):
        sign_in(session, user_id)
    request = decode(row["subscribe_frame"])
    assert request == SubscribeRequest(row["channel"], row["auth"], row["channel_data"])
    effects = session.receive(request, 0.0)
    if row["valid"] or row.get("lenient_ok"):
        (subscribe,) = effects
        assert isinstance(subscribe, Subscribe)
        assert session.entered(row["channel"]) == (Authenticated(row["channel"]),)
        if row["channel"].startswith("presence-"):
            assert subscribe.member is not None
            assert subscribe.member.user_id == user_id or str(json.loads(row["channel_data"])["user_id"])
        else:
            assert subscribe.member is None
        return
    assert not session.channels
    assert [type(effect) for effect in effects[:2]] == [Reply, Reply]
    has_right_signature = row["auth"] == f"{APP.key}:{row['signature']}" and "another" not in row["reason"]
    failures = [effect for effect in effects if isinstance(effect, AuthFailed)]
    assert len(failures) == (0 if has_right_signature else 1)
    for failure in failures:
        if row["auth"].startswith(f"{APP.key}:"):
            assert row["string_to_sign"] in failure.reason
        assert APP.secret not in failure.reason


@pytest.mark.parametrize("row", by_name(VECTORS["user_auth"]))
def test_user_auth(row: dict[str, Any]) -> None:
    assert row["socket_id"] == SOCKET_ID
    session = Session(APP, SOCKET_ID)
    effects = session.receive(decode(row["signin_frame"]), 0.0)
    if row["valid"]:
        (effect,) = effects
        assert isinstance(effect, SignIn)
        assert effect.user.id == json.loads(row["user_data"])["id"]
        assert frame.signin_success(effect.user_data).decode() == row["success_frame_string_data"]
        return
    assert session.user is None
    assert isinstance(effects[0], Reply)
    has_right_signature = row["auth"] == f"{APP.key}:{row['signature']}"
    assert [type(effect) for effect in effects[1:]] == ([] if has_right_signature else [AuthFailed])
    for failure in effects[1:]:
        assert isinstance(failure, AuthFailed)
        assert row["string_to_sign"] in failure.reason
        assert APP.secret not in failure.reason


# -- frames


MEMBERS = {"u-17": Member("u-17", b'{"name":"Ada"}'), "u-18": Member("u-18")}
ENCODED: dict[str, Callable[[], bytes]] = {
    "connection_established": lambda: frame.established(SOCKET_ID, 120),
    "error, coded": lambda: frame.error(4004, "over quota"),
    "error, uncoded, mid connection": lambda: frame.error(None, "bad signature"),
    "pong": frame.pong,
    "subscription_succeeded": lambda: frame.subscription_succeeded("orders", None),
    "subscription_succeeded, presence": lambda: frame.subscription_succeeded("presence-room-7", MEMBERS),
    "subscription_error": lambda: frame.subscription_error("private-orders", "AuthError", "bad signature", 401),
    "member_added": lambda: frame.member_added("presence-room-7", Member("u-18", b'{"name":"Bo"}')),
    "member_removed": lambda: frame.member_removed("presence-room-7", "u-18"),
    "event": lambda: frame.message("order-created", "orders", '{"id":17}'),
    "event, text that is not JSON": lambda: frame.message("note", "orders", "plain text"),
    "client event, presence": lambda: frame.message("client-typing", "presence-room-7", '{"on":true}', "u-17"),
    "subscription_count": lambda: frame.subscription_count("orders", 3),
    "cache_miss": lambda: frame.cache_miss("cache-prices"),
    "client event refused": lambda: frame.error(4301, "rate limit"),
    "signin_success": lambda: frame.signin_success('{"id":"u-42"}'),
    "server to user": lambda: frame.message("note", "#server-to-user-u-42", '{"hi":1}'),
    "watchlist events": lambda: frame.watchlist_events(["u-17"], ["u-18"]),
    "watchlist truncated": lambda: frame.error(4302, "watchlist too long"),
}
#: frames of which the gateway has no encoder: it probes with protocol pings
NOT_SENT = {"ping"}


def test_no_server_frame_is_forgotten() -> None:
    assert {row["name"] for row in VECTORS["frames_server_to_client"]} == set(ENCODED) | NOT_SENT


@pytest.mark.parametrize("row", by_name([row for row in VECTORS["frames_server_to_client"] if row["name"] in ENCODED]))
def test_frames_server_to_client(row: dict[str, Any]) -> None:
    assert ENCODED[row["name"]]().decode() == row["frame"]


DECODED: dict[str, ClientFrame] = {
    "ping, pusher-js": Ping(),
    "ping, Java": Ping(),
    "ping, Pysher": Ping(),
    "pong, pusher-js": Pong(),
    "pong, Pysher": Pong(),
    "subscribe public, pusher-js": SubscribeRequest("orders", ""),
    "subscribe public, Java/Swift/Pysher": SubscribeRequest("orders"),
    "unsubscribe": UnsubscribeRequest("orders"),
    "client event, object data (pusher-js, Swift)": ClientEvent("client-typing", "private-orders", '{"on":true}'),
    "client event, string data (Java)": ClientEvent("client-typing", "private-orders", '{"on":true}'),
    "client event, scalar data": ClientEvent("client-n", "private-orders", "7"),
    "subscribe to own user channel, pusher-js": SubscribeRequest("#server-to-user-u-42", ""),
}


@pytest.mark.parametrize("row", by_name(VECTORS["frames_client_to_server"]))
def test_frames_client_to_server(row: dict[str, Any]) -> None:
    assert decode(row["frame"]) == DECODED[row["name"]]


# -- client events


def joined() -> Session:
    """Return a session that holds a private and a presence channel."""
    rows = {row["name"]: row for row in VECTORS["channel_auth"]}
    session = Session(APP, SOCKET_ID)
    for name in ("private", "presence, compact JSON"):
        session.receive(decode(rows[name]["subscribe_frame"]), 0.0)
    assert list(session.channels) == ["private-orders", "presence-room-7"]
    return session


@pytest.mark.parametrize("event", VECTORS["client_event_names"]["allowed"], ids=lambda event: event[:20])
def test_client_event_names_allowed(event: str) -> None:
    (effect,) = joined().receive(decode(json.dumps({"event": event, "channel": "private-orders", "data": {}})), 0.0)
    assert isinstance(effect, Publish)
    assert effect.publication.event == event


@pytest.mark.parametrize("event", VECTORS["client_event_names"]["refused"], ids=lambda event: event[:20])
def test_client_event_names_refused(event: str) -> None:
    effects = joined().receive(decode(json.dumps({"event": event, "channel": "private-orders", "data": {}})), 0.0)
    assert [type(effect) for effect in effects] in ([Reply], [Reply, Rejected])
    assert isinstance(effects[0], Reply)
    assert json.loads(effects[0].frame)["event"] == "pusher:error"


@pytest.mark.parametrize("row", VECTORS["client_event_relay"], ids=lambda row: row["from_frame"][:40])
def test_client_event_relay(row: dict[str, Any]) -> None:
    (effect,) = joined().receive(decode(row["from_frame"]), 0.0)
    assert isinstance(effect, Publish)
    publication = effect.publication
    assert publication.user_id == row.get("sender_user_id")
    assert publication.except_socket_id == SOCKET_ID
    relayed = frame.message(publication.event, publication.channels[0], publication.data, publication.user_id)
    assert relayed.decode() == row["to_others"]


# -- presence


class Room:
    """Plays the vectors' presence sequence on a roster, and writes down what each connection gets."""

    def __init__(self, channel: str) -> None:
        self.channel = channel
        self.roster = Roster()
        self.here: list[str] = []
        self.got: dict[str, list[str]] = {}

    def play(self, do: str) -> dict[str, list[str]]:
        self.got = {}
        for part in do.split(" and "):
            name = do.split()[0] + ("'" if part.startswith("subscribes again") else "")
            if "subscribes" in part and "unsubscribes" not in part:
                self.enter(name)
            else:
                self.leave(name)
        return self.got

    def enter(self, name: str) -> None:
        member = Member("u-17" if name.startswith("A") else "u-18")
        diff = self.roster.enter(self.channel, name, member, 100)
        assert diff.members is not None
        self.got[name] = [f"subscription_succeeded ids=[{','.join(diff.members)}] count={len(diff.members)}"]
        self.tell(diff)
        self.here.append(name)

    def leave(self, name: str) -> None:
        self.here.remove(name)
        self.tell(self.roster.leave(self.channel, name))

    def tell(self, diff: Diff) -> None:
        for name in self.here:
            if diff.member_added is not None:
                self.got.setdefault(name, []).append(f"member_added {diff.member_added.user_id}")
            if diff.member_removed is not None:
                self.got.setdefault(name, []).append(f"member_removed {diff.member_removed.user_id}")


def test_presence_sequence() -> None:
    sequence = VECTORS["presence_sequence"]
    room = Room(sequence["channel"])
    for step in sequence["steps"]:
        expected = {name: frames for name, frames in step["frames"].items() if frames}
        assert room.play(step["do"]) == expected, step["do"]
    assert list(room.roster.channels()) == []
