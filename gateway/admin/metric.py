"""Every metric there is: its name, what it says, and where its values are read. One table, from which the page is made too.

Names and units are those of the Prometheus rules: base units, `_total` on what only goes up. Labels are names out of the file
(apps, endpoints) or out of closed lists (kinds, reasons, outcomes), so that there is a bound to how many series there are:
none for a channel, a connection or a user.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping
from dataclasses import dataclass
from itertools import accumulate
from typing import Any

from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily, InfoMetricFamily
from prometheus_client.metrics_core import Metric

from gateway.admin.sources import Sources
from gateway.admin.stock import Look
from gateway.admin.traffic import Traffic
from gateway.desk import Health
from gateway.telemetry import Histogram, Telemetry

#: the states of an endpoint
STATES = ("healthy", "backing off", "disabled")


@dataclass(frozen=True, slots=True)
class View:
    """What one scrape sees."""

    sources: Sources
    traffic: Traffic
    look: Look

    @property
    def telemetry(self) -> Telemetry:
        """The counters."""
        return self.sources.telemetry

    @property
    def states(self) -> Mapping[str, Health]:
        """How each endpoint is doing, by its key."""
        return self.sources.desk.states()

    def endpoints(self, name: str, scale: float = 1.0, default: int | None = None) -> Iterator[Value]:
        """What the outbox holds for each endpoint, under this name in the desk's answer."""
        for app_id, told in self.look.endpoints.items():
            for endpoint in told:
                value = endpoint.get(name, default)
                if value is not None:
                    yield (app_id, endpoint["name"]), value * scale


#: the values of the labels, and what it is
Value = tuple[tuple[str, ...], Any]


@dataclass(frozen=True, slots=True)
class Family:
    """One metric; `kind` is counter, gauge, histogram or info. A counter's name goes without the `_total` of its sample."""

    kind: str
    name: str
    text: str
    labels: tuple[str, ...]
    read: Callable[[View], Iterable[Value]]

    @property
    def shown(self) -> str:
        """The name one asks for."""
        return self.name + {"counter": "_total", "info": "_info"}.get(self.kind, "")

    def collect(self, view: View) -> Metric:
        """Return it as it stands."""
        if self.kind == "info":
            return InfoMetricFamily(self.name, self.text, value=dict(self.read(view)))  # type: ignore[arg-type]
        if self.kind == "histogram":
            histogram = HistogramMetricFamily(self.name, self.text, labels=self.labels)
            for labels, value in self.read(view):
                histogram.add_metric(labels, *_buckets(value))
            return histogram
        make = CounterMetricFamily if self.kind == "counter" else GaugeMetricFamily
        family = make(self.name, self.text, labels=self.labels)
        for labels, value in self.read(view):
            family.add_metric(labels, value)
        return family


def _buckets(told: Histogram) -> tuple[list[tuple[str, float]], float]:
    bounds = [*map(str, told.bounds), "+Inf"]
    return list(zip(bounds, accumulate(map(float, told.counts)), strict=True)), told.total


def _one(read: Callable[[View], float]) -> Callable[[View], Iterable[Value]]:
    return lambda view: [((), read(view))]


def _by(read: Callable[[View], Mapping[Any, int]], *known: str) -> Callable[[View], Iterable[Value]]:
    """One label; what is `known` is there from the start, so that its first increase is seen."""

    def values(view: View) -> Iterator[Value]:
        counted = {**dict.fromkeys(known, 0), **read(view)}
        return (((str(name),), count) for name, count in counted.items())

    return values


def _by_endpoint(read: Callable[[View], Mapping[str, int]]) -> Callable[[View], Iterable[Value]]:
    def values(view: View) -> Iterator[Value]:
        counted = {**dict.fromkeys(view.states, 0), **read(view)}
        return ((_split(key), count) for key, count in counted.items())

    return values


def _split(key: str) -> tuple[str, ...]:
    app_id, _, name = key.partition("/")
    return app_id, name


