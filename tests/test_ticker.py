"""When what waits is looked after: in time for all of it, and seldom while there is nothing."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from dataclasses import dataclass, replace

import pytest

from gateway.core.lifecycle import Span
from gateway.core.tally import FEW, PACE_S
from gateway.ticker import LONGEST_S, TICK_S, Ticker
from tests.fake import FakeClock
from tests.test_bulletin import count
from tests.test_node import APP, House, furnished
from tests.test_user import GUARDED, leave, news, signed_in, watching


@dataclass
class FakeTimer:
    at: float
    call: Callable[[], None]
    is_cancelled: bool = False

    def cancel(self) -> None:
        self.is_cancelled = True


class FakeTimers:
    """Time, and what it brings."""

    def __init__(self, clock: FakeClock) -> None:
        self.clock = clock
        self.timers: list[FakeTimer] = []
        #: how often something was called
        self.calls = 0

    def later(self, seconds: float, call: Callable[[], None]) -> FakeTimer:
        timer = FakeTimer(self.clock.now + seconds, call)
        self.timers.append(timer)
        return timer

    def pass_time(self, seconds: float) -> None:
        until = self.clock.now + seconds
        while due := [timer for timer in self.timers if not timer.is_cancelled and timer.at <= until]:
            timer = min(due, key=lambda timer: timer.at)
            self.timers.remove(timer)
            self.clock.move(max(0.0, timer.at - self.clock.now))
            self.calls += 1
            timer.call()
        self.clock.move(until - self.clock.now)


class Looks:
    """What `look` finds: the times at which something is due."""

    def __init__(self) -> None:
        self.clock = FakeClock()
        self.timers = FakeTimers(self.clock)
        self.due: list[float] = []
        #: how late each was found
        self.late: list[float] = []
        self.ticker = Ticker(self.look)

    def look(self) -> float | None:
        self.late += [self.clock.now - at for at in self.due if at <= self.clock.now]
        self.due = [at for at in self.due if at > self.clock.now]
        return min(self.due) - self.clock.now if self.due else None

    def wait(self, seconds: float) -> None:
        self.due.append(self.clock.now + seconds)
        self.ticker.wake()


def test_it_looks_seldom_while_nothing_waits() -> None:
    looks = Looks()
    looks.ticker.start(looks.timers.later)
    looks.timers.pass_time(100 * LONGEST_S)
    assert 100 <= looks.timers.calls <= 101


@pytest.mark.parametrize("waits", [[0.0], [0.01], [3.0], [3.0, 0.5], [0.5, 3.0], [60.0], [60.0, 59.99, 1.0], [0.03] * 10])
def test_what_waits_is_found_in_time_though_it_began_in_the_midst_of_a_rest(waits: list[float]) -> None:
    looks = Looks()
    looks.ticker.start(looks.timers.later)
    looks.timers.pass_time(LONGEST_S * 1.5)
    for seconds in waits:
        looks.wait(seconds)
        looks.timers.pass_time(0.01)
    looks.timers.calls = 0
    looks.timers.pass_time(max(waits) + 1)
    assert len(looks.late) == len(waits)
    assert max(looks.late) <= TICK_S + 1e-6
    assert looks.timers.calls <= 2 * len(waits) + max(waits) // LONGEST_S + 1


def test_many_wakes_are_one_look() -> None:
    looks = Looks()
    looks.ticker.start(looks.timers.later)
    looks.timers.pass_time(1.0)
    looks.timers.calls = 0
    for _ in range(100):
        looks.ticker.wake()
        looks.timers.pass_time(TICK_S / 200)
    looks.timers.pass_time(1.0)
    assert looks.timers.calls == 1


def test_before_the_start_and_after_the_stop_nothing_happens() -> None:
    looks = Looks()
    looks.ticker.wake()
    looks.ticker.stop()
    looks.ticker.start(looks.timers.later)
    looks.timers.pass_time(1.0)
    looks.ticker.stop()
    looks.ticker.stop()
    looks.timers.calls = 0
    looks.ticker.wake()
    looks.timers.pass_time(100.0)
    assert looks.timers.calls == 0


def test_a_look_that_fails_is_logged_and_made_again(caplog: pytest.LogCaptureFixture) -> None:
    failures = [ValueError("no"), ValueError("no"), None]

    def look() -> None:
        if failures and (failure := failures.pop(0)):
            raise failure

    timers = FakeTimers(FakeClock())
    Ticker(look).start(timers.later)
    with caplog.at_level(logging.ERROR):
        timers.pass_time(3 * TICK_S + 0.001)
    assert failures == []
    assert [record.message for record in caplog.records] == ["a lingering departure failed"] * 2


async def test_the_loop_of_a_gateway_will_do() -> None:
    looked = asyncio.Event()
    ticker = Ticker(looked.set)
    ticker.start(asyncio.get_running_loop().call_later)
    await looked.wait()
    ticker.stop()


# -- a node


def resting(house: House) -> FakeTimers:
    """Start the node's ticker and let so much time pass that the longest rest has just begun."""
    timers = FakeTimers(house.clock)
    house.node.ticker.start(timers.later)
    timers.pass_time(LONGEST_S + TICK_S + 0.001)
    return timers


