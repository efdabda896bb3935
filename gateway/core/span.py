"""What is written into the ledger: the event catalogue, events, and the spans they open and close."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import field
from typing import NamedTuple

from gateway.core.catalogue import ENTRIES
from gateway.core.trace import Trace
from gateway.core.value import value

#: every event there is; a filter that names something else is a mistake in the file
CATALOGUE = tuple(ENTRIES)

#: tells an endpoint that events for it were lost
DROPPED = "webhook.events_dropped"


class Instant(NamedTuple):
    """A moment on both clocks: deadlines use the first, stamps the second."""

    monotonic_s: float
    epoch_ms: int


@value
class LifecycleEvent:
    """A row of the ledger. `data` is JSON-able; the payload of a message, where there is one, is its `data` member."""

    id: str
    kind: str
    app_id: str
    at_ms: int
    #: what order is kept for: `{app_id}/connection/{socket_id}`, `{app_id}/channel/{channel}`, `{app_id}/endpoint/{name}`
    subject: str
    data: Mapping[str, object]
    #: for the filters: the channel, and the name inside a `message.*` or `client_event`
    channel: str | None = None
    name: str | None = None
    #: what the request that caused it belongs to
    trace: Trace | None = None


@value
class Span:
    """Something that is open now and will have to be closed, whatever happens to this process.

    `kind` is `connection`, `subscription`, `channel` or `member`; `key` is unique within app and kind (socket id,
    channel + "\\n" + socket id, channel, channel + "\\n" + user id).
    """

    app_id: str
    kind: str
    key: str
    id: str
    opened_at_ms: int
    #: what the closing event must carry (JSON-able)
    facts: Mapping[str, object] = field(default_factory=dict)
    #: Unix milliseconds at which a pending departure counts; None while it is plainly open
    departs_at_ms: int | None = None


@value
class SpanOpened:
    """Remember the span."""

    span: Span


@value
class SpanDeparting:
    """A departure is pending until `departs_at_ms`; None: it was called off."""

    app_id: str
    kind: str
    key: str
    departs_at_ms: int | None


@value
class SpanClosed:
    """Forget the span."""

    app_id: str
    kind: str
    key: str


#: what a transition writes, in order, in one transaction
Record = LifecycleEvent | SpanOpened | SpanDeparting | SpanClosed
