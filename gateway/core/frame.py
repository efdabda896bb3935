"""The wire codec: a client's text becomes a typed frame, and what the server says becomes bytes.

Every server frame's `data` is a string that holds JSON text, but for `pusher:error`, whose `data` is an object: clients of
several languages accept nothing else (Pusher protocol: general form of frames). No member is ever null that can be left out.
"""

from __future__ import annotations

import struct
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any

import orjson

from gateway.core.roster import Member
from gateway.core.value import value

#: what `data` holds where there is nothing to say
_EMPTY_OBJECT = "{}"

# -- what clients say


@value
class Ping:
    """`pusher:ping`, whatever its data."""


@value
class Pong:
    """`pusher:pong`, whatever its data."""


@value
class SubscribeRequest:
    """`pusher:subscribe`; `channel_data` is the text exactly as it came, since signatures cover it. None: not there."""

    channel: str
    auth: str | None = None
    channel_data: str | None = None


@value
class UnsubscribeRequest:
    """`pusher:unsubscribe`."""

    channel: str


@value
class SignInRequest:
    """`pusher:signin`; `user_data` is the text exactly as it came, since signatures cover it."""

    auth: str | None
    user_data: str


@value
class ClientEvent:
    """An event whose name begins with `client-`; `data` is the text to relay."""

    event: str
    channel: str
    data: str


@value
class Unknown:
    """A well-formed frame whose event means nothing here."""

    event: str


@value
class BadFrame:
    """Something that cannot be a frame; `sentence` names the place.

    `counts`: not even a JSON object with an event, so no client library wrote it; a connection may send few of these.
    """

    sentence: str
    counts: bool = False
    #: of what was meant for a client event: its channel, if it names one, its name, and the `message.rejected` reason
    event: tuple[str | None, str, str] | None = None


ClientFrame = Ping | Pong | SubscribeRequest | UnsubscribeRequest | SignInRequest | ClientEvent | Unknown | BadFrame

_PING = Ping()
_PONG = Pong()


def decode(text: str) -> ClientFrame:
    """Return what a client's text message means; never raises, whatever the text.

    All strings of the result are valid Unicode without lone surrogates, so they can be encoded wherever they go.
    """
    try:
        frame = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        return BadFrame(f"a frame must be JSON: {error}", counts=True)
    if not isinstance(frame, dict):
        return BadFrame("a frame must be a JSON object", counts=True)
    event = frame.get("event")
    if not isinstance(event, str):
        return BadFrame("event must be a string", counts=True)
    if event.startswith("client-"):
        return _client_event(event, frame)
    reader = _READERS.get(event)
    return Unknown(event) if reader is None else reader(frame)


def _client_event(event: str, frame: dict[str, Any]) -> ClientFrame:
    channel = frame.get("channel")
    if not isinstance(channel, str):
        return BadFrame("channel of a client event must be a string", event=(None, event, "invalid_channel"))
    data = frame.get("data", _EMPTY_OBJECT)
    if isinstance(data, str):
        return ClientEvent(event, channel, data)
    try:
        return ClientEvent(event, channel, orjson.dumps(data).decode())
    except orjson.JSONEncodeError:
        # orjson reads JSON that is nested more deeply than it writes
        return BadFrame("data of a client event is nested too deeply", event=(channel, event, "invalid_data"))


def _ping(_frame: dict[str, Any]) -> ClientFrame:
    return _PING


def _pong(_frame: dict[str, Any]) -> ClientFrame:
    return _PONG


def _subscribe(frame: dict[str, Any]) -> ClientFrame:
    data = _object(frame.get("data"))
    if data is None:
        return BadFrame("data of pusher:subscribe must be an object")
    channel, auth, channel_data = data.get("channel"), data.get("auth"), data.get("channel_data")
    if not isinstance(channel, str):
        return BadFrame("data.channel of pusher:subscribe must be a string")
    if auth is not None and not isinstance(auth, str):
        return BadFrame("data.auth of pusher:subscribe must be a string")
    if channel_data is not None and not isinstance(channel_data, str):
        return BadFrame("data.channel_data of pusher:subscribe must be a string that holds JSON")
    return SubscribeRequest(channel, auth, channel_data)


def _unsubscribe(frame: dict[str, Any]) -> ClientFrame:
    data = _object(frame.get("data"))
    if data is None:
        return BadFrame("data of pusher:unsubscribe must be an object")
    channel = data.get("channel")
    if not isinstance(channel, str):
        return BadFrame("data.channel of pusher:unsubscribe must be a string")
    return UnsubscribeRequest(channel)


def _sign_in(frame: dict[str, Any]) -> ClientFrame:
    data = _object(frame.get("data"))
    if data is None:
        return BadFrame("data of pusher:signin must be an object")
    auth, user_data = data.get("auth"), data.get("user_data")
    if auth is not None and not isinstance(auth, str):
        return BadFrame("data.auth of pusher:signin must be a string")
    if not isinstance(user_data, str):
        return BadFrame("data.user_data of pusher:signin must be a string that holds JSON")
    return SignInRequest(auth, user_data)


def _object(data: object) -> dict[str, Any] | None:
    """Return the object, also where it comes as a string that holds it: some hand-written clients send it so."""
    if isinstance(data, str):
        try:
            data = orjson.loads(data)
        except orjson.JSONDecodeError:
            return None
    return data if isinstance(data, dict) else None


