from __future__ import annotations

import asyncio
import errno
import gc
import hashlib
import hmac
import random
import selectors
from collections import defaultdict
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from dataclasses import dataclass, replace
from functools import wraps
from typing import Any

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.core.delivery import REPLAY_LANE, Claim, Delivery, Outcome, Settlement, Stage, State
from gateway.core.endpoint import Endpoint
from gateway.core.retry import RetryPolicy
from gateway.delivery.pool import Pool
from gateway.outbox.memory import MemoryOutbox
from gateway.ports import Commit
from gateway.telemetry import Telemetry

HOUR = 3600.0
START_MS = 1_754_300_000_000


# -- time that passes only when nobody has anything to do


class _Selector(selectors.DefaultSelector):
    """Waits for nothing: what would have been a wait moves the loop's time on."""

    loop: InstantLoop

    def select(self, timeout: float | None = None) -> list[tuple[selectors.SelectorKey, int]]:
        ready = super().select(0)
        if not ready:
            assert timeout is not None, "everybody waits, and for nothing"
            self.loop.now += timeout
        return ready


class InstantLoop(asyncio.SelectorEventLoop):
    def __init__(self) -> None:
        self.now = 1000.0
        selector = _Selector()
        selector.loop = self
        super().__init__(selector)

    def time(self) -> float:
        return self.now


def instantly(test: Callable[..., Coroutine[Any, Any, None]]) -> Callable[..., None]:
    """Run an async test on a loop whose time is its own."""

    @wraps(test)
    def run(*args: Any, **kwargs: Any) -> None:
        with asyncio.Runner(loop_factory=InstantLoop) as runner:
            runner.run(test(*args, **kwargs))

    return run


class LoopClock:
    """Both clocks go with the loop; the wall clock can be set."""

    def __init__(self) -> None:
        self._loop = asyncio.get_running_loop()
        self.wall_offset_s = 0.0

    def monotonic(self) -> float:
        return self._loop.time()

    def epoch_ms(self) -> int:
        return START_MS + round((self._loop.time() - 1000.0 + self.wall_offset_s) * 1000)


# -- both ends of the pool


@dataclass
class Attempt:
    at: float
    endpoint: str
    headers: Mapping[str, str]
    body: bytes

    @property
    def id(self) -> str:
        return self.headers["X-Webhook-Id"]

    @property
    def number(self) -> int:
        return int(self.headers["X-Webhook-Attempt"])


Answer = int | Outcome | Awaitable["int | Outcome"]


class PlayedSender:
    """Keeps every attempt and lets `answer` say what comes back: an outcome, a status, or something to wait for."""

    def __init__(self, answer: Callable[[Attempt], Answer] = lambda attempt: 200) -> None:
        self.answer = answer
        self.attempts: list[Attempt] = []
        self.forgotten: list[str] = []
        self.at_once: defaultdict[str, int] = defaultdict(int)
        self.most_at_once: defaultdict[str, int] = defaultdict(int)

    async def send(self, endpoint: Endpoint, headers: Mapping[str, str], body: bytes) -> Outcome:
        attempt = Attempt(asyncio.get_running_loop().time(), endpoint.key, headers, body)
        self.attempts.append(attempt)
        self.at_once[endpoint.key] += 1
        self.most_at_once[endpoint.key] = max(self.most_at_once[endpoint.key], self.at_once[endpoint.key])
        try:
            answer = self.answer(attempt)
            if isinstance(answer, Awaitable):
                answer = await answer
        finally:
            self.at_once[endpoint.key] -= 1
        return answered(answer) if isinstance(answer, int) else answer

    async def forget(self, endpoint_key: str) -> None:
        self.forgotten.append(endpoint_key)

    async def close(self) -> None:
        pass

    def bodies(self, endpoint: str = "1/a") -> list[bytes]:
        return [attempt.body for attempt in self.attempts if attempt.endpoint == endpoint]


def answered(status: int, *, retry_after_s: float | None = None) -> Outcome:
    return Outcome(Stage.ANSWERED, 1.0, status, retry_after_s)


class WatchedOutbox(MemoryOutbox):
    """Keeps every settlement, and fails when told to."""

    def __init__(self) -> None:
        super().__init__(capacity=1_000_000)
        self.settled: list[Settlement] = []
        self.trouble: defaultdict[str, list[OSError]] = defaultdict(list)
        self.claimed: Callable[[int], Awaitable[None]] | None = None

    async def claim(self, endpoint: str, lane: int, limit: int) -> Claim | None:
        if self.trouble["claim"]:
            raise self.trouble["claim"].pop()
        claim = await super().claim(endpoint, lane, limit)
        if self.claimed is not None:
            await self.claimed(lane)
        return claim

    async def settle(self, settlement: Settlement) -> None:
        if self.trouble["settle"]:
            raise self.trouble["settle"].pop()
        await super().settle(settlement)
        self.settled.append(settlement)

    def last(self, state: State) -> list[Settlement]:
        return [settlement for settlement in self.settled if settlement.state is state]


