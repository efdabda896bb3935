"""Counters, the few wide log lines, and how they are printed. Never a secret, never a payload.

Counters are plain integers that only go up; whoever exports them reads them. Gauges are not kept here at all: they are
asked of whoever owns the thing counted, so that they cannot drift.
"""

from __future__ import annotations

import logging
import time
from bisect import bisect_left
from collections import Counter, defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import lru_cache
from typing import Any, Protocol

import orjson

from gateway.core.delivery import Settlement, State
from gateway.core.publication import Publication
from gateway.core.webhook import Endpoint

connection_log = logging.getLogger("rawpush.connection")
webhook_log = logging.getLogger("rawpush.webhook")
gateway_log = logging.getLogger("rawpush.gateway")


#: Seconds up to which attempts are counted together: a receiver next door, one across an ocean, and the usual time-outs.
ATTEMPT_BOUNDS_S = (0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0)


class Histogram:
    """How often something took how long: a counter for each bound (included), one for what is beyond, and the sum."""

    __slots__ = ("bounds", "counts", "total")

    def __init__(self, bounds: Sequence[float]) -> None:
        """`bounds` ascend."""
        self.bounds = bounds
        self.counts = [0] * (len(bounds) + 1)
        self.total = 0.0

    def observe(self, value: float) -> None:
        """Count it."""
        self.counts[bisect_left(self.bounds, value)] += 1
        self.total += value


class Carrier(Protocol):
    """What has crossed one wire."""

    received_bytes: int
    sent_messages: int
    sent_bytes: int


class Onlooker(Protocol):
    """Somebody who watches what happens, whether it is recorded or not. Must be quick and not raise."""

    def saw(self, kind: str, app_id: str, data: Mapping[str, object]) -> None:
        """An event of this kind, as the catalogue names it, has happened; `data` is JSON-able, and less than what is recorded."""
        ...


class Telemetry:
    """What the gateway says of itself."""

    def __init__(self) -> None:
        #: None: nobody watches, and nothing is made for anybody to see
        self.onlooker: Onlooker | None = None
        self.connections_opened = 0
        self.connections_closed: Counter[str] = Counter()  # by reason
        self.connections_refused: Counter[int] = Counter()  # by code
        self.turned_away = 0  # newcomers, for want of descriptors
        self.frames_received = 0
        self.frames_refused = 0
        self.subscriptions_throttled = 0  # sign-ins included
        self.publications: Counter[str] = Counter()  # by source: http, client
        self.rejections: Counter[str] = Counter()  # by reason
        self.deliveries = 0  # frames offered in fan-outs
        self.events: Counter[str] = Counter()  # lifecycle events recorded, by kind
        self.attempts: Counter[tuple[str, str]] = Counter()  # by endpoint and `2xx`, `4xx`, ..., or the stage it failed at
        self.attempt_s: defaultdict[str, Histogram] = defaultdict(lambda: Histogram(ATTEMPT_BOUNDS_S))  # by endpoint
        self.dead_letters: Counter[str] = Counter()  # by endpoint
        #: when the certificate that is served ends, in Unix seconds; None: TLS is left to a proxy
        self.certificate_expires_at: float | None = None
        # what connections that are over have carried; live ones know it themselves, so that sending counts once
        self.ended_received_bytes = 0
        self.ended_sent_frames = 0
        self.ended_sent_bytes = 0

    def carried(self, connection: Carrier) -> None:
        """A connection carries nothing more: keep what it has counted."""
        self.ended_received_bytes += connection.received_bytes
        self.ended_sent_frames += connection.sent_messages
        self.ended_sent_bytes += connection.sent_bytes

    def connection_opened(self, app_id: str, socket_id: str, facts: Callable[[], Mapping[str, object]]) -> None:
        """Count a connection that was established; `facts` returns what is known of it."""
        self.connections_opened += 1
        if self.onlooker is not None:
            self.onlooker.saw("connection.opened", app_id, {"socket_id": socket_id, **facts()})

    def auth_failed(self, app_id: str, socket_id: str, channel: str | None, reason: str) -> None:
        """Count a signature that was refused; `channel` None: it was that of a sign-in."""
        self.frames_refused += 1
        if self.onlooker is not None:
            what: dict[str, object] = {"signin": True} if channel is None else {"channel": channel}
            self.onlooker.saw("connection.auth_failed", app_id, {"socket_id": socket_id, **what, "reason": reason})

    def delivered(self, publication: Publication, recipients: Mapping[str, int]) -> None:
        """Count what was offered to subscribers, so many by channel."""
        self.deliveries += sum(recipients.values())
        if self.onlooker is None:
            return
        kind = "client_event" if publication.from_client else "message.published"
        said: dict[str, object] = {"event": publication.event, "data": publication.data}
        if publication.from_client:
            said |= {"socket_id": publication.except_socket_id}
        for channel, count in recipients.items():
            self.onlooker.saw(kind, publication.app_id, {"channel": channel, **said, "recipients": count})

    def rejected(self, app_id: str, reason: str, source: str, facts: Mapping[str, object]) -> None:
        """Count a publication that was refused; what is None among the facts is not known."""
        self.rejections[reason] += 1
        if self.onlooker is not None:
            known = {name: value for name, value in facts.items() if value is not None}
            self.onlooker.saw("message.rejected", app_id, {"reason": reason, "source": source, **known})

    def connection_ended(self, app_id: str, socket_id: str, code: int, reason: str, **fields: object) -> None:
        """Count and log the end of a connection: one line, with what it did."""
        self.connections_closed[reason] += 1
        if self.onlooker is not None:
            told = {"socket_id": socket_id, "code": code, "reason": reason, **fields}
            self.onlooker.saw("connection.closed", app_id, told)
        if connection_log.isEnabledFor(logging.INFO):
            told = {"app": app_id, "socket_id": socket_id, "code": code, "reason": reason, **fields}
            connection_log.handle(_record(connection_log.name, logging.INFO, "connection ended", told))

    def attempted(self, endpoint: Endpoint, settlement: Settlement) -> None:
        """Count and log one webhook attempt: one line, with its outcome and what becomes of the request."""
        outcome = settlement.outcome
        status = None if outcome is None else outcome.status
        result = f"{status // 100}xx" if status is not None else ("none" if outcome is None else outcome.stage.value)
        self.attempts[endpoint.key, result] += 1
        if outcome is not None:
            self.attempt_s[endpoint.key].observe(outcome.latency_ms / 1000)
        if settlement.state is State.DEAD:
            self.dead_letters[endpoint.key] += settlement.count
        level = logging.INFO if settlement.state is State.DELIVERED else logging.WARNING
        _say(
            webhook_log,
            level,
            f"webhook {settlement.state.value}",
            endpoint=endpoint.key,
            request=settlement.request_id,
            lane=settlement.lane,
            events=settlement.count,
            attempt=settlement.attempts,
            stage=None if outcome is None else outcome.stage.value,
            status=status,
            error=(outcome.error or None) if outcome is not None else None,
            latency_ms=None if outcome is None else round(outcome.latency_ms, 1),
            retry_in_ms=settlement.due_at_ms - settlement.at_ms if settlement.state is State.DUE else None,
            given_up=settlement.reason or None,
        )

    def endpoint_changed(self, endpoint: Endpoint, state: str, why: str) -> None:
        """Log that an endpoint is `healthy`, `backing off` or `disabled` from now on."""
        level = logging.ERROR if state == "disabled" else logging.WARNING if state != "healthy" else logging.INFO
        _say(webhook_log, level, f"endpoint {state}", endpoint=endpoint.key, why=why)

    def note(self, level: int, sentence: str, **fields: object) -> None:
        """Log something about the gateway as a whole."""
        _say(gateway_log, level, sentence, **fields)


