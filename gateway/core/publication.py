"""What somebody asks to be fanned out, and the rules a request to publish must keep."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import cast

import orjson

from gateway.core.app import App, Limits
from gateway.core.channel import is_legal
from gateway.core.error import RequestError
from gateway.core.trace import Trace
from gateway.core.value import value

#: events for every connection signed in as one user are published to this prefix and the user's id
USER_CHANNEL = "#server-to-user-"

#: what the answer to a publish can say of a channel
ATTRIBUTES = frozenset({"user_count", "subscription_count"})

#: characters of a user channel, prefix included: the SDKs' own bound
_USER_CHANNEL_LENGTH = 200
#: characters of a refused name that are passed on; the rest of a hostile one would only cost
_QUOTED = 200

_RESERVED_EVENTS = ("pusher:", "pusher_internal:")
_SOCKET_ID = re.compile(r"[0-9]+\.[0-9]+", re.ASCII)
_INDEX = re.compile(r"batch\[([0-9]+)\]")
_NO_INFO: frozenset[str] = frozenset()


@value
class Publication:
    """One event for one or more channels of an app."""

    app_id: str
    event: str
    channels: tuple[str, ...]
    data: str
    #: this connection is left out; for a client event it is the sender
    except_socket_id: str | None = None
    #: True: it came from a session (a client event); False: over HTTP
    from_client: bool = False
    #: of the sender, on presence channels only
    user_id: str | None = None
    #: attributes asked for in the answer (`info`), e.g. {"user_count"}
    info: frozenset[str] = frozenset()
    #: what the request that published it belongs to
    trace: Trace | None = None


def parse_event(body: object, app: App, trace: Trace | None = None) -> Publication:
    """Return the publication that a parsed JSON body asks for, as a part of the trace.

    `data` that is not a string is replaced by its compact JSON text (numbers beyond 64 bits are rounded); a channel named
    twice counts once. Raises RequestError 400, or 413 where the data is too large; `where` is a path into the JSON, and
    `reason` one of `payload_too_large`, `invalid_channel`, `invalid_event`, `invalid_data`.
    """
    event = _object(body, "body")
    return _publication(event, app, _channels(event, app.limits), "", trace)


def parse_batch(body: object, app: App, trace: Trace | None = None) -> list[Publication]:
    """Return the publications that a parsed JSON body asks for, in order; all of them are right, or it raises.

    Each has one channel, and keeps the rules of `parse_event`, whose errors this raises with `where` such as `batch[3].data`.
    """
    batch = _object(body, "body").get("batch")
    if not isinstance(batch, list):
        raise RequestError(400, "batch must be an array of events", "batch", reason="invalid_event")
    if not 1 <= len(batch) <= app.limits.batch:
        raise RequestError(
            400, f"a batch holds 1 to {app.limits.batch} events, this one has {len(batch)}", "batch", reason="invalid_event"
        )
    publications = []
    for index, item in enumerate(batch):
        where = f"batch[{index}]"
        event = _object(item, where)
        channel = event.get("channel")
        if channel is None:
            raise RequestError(
                400, "an event of a batch goes to one channel: name it in channel", f"{where}.channel", reason="invalid_channel"
            )
        channel = _channel(channel, app.limits, f"{where}.channel")
        publications.append(_publication(event, app, (channel,), f"{where}.", trace))
    return publications


def parse_info(text: str) -> frozenset[str]:
    """Return the attributes that a comma-separated list names, known or not."""
    return frozenset(name for part in text.split(",") if (name := part.strip()))


def describe(body: object, where: str | None) -> tuple[str | None, str | None, int]:
    """Return channel, event name and size of the data of the event that a refusal `where` is about, as far as they can be told.

    For the record of a refused publish: the body is one that `parse_event` or `parse_batch` has refused, so anything may be
    missing, of the wrong type, or very long (names are cut).
    """
    event = body
    index = _INDEX.match(where) if where else None
    if index and isinstance(body, dict) and isinstance(body.get("batch"), list):
        event = body["batch"][int(index[1])]
    if not isinstance(event, dict):
        return None, None, 0
    channel, channels, name, data = event.get("channel"), event.get("channels"), event.get("name"), event.get("data")
    if not channel and isinstance(channels, list) and channels:
        channel = channels[0]
    return (
        channel[:_QUOTED] if isinstance(channel, str) else None,
        name[:_QUOTED] if isinstance(name, str) else None,
        _size(data) if isinstance(data, str) else 0,
    )


def _publication(event: dict[str, object], app: App, channels: tuple[str, ...], at: str, trace: Trace | None) -> Publication:
    limits = app.limits
    name, data = _name(event.get("name"), limits, at), _data(event.get("data"), limits, at)
    socket_id, info = event.get("socket_id"), event.get("info")
    return Publication(
        app.id,
        name,
        channels,
        data,
        None if socket_id is None else _socket_id(socket_id, at),
        False,
        None,
        _NO_INFO if info is None else _info(info, at),
        trace,
    )


def _object(value: object, where: str) -> dict[str, object]:
    if not isinstance(value, dict):
        raise RequestError(400, f"{where} must be a JSON object", where, reason="invalid_event")
    return cast(dict[str, object], value)


def _channels(event: dict[str, object], limits: Limits) -> tuple[str, ...]:
    channel, channels = event.get("channel"), event.get("channels")
    if channels is None:
        if channel is None:
            raise RequestError(400, "channels is missing: name the channels to publish to", "channels", reason="invalid_channel")
        return (_channel(channel, limits, "channel"),)
    if channel is not None:
        raise RequestError(400, "give either channel or channels, not both", "channel", reason="invalid_channel")
    if not isinstance(channels, list):
        raise RequestError(400, "channels must be an array of names", "channels", reason="invalid_channel")
    if not 1 <= len(channels) <= limits.channels_per_publish:
        raise RequestError(
            400,
            f"1 to {limits.channels_per_publish} channels can be published to at once, not {len(channels)}",
            "channels",
            reason="invalid_channel",
        )
    if len(channels) == 1:
        return (_channel(channels[0], limits, "channels[0]"),)
    return _distinct(_channel(name, limits, f"channels[{index}]") for index, name in enumerate(channels))


def _distinct(names: Iterable[str]) -> tuple[str, ...]:
    return tuple(dict.fromkeys(names))


def _channel(name: object, limits: Limits, where: str) -> str:
    if not isinstance(name, str):
        raise RequestError(400, "a channel name must be a string", where, reason="invalid_channel")
    if is_legal(name, limits.channel_name) or _is_user_channel(name):
        return name
    raise RequestError(
        400,
        f"not a channel name: it must have 1 to {limits.channel_name} letters, digits and characters of _-=@,.;",
        where,
        reason="invalid_channel",
    )


def _is_user_channel(name: str) -> bool:
    return name.startswith(USER_CHANNEL) and is_legal(name[len(USER_CHANNEL) :], _USER_CHANNEL_LENGTH - len(USER_CHANNEL))


def _name(name: object, limits: Limits, at: str) -> str:
    if isinstance(name, str) and 0 < len(name) <= limits.event_name and not name.startswith(_RESERVED_EVENTS):
        return name
    if not isinstance(name, str) or not name:
        sentence = "name must be a string that is not empty: the event's name"
    elif len(name) > limits.event_name:
        sentence = f"the event's name has {len(name)} characters, {limits.event_name} are allowed"
    else:
        sentence = "event names beginning pusher: or pusher_internal: are reserved"
    raise RequestError(400, sentence, f"{at}name", reason="invalid_event")


def _data(data: object, limits: Limits, at: str) -> str:
    if data is None:
        raise RequestError(400, "data is missing: it must be a string", f"{at}data", reason="invalid_data")
    if not isinstance(data, str):
        data = _compact(data, f"{at}data")
    size = _size(data)
    if size > limits.event_data:
        raise RequestError(
            413, f"data has {size} bytes of UTF-8, {limits.event_data} are allowed", f"{at}data", reason="payload_too_large"
        )
    return data


def _compact(data: object, where: str) -> str:
    try:
        return orjson.dumps(data).decode()
    except orjson.JSONEncodeError as error:
        # what was parsed can be written, but for nesting: the writer's bound is lower than the reader's
        raise RequestError(
            400, "data is nested too deeply: send it as a string that holds the JSON text", where, reason="invalid_data"
        ) from error


def _size(text: str) -> int:
    return len(text) if text.isascii() else len(text.encode())


def _socket_id(value: object, at: str) -> str:
    if not isinstance(value, str) or _SOCKET_ID.fullmatch(value) is None:
        raise RequestError(400, "socket_id must be digits, a dot, digits", f"{at}socket_id", reason="invalid_event")
    return value


def _info(value: object, at: str) -> frozenset[str]:
    if not isinstance(value, str):
        raise RequestError(400, "info must be a comma-separated list of attributes", f"{at}info", reason="invalid_event")
    return parse_info(value) & ATTRIBUTES