class World:
    """A pool with its surroundings; `due` makes deliveries and wakes the lanes, as the recorder would."""

    def __init__(self, *endpoints: Endpoint, answer: Callable[[Attempt], Answer] = lambda attempt: 200, seed: int = 1) -> None:
        self.clock = LoopClock()
        self.outbox = WatchedOutbox()
        self.sender = PlayedSender(answer)
        self.telemetry = Telemetry()
        self.sequence: defaultdict[str, int] = defaultdict(int)
        self.dice = random.Random(seed)
        self.endpoints = endpoints or (endpoint(),)
        self.pool = self.another_pool()

    def another_pool(self) -> Pool:
        self.pool = Pool(
            outbox=self.outbox,
            sender=self.sender,
            clock=self.clock,
            telemetry=self.telemetry,
            roll=self.dice.random,
            user_agent="test/1",
        )
        self.pool.configure(self.endpoints)
        return self.pool

    async def due(self, *lanes: int, key: str = "1/a", at_ms: int | None = None) -> list[Delivery]:
        made = []
        for lane in lanes:
            self.sequence[key] += 1
            number = self.sequence[key]
            made.append(
                Delivery(
                    key,
                    number,
                    lane,
                    f"evt_{number}",
                    "client_event",
                    at_ms or self.clock.epoch_ms(),
                    b'{"n":%d,"lane":%d}' % (number, lane),
                )
            )
        await self.outbox.append(Commit(deliveries=tuple(made)))
        self.pool.wake({(delivery.endpoint, delivery.lane) for delivery in made})
        return made

    @property
    def now(self) -> float:
        """Seconds since the beginning."""
        return self.clock.monotonic() - 1000.0

    async def left(self, key: str = "1/a") -> int:
        return (await self.outbox.backlog(key)).count


def endpoint(name: str = "a", **fields: Any) -> Endpoint:
    return Endpoint("1", name, f"http://{name}.test/hooks", ("secret",), **fields)


def lane_of(attempt: Attempt) -> int:
    return int(attempt.body.partition(b'"lane":')[2].rstrip(b"}"))


def number_of(attempt: Attempt) -> int:
    return int(attempt.body.partition(b'"n":')[2].partition(b",")[0])


async def never() -> int:
    await asyncio.Event().wait()
    raise AssertionError


async def after(seconds: float, answer: int | Outcome = 200) -> int | Outcome:
    await asyncio.sleep(seconds)
    return answer


# -- order, numbers, bytes


@settings(max_examples=40, deadline=None)
@given(seed=st.integers(0, 2**32), concurrency=st.integers(1, 6), batch=st.booleans(), failing=st.floats(0, 0.7))
@instantly
async def test_whatever_fails_each_lane_keeps_its_order_and_nothing_is_missing(
    seed: int, concurrency: int, batch: bool, failing: float
) -> None:
    dice = random.Random(seed)

    def answer(attempt: Attempt) -> Awaitable[int | Outcome]:
        outcome = answered(200)
        if dice.random() < failing:
            outcome = dice.choice(
                [
                    answered(500),
                    answered(429, retry_after_s=3),
                    Outcome(Stage.CONNECT, 1, error="x"),
                    Outcome(Stage.TIMEOUT, 1, error="x"),
                ]
            )
        return after(dice.random(), outcome)

    format = "batch" if batch else "event"
    world = World(endpoint(concurrency=concurrency, format=format, batch_max=5), answer=answer, seed=seed)
    await world.pool.start()
    made: dict[int, list[str]] = defaultdict(list)
    for _ in range(60):
        for delivery in await world.due(*(dice.randrange(concurrency) for _ in range(dice.randint(1, 3)))):
            made[delivery.lane].append(f'{{"n":{delivery.sequence},"lane":{delivery.lane}}}')
        await asyncio.sleep(dice.random() / 10)
    assert await world.pool.drain(20 * HOUR) == 0

    delivered: dict[int, list[str]] = defaultdict(list)
    for settlement in world.outbox.settled:
        if settlement.state is State.DELIVERED:
            delivered[settlement.lane] += [
                f'{{"n":{number},"lane":{settlement.lane}}}'
                for number in range(settlement.first_sequence, settlement.last_sequence + 1)
                if f'{{"n":{number},"lane":{settlement.lane}}}' in made[settlement.lane]
            ]
        assert settlement.state is not State.DEAD
    assert delivered == made

    tries: dict[str, list[Attempt]] = defaultdict(list)
    for attempt in world.sender.attempts:
        tries[attempt.id].append(attempt)
    for attempts in tries.values():
        assert [attempt.number for attempt in attempts] == list(range(1, len(attempts) + 1))
        assert len({attempt.body for attempt in attempts}) == 1
    assert world.sender.most_at_once["1/a"] <= concurrency
    await world.pool.stop()