def after(house: House, timers: FakeTimers, seconds: float) -> None:
    """Let so much time pass, and as much more as a look may be late."""
    timers.pass_time(seconds + TICK_S + 0.001)
    house.sweep()


async def test_a_departure_counts_when_its_linger_is_over() -> None:
    async for house in furnished(replace(APP, linger_s=3.0)):
        live, _ = house.connect()
        house.join(live, "presence-room", "ada")
        timers = resting(house)
        leave(house, live)
        await house.events()
        timers.pass_time(2.99)
        assert await house.kinds() == []
        after(house, timers, 0.01)
        assert await house.kinds() == ["channel.member_removed", "channel.vacated"]
        assert timers.calls < 8


async def test_who_proves_nothing_is_sent_away_in_time() -> None:
    async for house in furnished(GUARDED, events=()):
        timers = resting(house)
        _, connection = house.connect()
        after(house, timers, 4.9)
        assert connection.closed is None
        after(house, timers, 0.1)
        assert connection.closed is not None


async def test_who_has_to_prove_something_since_a_reload_is_sent_away_in_time() -> None:
    async for house in furnished(events=()):
        _, connection = house.connect()
        timers = resting(house)
        house.node.adopt([GUARDED])
        after(house, timers, 5.0)
        assert connection.closed is not None


async def test_watchers_are_told_at_once_of_a_coming_and_in_time_of_a_going() -> None:
    async for house in furnished(replace(APP, linger_s=3.0), events=()):
        watcher = watching(house, "ada")
        timers = resting(house)
        ada, _ = signed_in(house, "ada")
        after(house, timers, 0.0)
        assert news(watcher) == [("online", ["ada"])]
        timers.pass_time(LONGEST_S)
        leave(house, ada)
        after(house, timers, 2.9)
        assert news(watcher) == []
        after(house, timers, 0.1)
        assert news(watcher) == [("offline", ["ada"])]


async def test_a_number_that_had_to_wait_is_told_in_time() -> None:
    async for house in furnished(replace(APP, subscription_counts=True), events=()):
        timers = resting(house)
        crowd = [house.connect() for _ in range(FEW + 2)]
        for live, _ in crowd:
            house.say(live, "pusher:subscribe", {"channel": "orders"})
        _, witness = crowd[0]
        assert witness.frames()[-1] == count("orders", FEW + 1)
        after(house, timers, PACE_S - 0.1)
        assert witness.frames() == []
        after(house, timers, 0.1)
        assert witness.frames() == [count("orders", FEW + 2)]


async def test_what_a_former_life_left_open_is_closed_in_time() -> None:
    async for house in furnished():
        house.node.recover([Span("1001", "channel", "orders", "spn_1", house.clock.epoch)], 30.0)
        timers = FakeTimers(house.clock)
        house.node.ticker.start(timers.later)
        timers.pass_time(29.9)
        assert await house.kinds() == []
        after(house, timers, 0.1)
        assert await house.kinds() == ["channel.vacated"]