def _say(log: logging.Logger, level: int, sentence: str, **fields: object) -> None:
    if log.isEnabledFor(level):
        # Not log.log(): it looks up who called, which is always this line and costs more than all the rest.
        log.handle(_record(log.name, level, sentence, {name: value for name, value in fields.items() if value is not None}))


def _record(name: str, level: int, sentence: str, fields: Mapping[str, object]) -> logging.LogRecord:
    """Return what `Logger.makeRecord` would, without asking anew what is the same each time: file, line, function, process."""
    blank, created = _blank(name, level), time.time()
    record = logging.LogRecord.__new__(logging.LogRecord)
    record.__dict__ = {
        **blank,
        "msg": sentence,
        "created": created,
        "msecs": int(created % 1 * 1000) + 0.0,
        "relativeCreated": blank["relativeCreated"] + (created - blank["created"]) * 1000,
        "fields": fields,
    }
    return record


@lru_cache(maxsize=32)
def _blank(name: str, level: int) -> dict[str, Any]:
    return vars(logging.LogRecord(name, level, "", 0, "", (), None))


class TextFormatter(logging.Formatter):
    """A line for people: time, level, sentence, fields. Control characters are escaped, so that no text forges a line."""

    def format(self, record: logging.LogRecord) -> str:
        fields = getattr(record, "fields", {})
        shown = "".join(f" {name}={_plain(value)}" for name, value in fields.items())
        stamp = time.strftime("%H:%M:%S", time.localtime(record.created))
        line = f"{stamp} {record.levelname.lower():7} {_escaped(record.getMessage())}{shown}"
        return line if record.exc_info is None else f"{line}\n{self.formatException(record.exc_info)}"


class JsonFormatter(logging.Formatter):
    """A JSON object a line, for machines; times in RFC 3339 UTC."""

    def format(self, record: logging.LogRecord) -> str:
        line = {
            "time": f"{_second(int(record.created))}.{int(record.msecs):03d}Z",
            "level": record.levelname.lower(),
            "logger": record.name,
            "message": record.getMessage(),
            **getattr(record, "fields", {}),
        }
        if record.exc_info is not None:
            line["exception"] = self.formatException(record.exc_info)
        return orjson.dumps(line, default=str).decode()


@lru_cache(maxsize=1)
def _second(at_s: int) -> str:
    return time.strftime("%Y-%m-%dT%H:%M:%S", time.gmtime(at_s))


def _escaped(text: str) -> str:
    return "".join(char if char.isprintable() else char.encode("unicode_escape").decode() for char in text)


def _plain(value: object) -> str:
    text = _escaped(str(value))
    return f'"{text.replace(chr(34), chr(39))}"' if " " in text or '"' in text or not text else text