@instantly
async def test_each_attempt_is_signed_anew() -> None:
    world = World(answer=lambda attempt: 500 if attempt.number < 3 else 200)
    await world.pool.start()
    await world.due(0)
    assert await world.pool.drain(HOUR) == 0
    attempts = world.sender.attempts
    assert [attempt.number for attempt in attempts] == [1, 2, 3]
    for attempt in attempts:
        assert attempt.headers["X-Webhook-Timestamp"] == str((START_MS + round((attempt.at - 1000) * 1000)) // 1000)
        assert attempt.headers["User-Agent"] == "test/1"
        assert set(attempt.headers) == set(attempts[0].headers)
    assert len({attempt.headers["webhook-id"] for attempt in attempts}) == 1
    await world.pool.stop()


@instantly
async def test_what_piled_up_during_a_request_travels_together_and_a_retry_is_not_cut_anew() -> None:
    statuses = iter([200, 500, 500])
    world = World(endpoint(format="batch", batch_max=3, concurrency=1), answer=lambda attempt: after(1, next(statuses, 200)))
    await world.pool.start()
    await world.due(0)
    await asyncio.sleep(0.5)
    await world.due(0, 0)
    await asyncio.sleep(1)  # the second request is under way with two; two more must not join it
    await world.due(0, 0)
    assert await world.pool.drain(HOUR) == 0
    cut = [body.count(b'"n":') for body in world.sender.bodies()]
    assert cut == [1, 2, 2, 2, 2]
    assert len(set(world.sender.bodies()[1:4])) == 1
    await world.pool.stop()


@instantly
async def test_between_webhooks_of_several_events_a_lane_rests_for_as_long_as_the_last_one_took() -> None:
    world = World(endpoint(format="batch", batch_max=3, concurrency=1), answer=lambda attempt: after(0.02))
    await world.pool.start()
    await world.due(0)
    await asyncio.sleep(0.03)
    await world.due(0, 0)  # while it rests
    await asyncio.sleep(0.02)
    await world.due(0, 0, 0, 0)  # while the second is under way; the third is full, and the fourth follows at once
    assert await world.pool.drain(HOUR) == 0
    assert [body.count(b'"n":') for body in world.sender.bodies()] == [1, 2, 3, 1]
    assert [round(attempt.at - 1000, 3) for attempt in world.sender.attempts] == [0, 0.04, 0.08, 0.1]
    await world.pool.stop()


@instantly
async def test_a_webhook_of_one_event_is_noted_a_moment_later_and_one_of_several_at_once() -> None:
    world = World(endpoint(format="batch", concurrency=1))
    lagging: list[int] = []
    settle_soon = world.outbox.settle_soon

    async def noted_soon(settlement: Settlement) -> None:
        lagging.append(settlement.last_sequence)
        await settle_soon(settlement)

    world.outbox.settle_soon = noted_soon  # type: ignore[method-assign]
    await world.due(0)
    await world.due(0, 0)
    await world.pool.start()
    await world.pool.drain(5)
    await world.due(0)
    await world.pool.drain(5)
    assert [(settlement.count, settlement.last_sequence) for settlement in world.outbox.settled] == [(3, 3), (1, 4)]
    assert lagging == [4]
    await world.pool.stop()


@instantly
async def test_what_the_loop_was_given_together_with_an_answer_comes_before_what_follows_from_that() -> None:
    order: list[str] = []

    def answer(_: Attempt) -> int:
        asyncio.get_running_loop().call_soon(lambda: order.append(f"written, {len(world.outbox.settled)} settled"))
        return 200

    world = World(answer=answer)
    await world.due(0)
    await world.pool.start()
    await world.pool.drain(5)
    assert order == ["written, 0 settled"]
    await world.pool.stop()


@instantly
async def test_a_lane_that_rests_is_stopped_at_once_and_keeps_what_has_come() -> None:
    world = World(endpoint(format="batch", concurrency=1), answer=lambda attempt: after(1))
    await world.pool.start()
    await world.due(0)
    await asyncio.sleep(1.01)
    await world.due(0)
    await world.pool.stop()
    assert round(world.now, 3) == 1.01
    assert len(world.sender.attempts) == 1
    assert await world.left() == 1


@instantly
async def test_one_event_a_webhook_follows_the_other_without_rest() -> None:
    world = World(endpoint(concurrency=1), answer=lambda attempt: after(0.02))
    await world.pool.start()
    await world.due(0, 0)
    assert await world.pool.drain(HOUR) == 0
    assert [round(attempt.at - 1000, 3) for attempt in world.sender.attempts] == [0, 0.02]
    await world.pool.stop()


@instantly
async def test_a_batch_that_was_attempted_stays_one_when_the_format_changes() -> None:
    statuses = iter([500])
    world = World(endpoint(format="batch"), answer=lambda attempt: next(statuses, 200))
    await world.due(0, 0, 0)
    await world.pool.start()
    await asyncio.sleep(0.001)
    world.pool.configure([endpoint(format="event")])
    await world.due(0)
    assert await world.pool.drain(HOUR) == 0
    assert [attempt.number for attempt in world.sender.attempts] == [1, 2, 1]
    assert world.sender.attempts[0].body == world.sender.attempts[1].body
    await world.pool.stop()


def pusher_endpoint() -> Endpoint:
    return endpoint(format="pusher", concurrency=1, pusher_key="k", pusher_secret="app-secret")


async def occupied(world: World, *channels: str) -> None:
    """Make the channels' events due in lane 0."""
    made = []
    for number, channel in enumerate(channels, 1):
        envelope = orjson.dumps({"event": "channel.occupied", "data": {"channel": channel}})
        made.append(Delivery("1/a", number, 0, f"evt_{number}", "channel.occupied", world.clock.epoch_ms(), envelope))
    await world.outbox.append(Commit(deliveries=tuple(made)))
    world.pool.wake([("1/a", 0)])


@instantly
async def test_a_pusher_webhook_is_stamped_afresh_and_signed_again_only_when_it_is_late() -> None:
    world = World(pusher_endpoint(), answer=lambda attempt: 200 if world.now >= 1800 else 500)
    await occupied(world, "a", "b")
    await world.pool.start()
    assert await world.pool.drain(HOUR) == 0
    attempts = world.sender.attempts
    assert len({attempt.id for attempt in attempts}) == 1
    early = [attempt for attempt in attempts if attempt.at - attempts[0].at < 240]
    assert 1 < len(early) < len(attempts) - 1
    assert {attempt.body for attempt in early} == {attempts[0].body}
    for attempt in attempts:
        late_s = START_MS / 1000 + attempt.at - 1000 - orjson.loads(attempt.body)["time_ms"] / 1000
        assert late_s < 240 if attempt in early else late_s < 0.002
        signature = hmac.new(b"app-secret", attempt.body, hashlib.sha256).hexdigest()
        assert attempt.headers["X-Pusher-Signature"] == signature
    await world.pool.stop()


@instantly
async def test_an_event_of_an_encrypted_channel_travels_alone_in_the_pusher_format_each_time() -> None:
    statuses = iter([500, 200, 500, 500])
    world = World(pusher_endpoint(), answer=lambda attempt: next(statuses, 200))
    await occupied(world, "a", "b", "private-encrypted-x", "private-encrypted-y", "c")
    await world.pool.start()
    assert await world.pool.drain(HOUR) == 0
    cut = [[one["channel"] for one in orjson.loads(body)["events"]] for body in world.sender.bodies()]
    encrypted = ["private-encrypted-x"]
    assert cut == [["a", "b"], ["a", "b"], encrypted, encrypted, encrypted, ["private-encrypted-y"], ["c"]]
    await world.pool.stop()


# -- who waits for whom


@instantly
async def test_an_endpoint_that_hangs_delays_no_other() -> None:
    world = World(endpoint("a"), endpoint("b"), answer=lambda attempt: never() if attempt.endpoint == "1/a" else 200)
    await world.pool.start()
    await world.due(*range(8), key="1/a")
    await world.due(*list(range(8)) * 50, key="1/b")
    await asyncio.sleep(0.001)
    assert await world.left("1/b") == 0
    assert await world.left("1/a") == 8
    await world.pool.stop()


@instantly
async def test_a_request_that_keeps_failing_holds_up_its_own_lane_only() -> None:
    world = World(answer=lambda attempt: 500 if number_of(attempt) == 1 else 200)
    await world.pool.start()
    await world.due(0)
    await world.due(0)
    for _ in range(300):
        await world.due(*range(1, 8))
        await asyncio.sleep(0.001)
        assert await world.left() == 2
        await asyncio.sleep(0.2)
    assert world.pool.states()["1/a"].state == "healthy"
    assert {number_of(attempt) for attempt in world.sender.attempts if lane_of(attempt) == 0} == {1}
    await world.pool.stop()


@instantly
async def test_a_dead_endpoint_is_probed_not_hammered_and_comes_back_gently() -> None:
    def answer(attempt: Attempt) -> Answer:
        return Outcome(Stage.CONNECT, 1, error="refused") if attempt.at < 1000 + 600 else after(0.01)

    world = World(answer=answer)
    await world.pool.start()
    await world.due(*list(range(8)) * 250)
    await asyncio.sleep(599)
    down = len(world.sender.attempts)
    assert 10 < down < 60
    state = world.pool.states()["1/a"]
    assert (state.state, state.why, state.failures) == ("backing off", "refused", down)
    assert state.last is not None
    assert state.last.stage is Stage.CONNECT
    assert state.waiting == 8

    world.sender.most_at_once.clear()
    assert await world.pool.drain(HOUR) == 0
    up = [attempt.at for attempt in world.sender.attempts[down:] if attempt.at >= 1600]
    assert sum(at < up[0] + 0.005 for at in up) == 1  # one probe
    assert world.sender.most_at_once["1/a"] == 8  # and then all lanes
    assert world.pool.states()["1/a"].state == "healthy"
    assert world.pool.states()["1/a"].failures == 0
    await world.pool.stop()


@instantly
@pytest.mark.parametrize("status", [429, 503])
async def test_no_request_before_the_time_the_receiver_named(status: int) -> None:
    world = World(answer=lambda attempt: answered(status, retry_after_s=30) if attempt.at < 1030 else 200)
    await world.pool.start()
    await world.due(0)
    await asyncio.sleep(1)
    await world.due(*range(8))
    assert await world.pool.drain(HOUR) == 0
    first, *later = [attempt.at - 1000 for attempt in world.sender.attempts]
    assert first == 0
    assert min(later) >= 30
    assert max(later) < 40
    await world.pool.stop()


@instantly
async def test_410_ends_the_request_and_disables_the_endpoint_until_it_is_enabled() -> None:
    world = World(endpoint("a"), endpoint("b"), answer=lambda attempt: 410 if attempt.endpoint == "1/a" else 200)
    await world.pool.start()
    await world.due(0)
    await world.due(0, 1, 2)
    await world.due(0, key="1/b")
    await asyncio.sleep(48 * HOUR)
    assert len(world.sender.bodies("1/a")) <= 3  # those that were under way together
    assert len(world.sender.bodies("1/b")) == 1
    ended = world.outbox.last(State.DEAD)
    assert [settlement.reason for settlement in ended] == ["gone"] * len(ended)
    assert world.pool.states()["1/a"].state == "disabled"
    assert world.pool.states()["1/a"].why == "it answered 410"
    left = await world.left()
    assert left == 4 - len(ended)
    assert await world.pool.drain(HOUR) == left

    world.pool.configure(world.endpoints)  # the same again is no reason to bother it
    await asyncio.sleep(HOUR)
    assert await world.left() == left

    world.sender.answer = lambda attempt: 200
    assert world.pool.enable("1/a")
    assert not world.pool.enable("1/zzz")
    await asyncio.sleep(1)
    assert world.pool.states()["1/a"].state == "healthy"
    await world.pool.stop()


# -- giving up


@instantly
async def test_attempts_run_out() -> None:
    world = World(endpoint(retry=RetryPolicy(max_attempts=3)), answer=lambda attempt: 500 if number_of(attempt) == 1 else 200)
    await world.pool.start()
    await world.due(0, 0)
    assert await world.pool.drain(HOUR) == 0
    assert [(number_of(attempt), attempt.number) for attempt in world.sender.attempts] == [(1, 1), (1, 2), (1, 3), (2, 1)]
    (dead,) = world.outbox.last(State.DEAD)
    assert (dead.reason, dead.attempts, dead.due_at_ms) == ("max_attempts", 3, 0)
    assert world.telemetry.dead_letters["1/a"] == 1
    await world.pool.stop()


@instantly
async def test_what_waited_too_long_is_given_up_without_an_attempt() -> None:
    policy = RetryPolicy(max_age_s=HOUR, max_delay_s=600)
    world = World(endpoint(concurrency=1, retry=policy), answer=lambda attempt: 500)
    await world.pool.start()
    await world.due(0, 0, 0, 0)
    await asyncio.sleep(3 * HOUR)
    dead = world.outbox.last(State.DEAD)
    assert [settlement.reason for settlement in dead] == ["max_age"] * 4
    # The second may still be attempted when the first has had its hour, and then has one of its own; the others may not.
    assert [(settlement.attempts > 0, settlement.outcome is None) for settlement in dead] == [(True, False)] * 2 + [
        (False, True)
    ] * 2
    assert {number_of(attempt) for attempt in world.sender.attempts} == {1, 2}
    await world.pool.stop()


@instantly
async def test_of_a_batch_only_what_is_too_old_is_given_up() -> None:
    world = World(endpoint(format="batch", concurrency=1))
    old = world.clock.epoch_ms() - 25 * 3_600_000
    await world.due(0, 0, at_ms=old)
    await world.due(0)
    await world.pool.start()
    assert await world.pool.drain(1) == 0
    (dead,) = world.outbox.last(State.DEAD)
    assert (dead.first_sequence, dead.last_sequence, dead.count, dead.reason) == (1, 2, 2, "max_age")
    assert world.sender.bodies() == [b'{"events":[{"n":3,"lane":0}]}']
    await world.pool.stop()


# -- clocks


@instantly
@pytest.mark.parametrize("step_s", [30 * HOUR, -3 * HOUR])
async def test_a_step_of_the_wall_clock_neither_hurries_nor_stalls_nor_ages(step_s: float) -> None:
    world = World(endpoint(retry=RetryPolicy(schedule_s=(5.0,))), answer=lambda attempt: 500 if attempt.number < 4 else 200)
    await world.pool.start()
    await world.due(0)
    await asyncio.sleep(1)
    world.clock.wall_offset_s = step_s
    assert await world.pool.drain(HOUR) == 0
    assert [attempt.at - 1000 for attempt in world.sender.attempts] == pytest.approx([0, 5, 10, 15])
    assert not world.outbox.last(State.DEAD)
    await world.pool.stop()


@instantly
async def test_after_a_restart_the_numbers_go_on_and_a_due_time_is_kept() -> None:
    world = World(endpoint(retry=RetryPolicy(schedule_s=(60.0,))), answer=lambda attempt: 500)
    await world.pool.start()
    await world.due(0)
    await asyncio.sleep(10)
    await world.pool.stop()
    world.sender.answer = lambda attempt: 200
    await world.another_pool().start()
    world.pool.wake([("1/a", 0)])
    assert await world.pool.drain(HOUR) == 0
    assert [(attempt.number, attempt.at - 1000) for attempt in world.sender.attempts] == [(1, 0), (2, pytest.approx(60))]
    await world.pool.stop()


@instantly
async def test_a_due_time_far_in_the_future_is_brought_back_to_the_longest_delay() -> None:
    world = World(answer=lambda attempt: 500)
    world.clock.wall_offset_s = 100 * HOUR
    await world.pool.start()
    await world.due(0)
    await asyncio.sleep(0.01)
    await world.pool.stop()
    world.clock.wall_offset_s = 0
    world.sender.answer = lambda attempt: 200
    await world.another_pool().start()
    world.pool.wake([("1/a", 0)])
    assert await world.pool.drain(2 * HOUR) == 0
    assert world.sender.attempts[1].at - 1000 == pytest.approx(900, abs=1)
    await world.pool.stop()


# -- draining and stopping


@instantly
async def test_drain_stops_early_when_nobody_will_go_on_in_time() -> None:
    world = World(endpoint("a"), endpoint("b"), answer=lambda attempt: 500 if attempt.endpoint == "1/a" else after(3))
    await world.pool.start()
    await world.due(0, key="1/a")
    await world.due(0, key="1/b")
    await asyncio.sleep(60)  # a's next attempt is some way off by now
    await world.due(0, 0, key="1/b")
    before = world.now
    assert await world.pool.drain(7) in (0, 1)
    assert world.now - before <= 7
    assert await world.left("1/b") == 0
    await world.pool.stop()


@instantly
async def test_drain_of_what_hangs_ends_with_its_time() -> None:
    world = World(answer=lambda attempt: never())
    await world.pool.start()
    await world.due(0, 0, 1)
    assert await world.pool.drain(5) == 3
    assert world.now == 5.0
    await world.pool.stop()


@instantly
async def test_drain_with_nothing_to_do_returns_at_once() -> None:
    world = World()
    await world.pool.start()
    assert await world.pool.drain(5) == 0
    assert world.now == 0.0
    await world.pool.stop()


@instantly
async def test_stop_cuts_off_and_leaves_everything_due() -> None:
    world = World(answer=lambda attempt: never())
    await world.pool.start()
    await world.due(*range(8), *range(8))
    await asyncio.sleep(1)
    await world.pool.stop()
    await world.pool.stop()
    assert len(world.sender.attempts) == 8
    assert world.outbox.settled == []
    assert await world.left() == 16
    assert asyncio.all_tasks() == {asyncio.current_task()}
    await world.due(0)  # too late, and harmless
    await asyncio.sleep(HOUR)
    assert len(world.sender.attempts) == 8


@instantly
async def test_an_answer_that_has_come_is_written_down_although_the_pool_stops() -> None:
    world = World()
    written = asyncio.Event()

    class Slow(WatchedOutbox):
        async def settle(self, settlement: Settlement) -> None:
            written.set()
            await asyncio.sleep(0.5)
            await super().settle(settlement)

    world.outbox = Slow()
    world.another_pool()
    await world.pool.start()
    await world.due(0, 0)
    await written.wait()
    await world.pool.stop()
    assert [settlement.state for settlement in world.outbox.settled] == [State.DELIVERED]
    assert await world.left() == 1
    assert len(world.sender.attempts) == 1


# -- trouble on this side


@instantly
async def test_a_delivered_webhook_is_not_sent_again_because_the_disk_is_full() -> None:
    world = World()
    world.outbox.trouble["settle"] = [OSError(errno.ENOSPC, "No space left on device")] * 30
    await world.pool.start()
    await world.due(0, 0)
    assert await world.pool.drain(HOUR) == 0
    assert [number_of(attempt) for attempt in world.sender.attempts] == [1, 2]
    assert 29 <= world.now <= 31
    await world.pool.stop()


@instantly
async def test_an_outbox_that_cannot_be_read_is_asked_again() -> None:
    world = World()
    world.outbox.trouble["claim"] = [OSError(errno.EIO, "I/O error")] * 5
    await world.pool.start()
    await world.due(0)
    assert await world.pool.drain(HOUR) == 0
    assert 4 <= world.now <= 6
    await world.pool.stop()


@instantly
async def test_a_fault_of_our_own_is_logged_and_the_lane_goes_on(caplog: pytest.LogCaptureFixture) -> None:
    def answer(attempt: Attempt) -> Answer:
        if attempt.at < 1003:
            raise RuntimeError("a fault")
        return 200

    world = World(answer=answer)
    await world.pool.start()
    await world.due(0, 1)
    assert await world.pool.drain(HOUR) == 0
    assert "a fault" in caplog.text
    assert 6 <= len(world.sender.attempts) - 2 <= 8
    await world.pool.stop()


# -- lanes and tasks


@instantly
async def test_a_lane_without_work_costs_no_task() -> None:
    world = World(endpoint(concurrency=64))
    await world.pool.start()
    assert len(asyncio.all_tasks()) == 1
    await world.due(*range(64))
    assert len(asyncio.all_tasks()) == 65
    await asyncio.sleep(0.1)
    assert len(asyncio.all_tasks()) == 1
    await world.pool.stop()


@instantly
async def test_lanes_survive_the_garbage_collector() -> None:
    world = World(answer=lambda attempt: after(3, 500 if attempt.number == 1 and number_of(attempt) % 3 == 0 else 200))
    await world.pool.start()
    for _ in range(4):
        await world.due(*range(8), *range(8))
        gc.collect()
        await asyncio.sleep(2)
    assert await world.pool.drain(HOUR) == 0
    await world.pool.stop()


@instantly
async def test_what_comes_while_the_lane_looks_for_the_last_time_is_not_forgotten() -> None:
    world = World()
    claims = 0

    async def claimed(lane: int) -> None:
        nonlocal claims
        claims += 1
        if claims == 2:  # the lane has just been told that nothing is left
            await world.due(0)

    world.outbox.claimed = claimed
    await world.pool.start()
    await world.due(0)
    await asyncio.sleep(1)
    assert [number_of(attempt) for attempt in world.sender.attempts] == [1, 2]
    await world.pool.stop()


@instantly
async def test_what_was_woken_before_the_start_is_delivered_after_it() -> None:
    world = World()
    await world.due(0, 3)
    await asyncio.sleep(1)
    assert world.sender.attempts == []
    await world.pool.start()
    assert await world.pool.drain(1) == 0
    await world.pool.stop()


# -- another configuration


@instantly
async def test_a_reload_leaves_alone_what_has_not_changed() -> None:
    world = World(endpoint("a"), endpoint("b"), answer=lambda attempt: after(5))
    await world.pool.start()
    await world.due(0, key="1/a")
    await asyncio.sleep(1)
    world.pool.configure([replace(one) for one in world.endpoints])
    assert await world.pool.drain(HOUR) == 0
    assert len(world.sender.attempts) == 1
    assert world.now == 5.0
    assert world.sender.forgotten == []
    await world.pool.stop()


@instantly
async def test_an_endpoint_that_is_removed_stops_and_goes_on_when_it_is_back() -> None:
    world = World(endpoint("a"), endpoint("b"), answer=lambda attempt: never() if attempt.endpoint == "1/a" else 200)
    await world.pool.start()
    await world.due(0, 0, 1, key="1/a")
    await asyncio.sleep(1)
    world.pool.configure([endpoint("b")])
    await world.due(2, key="1/a")
    await asyncio.sleep(HOUR)
    assert len(world.sender.bodies("1/a")) == 2
    assert world.sender.at_once["1/a"] == 0
    assert world.sender.forgotten == ["1/a"]
    assert set(world.pool.states()) == {"1/b"}
    world.sender.answer = lambda attempt: 200
    world.pool.configure([endpoint("a"), endpoint("b")])
    assert await world.pool.drain(1) == 0
    assert await world.left("1/a") == 0
    await world.pool.stop()


@instantly
async def test_an_endpoint_that_comes_back_at_once_has_no_two_attempts_under_way_in_a_lane() -> None:
    world = World(answer=lambda attempt: never())
    await world.pool.start()
    await world.due(0)
    await asyncio.sleep(1)
    world.sender.answer = lambda attempt: 200
    world.pool.configure([])
    world.pool.configure([endpoint("a")])
    assert await world.pool.drain(1) == 0
    assert world.sender.most_at_once["1/a"] == 1
    await world.pool.stop()


@instantly
async def test_a_changed_endpoint_is_tried_at_once_with_its_new_configuration() -> None:
    world = World(answer=lambda attempt: 410 if attempt.at < 1060 else 200)
    await world.pool.start()
    await world.due(0)
    await asyncio.sleep(1)
    await world.due(*range(8))
    await asyncio.sleep(HOUR)
    assert world.pool.states()["1/a"].state == "disabled"
    world.pool.configure([endpoint("a", headers={"X-New": "1"}, concurrency=2)])
    assert await world.pool.drain(1) == 0
    assert world.sender.attempts[-1].headers["X-New"] == "1"
    assert world.sender.most_at_once["1/a"] <= 2
    assert world.pool.states()["1/a"].state == "healthy"
    await world.pool.stop()


@instantly
async def test_a_new_endpoint_takes_over_what_an_earlier_life_left_for_it() -> None:
    world = World(endpoint("a"))
    await world.pool.start()
    made = Delivery("1/b", 1, 5, "evt_1", "client_event", world.clock.epoch_ms(), b'{"n":1,"lane":5}')
    await world.outbox.append(Commit(deliveries=(made,)))
    world.pool.configure([endpoint("a"), endpoint("b")])
    assert await world.pool.drain(1) == 0
    assert world.sender.bodies("1/b") == [made.envelope]
    await world.pool.stop()


# -- replays and tests


async def replay(world: World, *deliveries: Delivery, key: str = "1/a") -> None:
    await world.outbox.replay(key, deliveries)
    world.pool.wake([(key, REPLAY_LANE)])


@instantly
async def test_replays_go_one_by_one_in_order_beside_the_live_ones_and_say_so() -> None:
    gate = asyncio.Event()

    async def held(attempt: Attempt) -> int:
        await gate.wait()
        return 200

    world = World(endpoint(concurrency=1), answer=lambda attempt: held(attempt) if "X-Webhook-Replay" in attempt.headers else 200)
    await world.pool.start()
    first = await world.due(0, 0, 0)
    await world.pool.drain(10)
    await replay(world, *first)
    live = await world.due(0, 0)
    await world.pool.drain(5)
    # the replay is under way and holds up nothing
    assert world.sender.bodies() == [one.envelope for one in (*first, first[0], *live)] or world.sender.bodies() == [
        one.envelope for one in (*first, live[0], first[0], live[1])
    ]
    gate.set()
    await world.pool.drain(10)
    again = [attempt for attempt in world.sender.attempts if "X-Webhook-Replay" in attempt.headers]
    assert [attempt.body for attempt in again] == [one.envelope for one in first]
    assert [attempt.id for attempt in again] == [one.event_id for one in first]
    assert {attempt.number for attempt in again} == {1}
    assert await world.left() == 0
    await world.pool.stop()


@instantly
async def test_what_was_given_up_for_its_age_can_be_replayed() -> None:
    world = World(endpoint(retry=RetryPolicy(max_age_s=60.0)))
    (old,) = await world.due(0, at_ms=START_MS - 3_600_000)
    await world.pool.start()
    await world.pool.drain(10)
    assert world.sender.attempts == []
    await replay(world, old)
    await world.pool.drain(10)
    assert world.sender.bodies() == [old.envelope]
    # and age counts from its new first attempt
    world.sender.answer = lambda attempt: 500
    await replay(world, old)
    await world.pool.drain(200)
    assert len(world.sender.attempts) > 3
    assert world.outbox.last(State.DEAD)[-1].reason == "max_age"
    await world.pool.stop()


@instantly
async def test_a_replay_left_behind_goes_on_after_a_restart_and_after_a_change() -> None:
    world = World()
    made = await world.due(0, 1)
    await world.outbox.replay("1/a", made)
    await world.pool.start()
    world.pool.wake([("1/a", REPLAY_LANE)])
    await world.pool.drain(10)
    assert len(world.sender.attempts) == 4
    # removed, then back: nobody wakes the lanes again
    world.pool.configure([])
    await world.outbox.replay("1/a", made)
    world.pool.configure(world.endpoints)
    await world.pool.drain(10)
    assert len(world.sender.attempts) == 6
    await world.pool.stop()


@instantly
async def test_a_test_is_sent_at_once_whatever_the_endpoint_s_state() -> None:
    world = World(answer=lambda attempt: 410)
    await world.pool.start()
    await world.due(0)
    await world.pool.drain(10)
    assert world.pool.states()["1/a"].state == "disabled"
    world.sender.answer = lambda attempt: 204
    settled = len(world.outbox.settled)
    outcome = await world.pool.test(Delivery("1/a", 0, 3, "evt_t", "webhook.test", START_MS, b'{"test":1}'))
    assert outcome.status == 204
    sent = world.sender.attempts[-1]
    assert (sent.id, sent.number, sent.body) == ("evt_t", 1, b'{"test":1}')
    assert sent.headers["X-Webhook-Event"] == "webhook.test"
    # nothing is written, and nothing follows from it
    assert len(world.outbox.settled) == settled
    assert world.pool.states()["1/a"].state == "disabled"
    with pytest.raises(KeyError):
        await world.pool.test(Delivery("1/b", 0, 0, "evt_t", "webhook.test", START_MS, b"{}"))
    await world.pool.stop()
