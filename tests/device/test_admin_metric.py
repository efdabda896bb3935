"""Metrics: what the official parsers make of them, and that they say what is so."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
from prometheus_client import parser
from prometheus_client.metrics_core import Metric
from prometheus_client.openmetrics import parser as openmetrics_parser

from gateway.admin.metric import FAMILIES
from gateway.admin.scrape import Scraper
from gateway.core.delivery import Outcome, Stage, State
from gateway.core.publication import Publication
from gateway.core.webhook import request
from gateway.node import Handshake
from tests.desk_kit import REFUSED_500, FakeHealth, endpoint
from tests.device.admin_kit import House, serve
from tests.fake import FakeConnection

OPEN = "application/openmetrics-text; version=1.0.0"

Labels = dict[str, str]


async def scrape(house: House, accept: str = OPEN) -> dict[str, Metric]:
    content_type, body = await Scraper(house.sources).scrape(accept)
    if accept == OPEN:
        assert content_type.startswith("application/openmetrics-text; version=1.0.0")
        return {family.name: family for family in openmetrics_parser.text_string_to_metric_families(body.decode())}
    assert content_type.startswith("text/plain; version=0.0.4")
    return {family.name: family for family in parser.text_string_to_metric_families(body.decode())}


def value(families: dict[str, Metric], sample: str, **labels: str) -> float | None:
    found = [one.value for family in families.values() for one in family.samples if one.name == sample and one.labels == labels]
    assert len(found) <= 1
    return found[0] if found else None


async def busy() -> House:
    """A house in which everything has happened once."""
    house = House()
    await house.recorder.start()
    (live, connection), (leaving, _) = house.connect(), house.connect("key-2")
    house.join(live, "orders")
    house.node.lost(leaving, 1000, "client")
    house.node.publish([Publication("740213", "created", ("orders",), "{}")])
    house.node.reject("740213", "invalid_data", "orders", "created", 7)
    house.telemetry.subscriptions_throttled += 6
    assert house.node.open(Handshake("nobody's", "7", "js", "8.6.0", None, "test/1", "203.0.113.9"), FakeConnection()) is None
    house.kit.deliverer.health["740213/backend"] = FakeHealth("backing off", running=3)
    connection.received_bytes = 50
    [event] = await house.kit.happen(1)
    delivery = house.kit.router.route(event)[0]
    for outcome, state in ((REFUSED_500, State.DUE), (Outcome(Stage.TIMEOUT, 10_000.0), State.DEAD)):
        one = request(endpoint(), (delivery,))
        house.telemetry.attempted(endpoint(), house.kit.settlement(one.id, (delivery,), 1, state, outcome))
    house.recorder.dropped_deliveries["740213/backend"] += 4
    house.telemetry.certificate_expires_at = 1_800_000_000.5
    house.outbox.dead_letters_dropped["740213/backend"] += 5
    house.sources.pulse.beat(house.clock.monotonic(), 0.02)
    await house.recorder.committed()
    house.clock.move(3)
    return house


@pytest.mark.parametrize("accept", [OPEN, "", "text/plain"])
async def test_both_formats_are_read_by_the_official_parsers(accept: str) -> None:
    house = await busy()
    families = await scrape(house, accept)
    assert {name for name in families if name.startswith("process_")} >= {"process_resident_memory_bytes", "process_open_fds"}
    for family in FAMILIES:
        told = families.pop(family.name if accept == OPEN or family.kind != "info" else family.shown)
        assert told.documentation == family.text
        assert told.type == (family.kind if accept == OPEN or family.kind != "info" else "gauge")
        assert told.samples
        for sample in told.samples:
            assert tuple(name for name in sample.labels if name != "le") == family.labels
    assert not [name for name in families if name.startswith("rawpush_")]
    await house.recorder.stop(1)


async def test_without_tls_there_is_no_certificate_to_expire() -> None:
    house = House()
    families = await scrape(house)
    assert families["rawpush_certificate_expires_timestamp_seconds"].samples == []


async def test_they_say_what_is_so() -> None:
    house = await busy()
    families = await scrape(house)
    at = {"app": "740213", "endpoint": "backend"}
    for sample, labels, expected in (
        ("rawpush_build_info", {"version": "1.2.3"}, 1),
        ("rawpush_ready", {}, 1),
        ("rawpush_certificate_expires_timestamp_seconds", {}, 1_800_000_000.5),
        ("rawpush_connections", {"app": "740213"}, 1),
        ("rawpush_connections", {"app": "740215"}, 0),
        ("rawpush_connections_opened_total", {}, 2),
        ("rawpush_connections_closed_total", {"reason": "client"}, 1),
        ("rawpush_connections_refused_total", {"code": "4001"}, 1),
        ("rawpush_channels", {"app": "740213"}, 1),
        ("rawpush_frames_received_total", {}, 1),
        ("rawpush_frames_sent_total", {}, 4),
        ("rawpush_received_bytes_total", {}, 50),
        ("rawpush_subscriptions_throttled_total", {}, 6),
        ("rawpush_publications_total", {"source": "http"}, 1),
        ("rawpush_publications_total", {"source": "client"}, 0),
        ("rawpush_deliveries_total", {}, 1),
        ("rawpush_rejections_total", {"reason": "invalid_data"}, 1),
        ("rawpush_events_total", {"kind": "channel.occupied"}, 1),
        ("rawpush_recorder_queue_records", {}, 0),
        ("rawpush_recorder_queue_limit_records", {}, 1000),
        ("rawpush_outbox_writable", {}, 1),
        ("rawpush_outbox_readable", {}, 1),
        ("rawpush_outbox_size_bytes", {}, 4096),
        ("rawpush_outbox_limit_bytes", {}, 1 << 30),
        ("rawpush_webhook_backlog_events", at, 6),
        ("rawpush_webhook_oldest_age_seconds", at, 4),
        ("rawpush_webhook_dead_letters", at, 0),
        ("rawpush_webhook_state", {**at, "state": "healthy"}, 0),
        ("rawpush_webhook_state", {**at, "state": "backing off"}, 1),
        ("rawpush_webhook_running_requests", at, 3),
        ("rawpush_webhook_attempts_total", {**at, "outcome": "5xx"}, 1),
        ("rawpush_webhook_attempts_total", {**at, "outcome": "timeout"}, 1),
        ("rawpush_webhook_attempt_duration_seconds_bucket", {**at, "le": "0.01"}, 0),
        ("rawpush_webhook_attempt_duration_seconds_bucket", {**at, "le": "0.025"}, 1),
        ("rawpush_webhook_attempt_duration_seconds_bucket", {**at, "le": "10.0"}, 2),
        ("rawpush_webhook_attempt_duration_seconds_count", at, 2),
        ("rawpush_webhook_given_up_events_total", at, 1),
        ("rawpush_webhook_dropped_events_total", at, 4),
        ("rawpush_webhook_dropped_dead_letters_total", at, 5),
        ("rawpush_loop_lag_seconds_bucket", {"le": "0.01"}, 0),
        ("rawpush_loop_lag_seconds_bucket", {"le": "0.025"}, 1),
    ):
        assert value(families, sample, **labels) == expected, (sample, labels)
    await house.recorder.stop(1)


async def test_a_disk_that_fails_shows_everywhere() -> None:
    async with serve() as served:
        house = served.house
        assert (await served.get("/readyz")).status == 200
        house.outbox.refuses_writes = True
        refused = await served.post("/v1/apps/740213/events", {"name": "e", "channel": "orders", "data": "x"})
        assert (refused.status, refused.headers["Retry-After"]) == (503, "1")
        readiness = await served.get("/readyz")
        assert (readiness.status, readiness.json) == (503, {"ready": False, "reasons": ["the outbox cannot be written"]})
        families = await scrape(house)
        assert value(families, "rawpush_outbox_writable") == 0
        assert value(families, "rawpush_ready") == 0
        assert value(families, "rawpush_recorder_queue_records") == 1
        told = (await served.get("/v1/overview")).json
        assert (told["ready"], told["outbox"]["writable"], told["recorder"]["failing"]) == (False, False, True)
        house.outbox.refuses_writes = False
        await house.recorder.committed()
        assert (await served.get("/readyz")).status == 200
        assert value(await scrape(house), "rawpush_outbox_writable") == 1
        house.clock.move(10)
        house.outbox.refuses_reads = True
        families = await scrape(house)
        assert value(families, "rawpush_outbox_readable") == 0
        assert value(families, "rawpush_webhook_backlog_events", app="740213", endpoint="backend") is None
        assert value(families, "rawpush_connections", app="740213") == 0, "what needs no disk is told all the same"


async def test_nothing_of_a_client_becomes_a_label() -> None:
    house = House()
    few = await scrape(house)
    for number in range(50):
        live, _ = house.connect()
        house.join(live, f"room-{number}")
    many = await scrape(house)
    assert sum(len(family.samples) for family in many.values()) == sum(len(family.samples) for family in few.values())


def test_names_and_units_follow_the_rules() -> None:
    names = [family.name for family in FAMILIES]
    assert len(names) == len(set(names))
    for family in FAMILIES:
        assert re.fullmatch(r"rawpush(_[a-z]+)+", family.name)
        assert not family.name.endswith(("_total", "_info", "_count", "_sum", "_bucket", "_created")), "that is a sample's name"
        assert not re.search(r"_(ms|milliseconds|minutes|kb|mb|percent)\b", family.name)
        assert family.text.endswith(".")


def test_the_page_has_every_metric() -> None:
    page = (Path(__file__).parents[2] / "docs" / "metrics.md").read_text()
    for family in FAMILIES:
        assert page.count(f"| `{family.shown}` | {family.kind} |") == 1
