"""From lifecycle events to deliveries, and from deliveries to one body with its id."""

from __future__ import annotations

import hashlib
import re
from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime, timedelta
from fnmatch import translate
from functools import lru_cache
from zlib import crc32

import orjson

from gateway.core.delivery import REPLAY_LANE, Delivery, Request
from gateway.core.endpoint import Endpoint as Endpoint
from gateway.core.endpoint import check as check
from gateway.core.endpoint import kinds_of
from gateway.core.format import FORMATS, batches
from gateway.core.signing import VERSION
from gateway.core.span import LifecycleEvent
from gateway.core.trace import told

#: what the id of a webhook begins with that may carry several events
BATCH = "whb_"

_EPOCH = datetime(1970, 1, 1)


class Router:
    """Turns an event into the deliveries it causes: one for each endpoint of its app whose filter lets it pass.

    `sequences` holds the last sequence by endpoint key and is counted up here, so events must be routed in the order of
    the ledger, and what is routed must be written: a delivery that is dropped is a gap its receiver sees.
    """

    __slots__ = ("_by_app", "_by_key", "_sequences", "endpoints", "wanted")

    def __init__(
        self,
        endpoints: Iterable[Endpoint],
        node: str,
        sequences: dict[str, int],
        feeds: Mapping[str, tuple[str, ...]] | None = None,
    ) -> None:
        """`feeds` are, by app id, globs over the kinds of event that are recorded although no endpoint wants them."""
        self._sequences = sequences
        #: by key, in the order in which they were given
        self.endpoints: Mapping[str, Endpoint] = {endpoint.key: endpoint for endpoint in endpoints}
        self._by_key = {key: _Route(endpoint, node) for key, endpoint in self.endpoints.items()}
        self._by_app: dict[str, list[_Route]] = {}
        wanted = {app_id: kinds for app_id, globs in (feeds or {}).items() if (kinds := kinds_of(globs))}
        for route in self._by_key.values():
            self._by_app.setdefault(route.app_id, []).append(route)
            wanted[route.app_id] = wanted.get(route.app_id, frozenset()) | route.kinds
        #: by app id: the kinds of event that some endpoint wants to hear of, or the app's feed
        self.wanted: Mapping[str, frozenset[str]] = wanted

    def route(self, event: LifecycleEvent) -> list[Delivery]:
        """Return the deliveries the event causes, in the order in which the endpoints were given."""
        routes = [route for route in self._by_app.get(event.app_id, ()) if route.lets_pass(event)]
        return self._deliveries(event, routes) if routes else []

    def route_to(self, endpoint_key: str, event: LifecycleEvent) -> Delivery:
        """Return the delivery of an event that is meant for one endpoint, whatever its filter; KeyError if it is unknown."""
        return self._deliveries(event, [self._by_key[endpoint_key]])[0]

    def render(self, endpoint_key: str, event: LifecycleEvent, sequence: int) -> Delivery:
        """Return the delivery of an event that has its sequence already, or (0) stands outside of all sequences.

        Nothing is counted. The same event and sequence give the same bytes as long as the endpoint's name, its
        `include_payload` and the node's name stay what they were. Raises KeyError if the endpoint is unknown.
        """
        route = self._by_key[endpoint_key]
        data = event.data
        if route.is_bare and "data" in data:
            data = {name: value for name, value in data.items() if name != "data"}
        return _delivery(route, event, _serialise(event, data), sequence, crc32(event.subject.encode()))

    def left_out_by(self, endpoint_key: str, event: LifecycleEvent) -> str | None:
        """Return which setting of the endpoint keeps the event from it, None if it gets it; KeyError if it is unknown.

        `subject`: the event is about another endpoint.
        """
        return self._by_key[endpoint_key].left_out_by(event)

    def _deliveries(self, event: LifecycleEvent, routes: list[_Route]) -> list[Delivery]:
        full = b""
        bare = b""
        subject = crc32(event.subject.encode())
        deliveries: list[Delivery] = []
        try:
            for route in routes:
                if route.is_bare and "data" in event.data:
                    bare = bare or _serialise(event, {name: value for name, value in event.data.items() if name != "data"})
                    common = bare
                else:
                    full = full or _serialise(event, event.data)
                    common = full
                sequence = self._sequences.get(route.key, 0) + 1
                self._sequences[route.key] = sequence
                deliveries.append(_delivery(route, event, common, sequence, subject))
        except BaseException:  # what cannot be written out for one of them must leave no gap at the others
            for delivery in deliveries:
                self._sequences[delivery.endpoint] = delivery.sequence - 1
            raise
        return deliveries


