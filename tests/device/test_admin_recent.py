"""How an endpoint has answered lately: only what is recent counts."""

from __future__ import annotations

import pytest

from gateway.admin.recent import READING_S, Recent, quantile
from gateway.core.delivery import Outcome, Settlement, Stage, State
from gateway.telemetry import ATTEMPT_BOUNDS_S, Telemetry
from tests.desk_kit import endpoint

BACKEND = endpoint()
KEY = BACKEND.key


def attempt(telemetry: Telemetry, outcome: Outcome | None, times: int = 1) -> None:
    for number in range(times):
        state = State.DELIVERED if outcome is not None and outcome.is_success else State.DEAD
        telemetry.attempted(BACKEND, Settlement(KEY, 0, "evt_1", number, number, 1, 1, 0, 0, state, outcome))


def answered(status: int, latency_ms: float) -> Outcome:
    return Outcome(Stage.ANSWERED, latency_ms, status)


def test_it_tells_the_share_of_2xx_and_the_latencies_of_each_endpoint() -> None:
    telemetry = Telemetry()
    recent = Recent(telemetry, 0.0)
    attempt(telemetry, answered(200, 1.0), 3)
    attempt(telemetry, answered(500, 1.0))
    attempt(telemetry, None)  # given up without an attempt
    told = recent.told(1.0)
    assert told("740213/other") == {"attempts": 0}
    assert (told(KEY)["attempts"], told(KEY)["success_rate"]) == (4, 0.75)
    assert 0 < told(KEY)["p50_ms"] <= told(KEY)["p95_ms"] <= 1000 * ATTEMPT_BOUNDS_S[0]


def test_what_is_older_than_five_minutes_does_not_count() -> None:
    telemetry = Telemetry()
    recent = Recent(telemetry, 0.0)
    attempt(telemetry, answered(500, 1.0), 9)
    for number in range(1, 12):
        recent.beat(number * READING_S)
        recent.beat(number * READING_S + 0.1)  # too early for another reading
    assert recent.told(400.0)(KEY) == {"attempts": 0}
    attempt(telemetry, answered(200, 1.0))
    assert recent.told(400.0)(KEY)["success_rate"] == 1.0


@pytest.mark.parametrize(("share", "told"), [(0.5, 1000 * ATTEMPT_BOUNDS_S[0]), (1.0, 1000 * ATTEMPT_BOUNDS_S[1])])
def test_a_quantile_is_read_off_the_bounds(share: float, told: float) -> None:
    counts = [2, 2, *[0] * (len(ATTEMPT_BOUNDS_S) - 1)]
    assert quantile(counts, share) == pytest.approx(told)


def test_nobody_knows_a_quantile_of_nothing_or_beyond_the_last_bound() -> None:
    beyond = [*[0] * len(ATTEMPT_BOUNDS_S), 1]
    assert (quantile([0] * len(beyond), 0.5), quantile(beyond, 0.5)) == (None, None)