def _connections(view: View) -> Iterator[Value]:
    return (((app_id,), len(tenant.lives)) for app_id, tenant in view.sources.node.tenants.items())


def _channels(view: View) -> Iterator[Value]:
    return (((app_id,), tenant.hub.channels) for app_id, tenant in view.sources.node.tenants.items())


def _certificate(view: View) -> Iterable[Value]:
    end = view.telemetry.certificate_expires_at
    return [] if end is None else [((), end)]


def _attempts(view: View) -> Iterator[Value]:
    return (((*_split(key), outcome), count) for (key, outcome), count in view.telemetry.attempts.items())


def _attempt_s(view: View) -> Iterator[Value]:
    return ((_split(key), told) for key, told in view.telemetry.attempt_s.items())


def _states(view: View) -> Iterator[Value]:
    for key, health in view.states.items():
        for state in STATES:
            yield (*_split(key), state), int(health.state == state)


def _storage(name: str) -> Callable[[View], Iterable[Value]]:
    def values(view: View) -> Iterator[Value]:
        size = getattr(view.sources.storage(), name)
        if size is not None:
            yield (), size

    return values


_ENDPOINT = ("app", "endpoint")

FAMILIES = (
    Family("info", "rawpush_build", "What runs.", ("version",), lambda view: [("version", view.sources.version)]),  # type: ignore[list-item]
    Family(
        "gauge",
        "rawpush_ready",
        "1 while new work is accepted, as /readyz says.",
        (),
        _one(lambda view: not view.sources.node.why_not_ready()),
    ),
    Family(
        "gauge",
        "rawpush_certificate_expires_timestamp_seconds",
        "When the certificate that is served expires; absent where the gateway speaks no TLS.",
        (),
        _certificate,
    ),
    # connections
    Family("gauge", "rawpush_connections", "Open connections.", ("app",), _connections),
    Family(
        "counter",
        "rawpush_connections_opened",
        "Connections established.",
        (),
        _one(lambda view: view.telemetry.connections_opened),
    ),
    Family(
        "counter",
        "rawpush_connections_closed",
        "Connections that ended, by what ended them.",
        ("reason",),
        _by(lambda view: view.telemetry.connections_closed),
    ),
    Family(
        "counter",
        "rawpush_connections_refused",
        "Connections refused after the upgrade, by the code they were told.",
        ("code",),
        _by(lambda view: view.telemetry.connections_refused),
    ),
    Family(
        "counter",
        "rawpush_newcomers_turned_away",
        "Connections cut before anything was asked: nearly as many files were open as may be.",
        (),
        _one(lambda view: view.telemetry.turned_away),
    ),
    Family("gauge", "rawpush_channels", "Channels with a subscriber on this node.", ("app",), _channels),
    # frames
    Family(
        "counter",
        "rawpush_frames_received",
        "Frames from clients.",
        (),
        _one(lambda view: view.telemetry.frames_received),
    ),
    Family("counter", "rawpush_frames_sent", "Frames to clients.", (), _one(lambda view: view.traffic.sent_frames)),
    Family("counter", "rawpush_received_bytes", "Payload from clients.", (), _one(lambda view: view.traffic.received_bytes)),
    Family("counter", "rawpush_sent_bytes", "Payload to clients.", (), _one(lambda view: view.traffic.sent_bytes)),
    Family(
        "counter",
        "rawpush_auth_failures",
        "Signatures of clients that were refused.",
        (),
        _one(lambda view: view.telemetry.frames_refused),
    ),
    Family(
        "counter",
        "rawpush_subscriptions_throttled",
        "Subscriptions and repeated sign-ins refused because their connection asked too often.",
        (),
        _one(lambda view: view.telemetry.subscriptions_throttled),
    ),
    # publications
    Family(
        "counter",
        "rawpush_publications",
        "Events published, by where they came from.",
        ("source",),
        _by(lambda view: view.telemetry.publications, "http", "client"),
    ),
    Family(
        "counter",
        "rawpush_deliveries",
        "Published events offered to a subscriber each.",
        (),
        _one(lambda view: view.telemetry.deliveries),
    ),
    Family(
        "counter",
        "rawpush_rejections",
        "Events refused, by reason.",
        ("reason",),
        _by(lambda view: view.telemetry.rejections),
    ),
    # the ledger
    Family(
        "counter",
        "rawpush_events",
        "Lifecycle events recorded, by kind.",
        ("kind",),
        _by(lambda view: view.telemetry.events),
    ),
    Family(
        "gauge",
        "rawpush_recorder_queue_records",
        "Records that wait to be written.",
        (),
        _one(lambda view: view.sources.recorder.queued),
    ),
    Family(
        "gauge",
        "rawpush_recorder_queue_limit_records",
        "From so many on new work is refused.",
        (),
        _one(lambda view: view.sources.capacity),
    ),
    Family(
        "gauge",
        "rawpush_outbox_writable",
        "0: the outbox cannot be written, and new work is refused.",
        (),
        _one(lambda view: view.sources.is_writable),
    ),
    Family(
        "gauge",
        "rawpush_outbox_readable",
        "0: the outbox cannot be read; what it holds is not known, or is old.",
        (),
        _one(lambda view: view.look.is_whole),
    ),
    Family("gauge", "rawpush_outbox_size_bytes", "What is in use of the outbox on disk.", (), _storage("used")),
    Family("gauge", "rawpush_outbox_limit_bytes", "From this size on new work is refused.", (), _storage("limit")),
    # webhooks
    Family(
        "gauge",
        "rawpush_webhook_backlog_events",
        "Events due to the endpoint.",
        _ENDPOINT,
        lambda view: view.endpoints("backlog"),
    ),
    Family(
        "gauge",
        "rawpush_webhook_oldest_age_seconds",
        "How long the oldest event due has waited; 0: nothing is due.",
        _ENDPOINT,
        lambda view: view.endpoints("oldest_age_ms", 0.001, 0),
    ),
    Family("gauge", "rawpush_webhook_dead_letters", "Dead letters kept.", _ENDPOINT, lambda view: view.endpoints("dead_letters")),
    Family("gauge", "rawpush_webhook_state", "1 for the state the endpoint is in.", (*_ENDPOINT, "state"), _states),
    Family(
        "gauge",
        "rawpush_webhook_running_requests",
        "Requests under way.",
        _ENDPOINT,
        lambda view: ((_split(key), health.running) for key, health in view.states.items()),
    ),
    Family(
        "counter",
        "rawpush_webhook_attempts",
        "Attempts, by status class or by the stage they failed at.",
        (*_ENDPOINT, "outcome"),
        _attempts,
    ),
    Family("histogram", "rawpush_webhook_attempt_duration_seconds", "From connecting to the answer.", _ENDPOINT, _attempt_s),
    Family(
        "counter",
        "rawpush_webhook_given_up_events",
        "Events that became dead letters.",
        _ENDPOINT,
        _by_endpoint(lambda view: view.telemetry.dead_letters),
    ),
    Family(
        "counter",
        "rawpush_webhook_dropped_events",
        "Events lost before they were delivered: the backlog was too long.",
        _ENDPOINT,
        _by_endpoint(lambda view: view.sources.recorder.dropped_deliveries),
    ),
    Family(
        "counter",
        "rawpush_webhook_dropped_dead_letters",
        "Dead letters that had to make room.",
        _ENDPOINT,
        _by_endpoint(lambda view: view.sources.dead_letters_dropped()),
    ),
    # the process
    Family(
        "histogram",
        "rawpush_loop_lag_seconds",
        "How late the event loop comes to what is due.",
        (),
        lambda view: [((), view.sources.pulse.lag)],
    ),
)


def collect(view: View) -> list[Metric]:
    """Return all of it as it stands; costs a few microseconds a series."""
    return [family.collect(view) for family in FAMILIES]
