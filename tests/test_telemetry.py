"""What the gateway says of itself: one line each, readable by people or by machines, never forged."""

from __future__ import annotations

import logging
import sys

import orjson
import pytest

from gateway.core.delivery import Outcome, Settlement, Stage, State
from gateway.core.endpoint import Endpoint
from gateway.telemetry import Histogram, JsonFormatter, Telemetry, TextFormatter
from tests.fake import FakeConnection

ENDPOINT = Endpoint("1001", "backend", "http://127.0.0.1:9/?token=hidden", ("hidden",))


def settlement(state: State, outcome: Outcome | None, **changes: object) -> Settlement:
    values: dict[str, object] = {
        "endpoint": ENDPOINT.key,
        "lane": 3,
        "request_id": "evt_1",
        "first_sequence": 1,
        "last_sequence": 2,
        "count": 2,
        "attempts": 1,
        "at_ms": 1000,
        "first_at_ms": 1000,
        "state": state,
        "outcome": outcome,
    }
    return Settlement(**(values | changes))  # type: ignore[arg-type]


def test_an_attempt_is_counted_and_told_in_one_line(caplog: pytest.LogCaptureFixture) -> None:
    telemetry = Telemetry()
    with caplog.at_level(logging.INFO, "rawpush"):
        telemetry.attempted(ENDPOINT, settlement(State.DELIVERED, Outcome(Stage.ANSWERED, 1.25, 204)))
        telemetry.attempted(ENDPOINT, settlement(State.DUE, Outcome(Stage.DNS, 2.0, error="no such name"), due_at_ms=1500))
        telemetry.attempted(ENDPOINT, settlement(State.DEAD, None, reason="max_age"))
    assert telemetry.attempts == {(ENDPOINT.key, "2xx"): 1, (ENDPOINT.key, "dns"): 1, (ENDPOINT.key, "none"): 1}
    assert telemetry.dead_letters == {ENDPOINT.key: 2}
    lines = [orjson.loads(JsonFormatter().format(record)) for record in caplog.records]
    assert [(line["message"], line["level"]) for line in lines] == [
        ("webhook delivered", "info"),
        ("webhook due", "warning"),
        ("webhook dead", "warning"),
    ]
    assert lines[1]["retry_in_ms"] == 500
    assert lines[2]["given_up"] == "max_age"
    assert "hidden" not in str(lines)


def test_nothing_is_built_for_a_level_that_is_off(caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR, "rawpush"):
        Telemetry().connection_ended("1001", "1.1", 1000, "client", duration_ms=1)
    assert caplog.records == []


@pytest.mark.parametrize("formatter", [TextFormatter(), JsonFormatter()])
def test_no_text_forges_a_line(formatter: logging.Formatter, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.INFO, "rawpush"):
        Telemetry().note(logging.ERROR, "odd", error='x" \n12:00:00 error \x1b[31m forged \u202e')
    line = formatter.format(caplog.records[0])
    assert "\n" not in line
    assert "\x1b" not in line
    assert "forged" in line


def test_an_exception_comes_with_its_stack() -> None:
    try:
        raise ValueError("here")
    except ValueError:
        record = logging.getLogger("rawpush").makeRecord("rawpush", logging.ERROR, "", 0, "it failed", (), None)
        record.exc_info = sys.exc_info()
    assert "ValueError: here" in TextFormatter().format(record)
    assert "ValueError: here" in orjson.loads(JsonFormatter().format(record))["exception"]


def test_a_histogram_counts_up_to_and_including_its_bounds() -> None:
    told = Histogram((0.1, 1.0))
    for value in (0.0, 0.1, 0.100001, 1.0, 7.5):
        told.observe(value)
    assert told.counts == [2, 2, 1]
    assert told.total == pytest.approx(8.700001)


def test_what_ended_connections_carried_is_kept() -> None:
    telemetry = Telemetry()
    connection = FakeConnection()
    connection.received_bytes, connection.sent_messages, connection.sent_bytes = 1, 2, 3
    telemetry.carried(connection)
    telemetry.carried(connection)
    assert (telemetry.ended_received_bytes, telemetry.ended_sent_frames, telemetry.ended_sent_bytes) == (2, 4, 6)
