"""The pulse: how late the loop is, and what happens per second."""

from __future__ import annotations

import asyncio

import pytest

from gateway.admin.pulse import Pulse, until
from gateway.telemetry import Telemetry
from tests.patience import LONG_S


def test_rates_are_those_of_the_last_ten_seconds() -> None:
    telemetry = Telemetry()
    pulse = Pulse(telemetry, 100.0)
    assert pulse.rates()["frames_received"] == 0.0
    for second in range(1, 31):
        telemetry.frames_received += 40 if second > 20 else 1000
        telemetry.publications["http"] += 1
        telemetry.publications["client"] += 1
        for quarter in range(4):
            pulse.beat(100.0 + second + quarter / 4, 0.0)
    assert pulse.rates()["frames_received"] == 40.0
    assert pulse.rates()["publications"] == 2.0


def test_lag_is_counted_and_the_worst_of_late_is_told_and_forgotten() -> None:
    pulse = Pulse(Telemetry(), 0.0)
    pulse.beat(0.25, 0.3)
    assert pulse.worst_lag_s == 0.3
    for second in range(1, 12):
        pulse.beat(float(second), 0.002)
        assert pulse.worst_lag_s == 0.3
    pulse.beat(12.0, 0.002)
    assert pulse.worst_lag_s == 0.002
    assert pulse.lag.counts[1] == 12
    assert sum(pulse.lag.counts) == 13


@pytest.mark.parametrize(
    ("now", "rest_s"), [(8.0, 0.25), (8.01, 0.24), (8.125, 0.125), (8.126, 0.374), (8.2499, 0.2501), (1e6 + 0.25, 0.25)]
)
def test_it_is_time_at_whole_multiples_at_least_half_of_one_apart(now: float, rest_s: float) -> None:
    assert until(now, 0.25) == pytest.approx(rest_s)


async def test_it_beats_by_itself() -> None:
    pulse = Pulse(Telemetry(), 0.0)
    running = asyncio.create_task(pulse.run())
    async with asyncio.timeout(LONG_S):
        while not sum(pulse.lag.counts):  # noqa: ASYNC110 -- a beat is not announced
            await asyncio.sleep(0)
    running.cancel()
