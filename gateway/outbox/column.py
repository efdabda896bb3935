"""What there is much of, events and deliveries, as parameters of the statement that writes a group: a parameter for each column.

SQLite reads JSON once more for each look into a row of it. So these rows are not read as JSON. The texts of a column stand in one
piece, and every number of a column is written with the same count of digits, by adding a power of ten to it: `query.sql` cuts
out the digits behind the first one. Python makes a column in a few calls, where a row would cost it some for each number.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from itertools import accumulate
from typing import TypeVar

import orjson

from gateway.core.delivery import Delivery
from gateway.core.lifecycle import LifecycleEvent
from gateway.outbox.row import packed, plain

#: what is added: to a time in ms, to the place of a text, and to the number of a class
_TIME, _PLACE, _CLASS = 10**15, 10**10, 10**5

Parameters = dict[str, object]

Kind = TypeVar("Kind")


def of_events(first: int, events: Sequence[LifecycleEvent], caused: Mapping[str, list[int]]) -> Parameters:
    """Return what `add_events` needs to enter events with numbers from `first` on; empty if there are none.

    `caused` are the keys of the deliveries they caused, by event id. Raises TypeError for what is not JSON, and ValueError.
    """
    if not events:
        return {}
    ids = [event.id.encode() for event in events]
    entries = [orjson.dumps(_told(event), default=plain) for event in events]
    classes, column = _classified([(event.app_id, event.kind) for event in events])
    return {
        "first_event": first,
        "event_caused": packed([caused.get(event.id) for event in events]),
        "event_ids": b"".join(ids),
        "event_id_places": _places(ids),
        "entries": b"".join(entries),
        "entry_places": _places(entries),
        "event_times": _numbers([event.at_ms + _TIME for event in events], _TIME),
        "event_classes": column,
        "event_apps": packed([app_id for app_id, _ in classes]),
        "event_kinds": packed([kind for _, kind in classes]),
    }


def of_deliveries(keys: Sequence[int], deliveries: Sequence[Delivery]) -> Parameters:
    """Return what `add_deliveries` needs to put deliveries into their lanes, where `keys` are their places (`row.key_of`)."""
    if not deliveries:
        return {}
    ids = [delivery.event_id.encode() for delivery in deliveries]
    envelopes = [delivery.envelope for delivery in deliveries]
    classes, column = _classified([delivery.kind for delivery in deliveries])
    return {
        "delivery_keys": packed(keys),
        "delivery_ids": b"".join(ids),
        "delivery_id_places": _places(ids),
        "envelopes": b"".join(envelopes),
        "envelope_places": _places(envelopes),
        "delivery_times": _numbers([delivery.at_ms + _TIME for delivery in deliveries], _TIME),
        "delivery_classes": column,
        "delivery_kinds": packed(classes),
    }


def parts(named: Sequence[tuple[str, bytes]]) -> tuple[str, bytes]:
    """Return what names stand for in one piece, and before it a row for each: its name, and where in the piece it is."""
    ends = accumulate(len(piece) for _, piece in named)
    rows = [[name, end - len(piece) + 1, len(piece)] for (name, piece), end in zip(named, ends, strict=True)]
    return packed(rows), b"".join([piece for _, piece in named])


def size_of(parameters: Parameters) -> int:
    """Return the bytes that these give to the file, but for a few."""
    return sum([len(value) for value in parameters.values() if isinstance(value, (str, bytes))])


def _told(event: LifecycleEvent) -> list[object]:
    if event.trace is None:
        return [event.subject, event.channel, event.name, event.data]
    return [event.subject, event.channel, event.name, event.data, [*event.trace]]


def _classified(kinds: Sequence[Kind]) -> tuple[list[Kind], bytes]:
    """Return which kinds there are, and a column with the number of each one's among them."""
    numbers = {kind: number for number, kind in enumerate(dict.fromkeys(kinds), _CLASS)}
    return [*numbers], _numbers([numbers[kind] for kind in kinds], _CLASS)


def _places(texts: Iterable[bytes]) -> bytes:
    """Write down where each begins, and behind them where the last one ends."""
    return _numbers([*accumulate(map(len, texts), initial=_PLACE + 1)], _PLACE)


def _numbers(column: list[int], added: int) -> bytes:
    text = orjson.dumps(column)
    if len(text) != (len(str(added)) + 1) * len(column) + 1:
        raise ValueError("a number is negative, or too long for its column")
    return text