class _Route:
    """An endpoint with its filter made ready. None stands for an inclusion of everything or an exclusion of nothing."""

    __slots__ = (
        "app_id",
        "channels",
        "concurrency",
        "existing",
        "head",
        "is_bare",
        "key",
        "kinds",
        "name",
        "names",
        "not_channels",
        "not_names",
        "tail",
    )

    def __init__(self, endpoint: Endpoint, node: str) -> None:
        self.app_id = endpoint.app_id
        self.key = endpoint.key
        self.name = endpoint.name
        self.concurrency = endpoint.concurrency
        self.is_bare = not endpoint.include_payload
        #: what exists in the format, and of that what is asked for
        self.existing = FORMATS[endpoint.format].kinds
        self.kinds = kinds_of(endpoint.events) & self.existing
        self.channels = None if "*" in endpoint.channels else _pattern(endpoint.channels)
        self.names = None if "*" in endpoint.event_names else _pattern(endpoint.event_names)
        self.not_channels = _pattern(endpoint.exclude_channels) if endpoint.exclude_channels else None
        self.not_names = _pattern(endpoint.exclude_event_names) if endpoint.exclude_event_names else None
        # Only the end of an envelope differs between endpoints, and of that only the digits of the sequence change.
        self.head = b',"metadata":{"webhook_id":' + orjson.dumps(endpoint.name) + b',"sequence":'
        self.tail = b',"node":' + orjson.dumps(node) + b"}}"

    def lets_pass(self, event: LifecycleEvent) -> bool:
        """Tell whether the filter selects the event."""
        return (
            event.kind in self.kinds
            and (event.channel is None or _is_between(event.channel, self.channels, self.not_channels))
            and (event.name is None or _is_between(event.name, self.names, self.not_names))
        )

    def left_out_by(self, event: LifecycleEvent) -> str | None:
        """Return the first setting of the filter that does not let the event pass, None if all do."""
        if event.subject.startswith(f"{self.app_id}/endpoint/") and event.subject != f"{self.app_id}/endpoint/{self.name}":
            return "subject"
        if event.kind not in self.kinds:
            return "events" if event.kind in self.existing else "format"
        for value, wanted, unwanted, setting in (
            (event.channel, self.channels, self.not_channels, "channels"),
            (event.name, self.names, self.not_names, "event_names"),
        ):
            if value is not None and not _is_between(value, wanted, None):
                return setting
            if value is not None and not _is_between(value, None, unwanted):
                return f"exclude_{setting}"
        return None


def _delivery(route: _Route, event: LifecycleEvent, common: bytes, sequence: int, subject: int) -> Delivery:
    tail = route.tail if event.trace is None else b"%b%b}}" % (route.tail[:-2], told(event.trace))
    return Delivery(
        route.key,
        sequence,
        subject % route.concurrency,
        event.id,
        event.kind,
        event.at_ms,
        b"%b%b%d%b" % (common, route.head, sequence, tail),
    )


def request(endpoint: Endpoint, deliveries: Sequence[Delivery], at_ms: int | None = None) -> Request:
    """Return the webhook that carries these deliveries of one lane, in their order; the same for the same deliveries.

    `at_ms` is when it is attempted (Unix ms; None: never), which only the format `pusher` asks about. Raises ValueError if
    there is no delivery, or more than the endpoint's format can hold.
    """
    if not deliveries:
        raise ValueError("a webhook carries at least one event")
    first, last = deliveries[0], deliveries[-1]
    if batches(endpoint.format):
        # The same deliveries always travel together, so their bounds are who the batch is.
        identity = f"{endpoint.key}\n{first.sequence}\n{last.sequence}\n{first.event_id}".encode()
        if first.lane == REPLAY_LANE:
            # that lane counts by itself, so a live batch may have had the same bounds and other events between them
            identity += b"\nreplay"
        id_ = f"{BATCH}{hashlib.sha256(identity).hexdigest()[:32]}"
    elif len(deliveries) > 1:
        raise ValueError(f"format {endpoint.format} carries one event a webhook")
    else:
        id_ = first.event_id
    form = FORMATS[endpoint.format]
    return Request(
        endpoint=endpoint.key,
        lane=first.lane,
        id=id_,
        event=first.kind if len(deliveries) == 1 else "batch",
        content_type=form.content_type,
        body=form.body(deliveries, at_ms),
        deliveries=tuple(deliveries),
    )


@lru_cache(maxsize=64)  # events that are recorded together share a few moments
def timestamp(epoch_ms: int) -> str:
    """Return RFC 3339 in UTC, with milliseconds and `Z`."""
    seconds, ms = divmod(epoch_ms, 1000)
    return f"{_to_the_second(seconds)}.{ms:03d}Z"


@lru_cache(maxsize=64)  # formatting a date costs as much as all the rest of an envelope, and most events share their second
def _to_the_second(seconds: int) -> str:
    return (_EPOCH + timedelta(seconds=seconds)).isoformat()


def _serialise(event: LifecycleEvent, data: Mapping[str, object]) -> bytes:
    """Return the envelope up to and including `data`; the keys' order is part of the format."""
    return orjson.dumps(
        {
            "id": event.id,
            "event": event.kind,
            "version": VERSION,
            "timestamp": timestamp(event.at_ms),
            "app_id": event.app_id,
            "data": data,
        }
    )[:-1]


def _pattern(globs: Iterable[str]) -> re.Pattern[str]:
    return re.compile("|".join(map(translate, globs)) or r"(?!)")


def _is_between(value: str, wanted: re.Pattern[str] | None, unwanted: re.Pattern[str] | None) -> bool:
    return (wanted is None or wanted.match(value) is not None) and (unwanted is None or unwanted.match(value) is None)