_READERS: dict[str, Callable[[dict[str, Any]], ClientFrame]] = {
    "pusher:ping": _ping,
    "pusher:pong": _pong,
    "pusher:subscribe": _subscribe,
    "pusher:unsubscribe": _unsubscribe,
    "pusher:signin": _sign_in,
}

# -- what the server says

_PING_FRAME = b'{"event":"pusher:ping","data":"{}"}'
_PONG_FRAME = b'{"event":"pusher:pong","data":"{}"}'


def established(socket_id: str, activity_timeout_s: int) -> bytes:
    """Return the first frame of every connection; a socket id is made of digits and a dot, so it needs no escaping."""
    before, behind = _established(activity_timeout_s)
    return before + socket_id.encode() + behind


@lru_cache(maxsize=8)
def _established(activity_timeout_s: int) -> tuple[bytes, bytes]:
    """Return the frame's halves, between which the socket id goes."""
    data = orjson.dumps({"socket_id": "?", "activity_timeout": activity_timeout_s})
    before, _, behind = orjson.dumps({"event": "pusher:connection_established", "data": data.decode()}).partition(b"?")
    return before, behind


def error(code: int | None, sentence: str) -> bytes:
    """Return an error frame; code None is for an open connection only, pusher-js cannot take it as a first frame."""
    return orjson.dumps({"event": "pusher:error", "data": {"code": code, "message": sentence}})


def ping() -> bytes:
    """Return what asks a client for a sign of life whose library does not answer the pings of WebSocket by itself."""
    return _PING_FRAME


def pong() -> bytes:
    """Return the answer to a `pusher:ping`; it has no channel, or Pysher would not know it."""
    return _PONG_FRAME


def subscription_succeeded(channel: str, members: Mapping[str, Member] | None) -> bytes:
    """Return the answer to a subscription; `members` (the joiner among them) on presence channels, else None."""
    if members is None:
        return message("pusher_internal:subscription_succeeded", channel, _EMPTY_OBJECT)
    presence = {
        "ids": list(members),
        "hash": {user_id: orjson.Fragment(member.info) for user_id, member in members.items()},
        "count": len(members),
    }
    data = orjson.dumps({"presence": presence})
    return message("pusher_internal:subscription_succeeded", channel, data.decode())


def subscription_error(channel: str, type: str, error: str, status: int) -> bytes:
    """Return the frame that tells a channel's owner that the subscription failed."""
    data = orjson.dumps({"type": type, "error": error, "status": status})
    return message("pusher:subscription_error", channel, data.decode())


def member_added(channel: str, member: Member) -> bytes:
    """Return the news that a user has come, for all other subscribers."""
    data = orjson.dumps({"user_id": member.user_id, "user_info": orjson.Fragment(member.info)})
    return message("pusher_internal:member_added", channel, data.decode())


def member_removed(channel: str, user_id: str) -> bytes:
    """Return the news that a user has gone."""
    return message("pusher_internal:member_removed", channel, orjson.dumps({"user_id": user_id}).decode())


def cache_miss(channel: str) -> bytes:
    """Return the news for one subscriber that a cache channel has nothing for him."""
    return message("pusher:cache_miss", channel, _EMPTY_OBJECT)


def subscription_count(channel: str, subscribers: int) -> bytes:
    """Return the news, for all subscribers, of how many they are."""
    data = orjson.dumps({"subscription_count": subscribers})
    return message("pusher_internal:subscription_count", channel, data.decode())


def signin_success(user_data: str) -> bytes:
    """Return the answer to a sign-in, with `user_data` byte for byte as it came."""
    return _frame("pusher:signin_success", {"user_data": user_data})


def watchlist_events(online: Sequence[str], offline: Sequence[str]) -> bytes:
    """Return the news of a watchlist: who is online, and who is not; an empty half is left out."""
    halves = (("online", online), ("offline", offline))
    events = [{"name": name, "user_ids": user_ids} for name, user_ids in halves if user_ids]
    return _frame("pusher_internal:watchlist_events", {"events": events})


def _frame(event: str, data: object) -> bytes:
    return orjson.dumps({"event": event, "data": orjson.dumps(data).decode()})


def message(event: str, channel: str, data: str, user_id: str | None = None) -> bytes:
    """Return a channel event as its subscribers get it; `data` is passed on unread, `user_id` only on presence channels."""
    if user_id is None:
        return orjson.dumps({"event": event, "channel": channel, "data": data})
    return orjson.dumps({"event": event, "channel": channel, "data": data, "user_id": user_id})


# -- the WebSocket frame around it

#: FIN and opcode 1 (text), then the length in its second and third form
_MEDIUM = struct.Struct("!BBH")
_LONG = struct.Struct("!BBQ")
_FIN_TEXT = 0x81


def wire(payload: bytes) -> bytes:
    """Return the finished WebSocket text frame of a server, unmasked and in one piece (RFC 6455 section 5.2)."""
    length = len(payload)
    if length < 126:
        return bytes((_FIN_TEXT, length)) + payload
    if length < 65_536:
        return _MEDIUM.pack(_FIN_TEXT, 126, length) + payload
    return _LONG.pack(_FIN_TEXT, 127, length) + payload
