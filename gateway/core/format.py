"""The table of body formats: what a webhook's body is, by the `format` of its endpoint.

Bodies are made of stored envelopes, and a function of them: the same deliveries give the same bytes. The one exception is
`pusher`, whose time stamp must be fresh to be believed; see `_pusher`.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any
from urllib.parse import quote

import orjson

from gateway.core.delivery import Delivery
from gateway.core.span import CATALOGUE
from gateway.core.trace import PARENT, STATE

#: in front of the kind in the `type` of a CloudEvent
CLOUDEVENTS_PREFIX = "dev.rawpush."

#: How long a pusher body keeps the time of its oldest event, in ms: the Python SDK refuses more than 300 s, and a minute of
#: that is left for the way and for clocks that differ.
PUSHER_FRESH_MS = 240_000

#: Enough for every integer that a JSON number can hold exactly, so no sequence ever has more.
_SEQUENCE_DIGITS = 16

_ENCRYPTED = "private-encrypted-"

#: kind -> its name there, and its members beside `name` and `channel`, in order (Pusher protocol: webhook events)
_PUSHER: Mapping[str, tuple[str, tuple[str, ...]]] = {
    "channel.occupied": ("channel_occupied", ()),
    "channel.vacated": ("channel_vacated", ()),
    "channel.member_added": ("member_added", ("user_id",)),
    "channel.member_removed": ("member_removed", ("user_id",)),
    "client_event": ("client_event", ("event", "data", "socket_id", "user_id")),
    "channel.cache_miss": ("cache_miss", ()),
    "channel.subscription_count": ("subscription_count", ("subscription_count",)),
}


@dataclass(frozen=True, slots=True)
class Format:
    """One row of the table. `body` makes the body of at least one delivery at a time of attempt (Unix ms; None: never)."""

    content_type: str
    body: Callable[[Sequence[Delivery], int | None], bytes]
    #: the format that holds the same events where they are several: itself, or another
    several: str
    #: the kinds of event that exist in it
    kinds: frozenset[str] = frozenset(CATALOGUE)
    #: whether the app's key and secret sign it too
    needs_app: bool = False
    #: whether the event has to travel alone
    is_alone: Callable[[Delivery], bool] = lambda delivery: False


def batches(name: str) -> bool:
    """Tell whether a webhook of this format carries as many events as have piled up."""
    return FORMATS[name].several == name


def together(name: str, deliveries: Sequence[Delivery]) -> int:
    """Return how many of the deliveries, from the first on, travel in one webhook of this format; they are a lane's head."""
    if not batches(name):
        return min(1, len(deliveries))
    is_alone = FORMATS[name].is_alone
    for count, delivery in enumerate(deliveries):
        if is_alone(delivery):
            return max(1, count)
    return len(deliveries)


def _event(deliveries: Sequence[Delivery], at_ms: int | None) -> bytes:
    (delivery,) = deliveries
    return delivery.envelope


def _batch(deliveries: Sequence[Delivery], at_ms: int | None) -> bytes:
    return b'{"events":[' + b",".join([delivery.envelope for delivery in deliveries]) + b"]}"


def _pusher(deliveries: Sequence[Delivery], at_ms: int | None) -> bytes:
    """`time_ms` is when the oldest event happened, while that is recent; then it is the attempt's, or SDKs would refuse it.

    What does not exist there is left out, so a test webhook is a body without events.
    """
    time_ms = deliveries[0].at_ms
    if at_ms is not None and abs(at_ms - time_ms) >= PUSHER_FRESH_MS:
        time_ms = at_ms
    return orjson.dumps({"time_ms": time_ms, "events": [_pusher_event(one) for one in deliveries if one.kind in _PUSHER]})


def _pusher_event(delivery: Delivery) -> dict[str, object]:
    name, members = _PUSHER[delivery.kind]
    data: dict[str, object] = orjson.loads(delivery.envelope)["data"]
    event = {"name": name, "channel": data["channel"]}
    for member in members:
        if member == "subscription_count":
            event[member] = data["subscribers"]
        elif member in data:
            event[member] = _text(data[member])
    return event


def _text(value: object) -> str:
    """Strict SDKs drop the whole webhook where they expect a text and find something else."""
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def _is_encrypted(delivery: Delivery) -> bool:
    """The PHP and Go SDKs want to decrypt what is about such a channel, and where that fails refuse all that came with it."""
    if _ENCRYPTED.encode() not in delivery.envelope or delivery.kind not in _PUSHER:
        return False
    channel: str = orjson.loads(delivery.envelope)["data"]["channel"]
    return channel.startswith(_ENCRYPTED)


def _cloudevent(deliveries: Sequence[Delivery], at_ms: int | None) -> bytes:
    (delivery,) = deliveries
    return orjson.dumps(_as_cloudevent(delivery))


def _cloudevents(deliveries: Sequence[Delivery], at_ms: int | None) -> bytes:
    return orjson.dumps([_as_cloudevent(delivery) for delivery in deliveries])


def _as_cloudevent(delivery: Delivery) -> dict[str, object]:
    """Return the event as CloudEvents 1.0 has it (JSON Event Format, sections 2 and 3)."""
    envelope: dict[str, Any] = orjson.loads(delivery.envelope)
    kind, data, metadata = envelope["event"], envelope["data"], envelope["metadata"]
    event = {
        "specversion": "1.0",
        "id": envelope["id"],
        "source": f"/apps/{quote(envelope['app_id'], safe='')}/nodes/{quote(metadata['node'], safe='')}",
        "type": CLOUDEVENTS_PREFIX + kind,
        "subject": data.get("socket_id" if kind.startswith("connection.") else "channel") or data.get("socket_id"),
        "time": envelope["timestamp"],
        "datacontenttype": "application/json",
        # The extension of this name demands that texts sort as the numbers do.
        "sequence": f"{metadata['sequence']:0{_SEQUENCE_DIGITS}d}",
        "data": data,
    }
    # the extension for distributed tracing
    event |= {name: metadata[name] for name in (PARENT, STATE) if name in metadata}
    # It must not be empty, nor hold what no attribute may: a refused channel name is whatever a stranger sent.
    if not isinstance(event["subject"], str) or not event["subject"] or not event["subject"].isprintable():
        del event["subject"]
    return event


_JSON = "application/json"

#: by the name that stands in the file
FORMATS: Mapping[str, Format] = {
    "event": Format(_JSON, _event, "batch"),
    "batch": Format(_JSON, _batch, "batch"),
    # Exactly this content type: with a charset the Node SDK refuses it.
    "pusher": Format(_JSON, _pusher, "pusher", kinds=frozenset(_PUSHER), needs_app=True, is_alone=_is_encrypted),
    "cloudevents": Format("application/cloudevents+json", _cloudevent, "cloudevents-batch"),
    "cloudevents-batch": Format("application/cloudevents-batch+json", _cloudevents, "cloudevents-batch"),
}
