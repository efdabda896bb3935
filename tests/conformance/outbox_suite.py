"""What every outbox must do; a device's test file inherits the suite and says how to make one.

`OutboxSuite` is for all of them, fakes included; `DurableOutboxSuite` adds what must survive a restart.
"""

from __future__ import annotations

import asyncio
import dataclasses
import tempfile
from collections.abc import AsyncIterator
from pathlib import Path
from typing import ClassVar

import pytest
from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule, run_state_machine_as_test

from gateway.core.delivery import Claim, Delivery, Outcome, Settlement, Stage, State
from gateway.core.lifecycle import LifecycleEvent, Record, Span, SpanClosed, SpanDeparting, SpanOpened
from gateway.ports import Backlog, Commit, DeadLetter, Outbox

ENDPOINT = "1001/backend"
OTHER = "1001/audit"
ANSWERED_500 = Outcome(Stage.ANSWERED, 12.5, 500, 30.0, b"\xff\x00 oops", "")


def due(sequence: int, lane: int = 0, endpoint: str = ENDPOINT, text: str = "é\\u0000 ☃") -> Delivery:
    """Return a delivery whose every field tells which one it is."""
    envelope = f'{{"id":"evt_{sequence:06}","data":{{"text":"{text}", "n":1.0}}}}'.encode()
    return Delivery(endpoint, sequence, lane, f"evt_{sequence:06}", "channel.occupied", 1_700_000_000_000 + sequence, envelope)


def event(number: int, app_id: str = "1001") -> LifecycleEvent:
    """Return a row of the ledger."""
    subject = f"{app_id}/channel/room-{number}"
    data = {"channel": f"room-{number}", "data": 'a "text"\x00 é'}
    return LifecycleEvent(
        f"evt_{number:06}", "client_event", app_id, 1_700_000_000_000 + number, subject, data, f"room-{number}", "a\x00b"
    )


def span(key: str, kind: str = "connection", departs_at_ms: int | None = None) -> Span:
    """Return an open span with facts of each JSON type."""
    facts = {"ip": "::1", "n": 3, "x": 1.5, "no": None, "yes": True, "list": ["é", {}]}
    return Span("1001", kind, key, f"spn_{key}", 1_700_000_000_123, facts, departs_at_ms)


def settled(claim: Claim, state: State, *, attempts: int = 1, due_at_ms: int = 0, reason: str = "") -> Settlement:
    """Return what an attempt at the claim did to it."""
    first, last = claim.deliveries[0], claim.deliveries[-1]
    outcome = Outcome(Stage.ANSWERED, 3.25, 200) if state is State.DELIVERED else ANSWERED_500
    return Settlement(
        endpoint=first.endpoint,
        lane=first.lane,
        request_id=f"req_{first.event_id}",
        first_sequence=first.sequence,
        last_sequence=last.sequence,
        count=len(claim.deliveries),
        attempts=attempts,
        at_ms=1_700_000_100_000 + attempts,
        first_at_ms=1_700_000_100_001,
        state=state,
        outcome=outcome,
        due_at_ms=due_at_ms,
        reason=reason,
    )


async def claimed(outbox: Outbox, lane: int = 0, limit: int = 100, endpoint: str = ENDPOINT) -> Claim:
    """Claim what must be there."""
    claim = await outbox.claim(endpoint, lane, limit)
    assert claim is not None
    return claim


def sequences(claim: Claim | None) -> list[int]:
    """Return which deliveries a claim holds."""
    return [] if claim is None else [delivery.sequence for delivery in claim.deliveries]


class OutboxSuite:
    """For every outbox. Subclasses are named `Test...` and override `make`."""

    #: what is appended outlives the process
    durable: ClassVar[bool] = False

    def make(self, home: Path) -> Outbox:
        """Return an outbox that is not open yet; twice with the same `home`: the second follows the first."""
        raise NotImplementedError

    @pytest.fixture
    async def outbox(self, tmp_path: Path) -> AsyncIterator[Outbox]:
        outbox = self.make(tmp_path)
        await outbox.open()
        yield outbox
        await outbox.close()

    async def test_begins_empty(self, tmp_path: Path) -> None:
        outbox = self.make(tmp_path)
        recovery = await outbox.open()
        assert (dict(recovery.sequences), recovery.spans, recovery.lanes) == ({}, (), frozenset())
        assert await outbox.claim(ENDPOINT, 0, 10) is None
        assert await outbox.backlog(ENDPOINT) == Backlog()
        assert list(await outbox.dead_letters(ENDPOINT)) == []
        assert not outbox.is_full("1001")
        await outbox.close()

    async def test_what_was_appended_is_claimed_unchanged_and_in_order(self, outbox: Outbox) -> None:
        deliveries = tuple(due(number) for number in range(1, 6))
        await outbox.append(Commit(deliveries=deliveries[:2]))
        await outbox.append(Commit(deliveries=deliveries[2:]))
        assert await outbox.claim(ENDPOINT, 0, 100) == Claim(deliveries)

    async def test_envelopes_come_back_byte_for_byte(self, outbox: Outbox) -> None:
        texts = (b"{}", b'{"a": 1.50, "b":"\\u00e9\\u0000"}', '{"😀":"\u2028"}'.encode(), b'{\n "a":\t1e400}', b'{"a":1,"a":2}')
        deliveries = tuple(dataclasses.replace(due(number), envelope=text) for number, text in enumerate(texts, 1))
        await outbox.append(Commit(deliveries=deliveries))
        assert (await claimed(outbox)).deliveries == deliveries

    async def test_a_claim_is_no_longer_than_its_limit_and_changes_nothing(self, outbox: Outbox) -> None:
        await outbox.append(Commit(deliveries=tuple(due(number) for number in range(1, 6))))
        assert sequences(await outbox.claim(ENDPOINT, 0, 2)) == [1, 2]
        assert sequences(await outbox.claim(ENDPOINT, 0, 1)) == [1]
        assert sequences(await outbox.claim(ENDPOINT, 0, 4)) == [1, 2, 3, 4]

    async def test_lanes_and_endpoints_are_apart(self, outbox: Outbox) -> None:
        await outbox.append(Commit(deliveries=(due(1, 0), due(1, 0, OTHER), due(2, 1), due(3, 0))))
        assert sequences(await outbox.claim(ENDPOINT, 0, 9)) == [1, 3]
        assert sequences(await outbox.claim(ENDPOINT, 1, 9)) == [2]
        assert sequences(await outbox.claim(OTHER, 0, 9)) == [1]
        assert await outbox.claim(OTHER, 1, 9) is None
        assert await outbox.claim("1001/nobody", 0, 9) is None
        await outbox.settle(settled(await claimed(outbox), State.DELIVERED))
        assert await outbox.claim(ENDPOINT, 0, 9) is None
        assert sequences(await outbox.claim(ENDPOINT, 1, 9)) == [2]
        assert sequences(await outbox.claim(OTHER, 0, 9)) == [1]

    async def test_a_delivered_head_makes_way_for_the_next(self, outbox: Outbox) -> None:
        await outbox.append(Commit(deliveries=tuple(due(number) for number in range(1, 6))))
        await outbox.settle(settled(await claimed(outbox, limit=2), State.DELIVERED))
        assert await outbox.claim(ENDPOINT, 0, 2) == Claim((due(3), due(4)))

    async def test_what_is_settled_soon_makes_way_at_once_and_follows_the_order_of_the_lane(self, outbox: Outbox) -> None:
        await outbox.append(Commit(deliveries=tuple(due(number) for number in range(1, 60))))
        for number in range(1, 51):
            head = await claimed(outbox, limit=1)
            assert sequences(head) == [number]
            await outbox.settle_soon(settled(head, State.DELIVERED))
        assert await outbox.backlog(ENDPOINT) == Backlog(9, due(51).at_ms)
        await outbox.settle_soon(settled(await claimed(outbox, limit=1), State.DELIVERED))
        await outbox.settle(settled(await claimed(outbox, limit=1), State.DUE, attempts=1))
        await outbox.settle_soon(settled(await claimed(outbox), State.DELIVERED, attempts=2))
        await outbox.settle(settled(await claimed(outbox, limit=3), State.DEAD))
        assert sequences(await outbox.claim(ENDPOINT, 0, 9)) == [56, 57, 58, 59]
        await outbox.settle_soon(settled(await claimed(outbox, limit=1), State.DELIVERED))
        assert await outbox.abandon(ENDPOINT, "gone", 1_700_000_200_000) == 3
        assert [letter.delivery.sequence for letter in await outbox.dead_letters(ENDPOINT)] == [53, 54, 55, 57, 58, 59]

    async def test_a_failed_head_keeps_its_bounds_and_its_history(self, outbox: Outbox) -> None:
        await outbox.append(Commit(deliveries=(due(1), due(2), due(3))))
        await outbox.settle(settled(await claimed(outbox, limit=2), State.DUE, attempts=1, due_at_ms=77))
        await outbox.append(Commit(deliveries=(due(4), due(5))))
        pinned = Claim((due(1), due(2)), attempts=1, first_at_ms=1_700_000_100_001, due_at_ms=77)
        assert await outbox.claim(ENDPOINT, 0, 1) == pinned
        assert await outbox.claim(ENDPOINT, 0, 500) == pinned
        await outbox.settle(settled(pinned, State.DUE, attempts=2, due_at_ms=99))
        again = await claimed(outbox)
        assert (sequences(again), again.attempts, again.due_at_ms) == ([1, 2], 2, 99)
        await outbox.settle(settled(again, State.DELIVERED, attempts=3))
        assert await outbox.claim(ENDPOINT, 0, 500) == Claim((due(3), due(4), due(5)))

    async def test_the_whole_lane_pinned_does_not_take_in_what_comes_later(self, outbox: Outbox) -> None:
        await outbox.append(Commit(deliveries=(due(1),)))
        await outbox.settle(settled(await claimed(outbox), State.DUE))
        await outbox.append(Commit(deliveries=(due(2),)))
        assert sequences(await outbox.claim(ENDPOINT, 0, 500)) == [1]

    async def test_settling_twice_changes_nothing_more(self, outbox: Outbox) -> None:
        await outbox.append(Commit(deliveries=tuple(due(number) for number in range(1, 5))))
        first = await claimed(outbox, limit=2)
        await outbox.settle(settled(first, State.DELIVERED))
        for state in (State.DELIVERED, State.DEAD, State.DUE):
            await outbox.settle(settled(first, state))
        assert await outbox.claim(ENDPOINT, 0, 9) == Claim((due(3), due(4)))
        assert await outbox.backlog(ENDPOINT) == Backlog(2, due(3).at_ms)
        assert list(await outbox.dead_letters(ENDPOINT)) == []

    async def test_settling_an_unknown_lane_changes_nothing(self, outbox: Outbox) -> None:
        for state in State:
            await outbox.settle(settled(Claim((due(1),)), state))
        assert await outbox.claim(ENDPOINT, 0, 9) is None
        assert list(await outbox.dead_letters(ENDPOINT)) == []

    async def test_settling_ends_only_what_was_there(self, outbox: Outbox) -> None:
        await outbox.append(Commit(deliveries=(due(1),)))
        await outbox.settle(settled(Claim((due(1), due(9))), State.DELIVERED))
        await outbox.append(Commit(deliveries=(due(2),)))
        assert sequences(await outbox.claim(ENDPOINT, 0, 9)) == [2]

    async def test_what_is_given_up_becomes_dead_letters(self, outbox: Outbox) -> None:
        await outbox.append(Commit(deliveries=(due(1), due(2), due(3))))
        given_up = settled(await claimed(outbox, limit=2), State.DEAD, attempts=4, reason="max_age")
        await outbox.settle(given_up)
        assert list(await outbox.dead_letters(ENDPOINT)) == [DeadLetter(due(1), given_up), DeadLetter(due(2), given_up)]
        assert sequences(await outbox.claim(ENDPOINT, 0, 9)) == [3]
        assert list(await outbox.dead_letters(OTHER)) == []

    async def test_the_newest_dead_letters_are_shown_oldest_first(self, outbox: Outbox) -> None:
        await outbox.append(Commit(deliveries=tuple(due(number) for number in range(1, 6))))
        for _ in range(5):
            without_attempt = dataclasses.replace(settled(await claimed(outbox, limit=1), State.DEAD, attempts=0), outcome=None)
            await outbox.settle(without_attempt)
        shown = await outbox.dead_letters(ENDPOINT, 3)
        assert [letter.delivery.sequence for letter in shown] == [3, 4, 5]
        assert shown[-1].settlement == without_attempt

    async def test_the_backlog_counts_what_is_due_and_since_when(self, outbox: Outbox) -> None:
        await outbox.append(Commit(deliveries=(due(1, 0), due(2, 1), due(3, 1), due(4, 1))))
        assert await outbox.backlog(ENDPOINT) == Backlog(4, due(1).at_ms)
        await outbox.settle(settled(await claimed(outbox, 0), State.DELIVERED))
        assert await outbox.backlog(ENDPOINT) == Backlog(3, due(2).at_ms)
        await outbox.settle(settled(await claimed(outbox, 1, limit=1), State.DUE))
        assert await outbox.backlog(ENDPOINT) == Backlog(3, due(2).at_ms)
        await outbox.settle(settled(await claimed(outbox, 1), State.DEAD))
        assert await outbox.backlog(ENDPOINT) == Backlog(2, due(3).at_ms)
        assert await outbox.backlog(OTHER) == Backlog()

    async def test_records_are_accepted_with_and_without_deliveries(self, outbox: Outbox) -> None:
        records: tuple[Record, ...] = (
            event(1),
            SpanOpened(span("1.1")),
            SpanDeparting("1001", "connection", "1.1", 5),
            SpanClosed("1001", "connection", "1.1"),
            SpanClosed("1001", "connection", "never.was"),
        )
        await outbox.append(Commit(records))
        await outbox.append(Commit((event(2),), (due(1),)))
        await outbox.append(Commit())
        assert sequences(await outbox.claim(ENDPOINT, 0, 9)) == [1]

    async def test_many_appenders_at_once_keep_the_order_of_their_calls(self, outbox: Outbox) -> None:
        await asyncio.gather(*(outbox.append(Commit((event(number),), (due(number),))) for number in range(1, 301)))
        assert sequences(await outbox.claim(ENDPOINT, 0, 1_000)) == list(range(1, 301))

    async def test_lanes_may_be_settled_at_once(self, outbox: Outbox) -> None:
        await outbox.append(Commit(deliveries=tuple(due(number, number % 8) for number in range(1, 33))))
        claims = [await claimed(outbox, lane, 2) for lane in range(8)]
        states = [State.DELIVERED, State.DUE, State.DEAD, State.DELIVERED] * 2
        await asyncio.gather(*(outbox.settle(settled(claim, state)) for claim, state in zip(claims, states, strict=True)))
        for claim, state in zip(claims, states, strict=True):
            head = await claimed(outbox, claim.deliveries[0].lane, 2)
            assert (head.deliveries == claim.deliveries) == (state is State.DUE)
        assert len(await outbox.dead_letters(ENDPOINT)) == 4

    async def test_closing_twice_is_harmless(self, tmp_path: Path) -> None:
        outbox = self.make(tmp_path)
        await outbox.open()
        await outbox.append(Commit((event(1),), (due(1),)))
        await outbox.close()
        await outbox.close()

    async def test_closing_what_was_never_opened_is_harmless(self, tmp_path: Path) -> None:
        await self.make(tmp_path).close()

    def test_behaves_like_the_model(self) -> None:
        suite = self

        class Machine(OutboxMachine):
            def make_outbox(self, home: Path) -> Outbox:
                return suite.make(home)

            durable = suite.durable

        checks = [HealthCheck.too_slow, HealthCheck.data_too_large]
        run_state_machine_as_test(
            Machine, settings=settings(max_examples=25, stateful_step_count=30, deadline=None, suppress_health_check=checks)
        )


class DurableOutboxSuite(OutboxSuite):
    """For outboxes whose promise outlives the process; `make` on the same home must find what was appended."""

    durable = True

    async def test_deliveries_sequences_and_lanes_survive(self, tmp_path: Path) -> None:
        outbox = self.make(tmp_path)
        await outbox.open()
        await outbox.append(Commit((event(1),), (due(1, 0), due(2, 3), due(7, 5, OTHER))))
        await outbox.settle(settled(await claimed(outbox, 3), State.DELIVERED))
        await outbox.close()
        outbox = self.make(tmp_path)
        recovery = await outbox.open()
        assert dict(recovery.sequences) == {ENDPOINT: 2, OTHER: 7}
        assert recovery.lanes == {(ENDPOINT, 0), (OTHER, 5)}
        assert await outbox.claim(ENDPOINT, 0, 9) == Claim((due(1, 0),))
        assert await outbox.claim(ENDPOINT, 3, 9) is None
        assert await outbox.backlog(OTHER) == Backlog(1, due(7).at_ms)
        await outbox.close()

    async def test_a_sequence_is_never_given_twice_though_nothing_is_left(self, tmp_path: Path) -> None:
        for number in (1, 2, 3):
            outbox = self.make(tmp_path)
            recovery = await outbox.open()
            assert recovery.sequences.get(ENDPOINT, 0) == number - 1
            assert recovery.lanes == frozenset()
            await outbox.append(Commit(deliveries=(due(number),)))
            await outbox.settle(settled(await claimed(outbox), State.DELIVERED if number % 2 else State.DEAD))
            await outbox.close()

    async def test_what_was_settled_soon_is_settled_when_the_outbox_is_closed(self, tmp_path: Path) -> None:
        outbox = self.make(tmp_path)
        await outbox.open()
        await outbox.append(Commit(deliveries=(due(1), due(2))))
        await outbox.settle_soon(settled(await claimed(outbox, limit=1), State.DELIVERED))
        await outbox.close()
        outbox = self.make(tmp_path)
        await outbox.open()
        assert sequences(await outbox.claim(ENDPOINT, 0, 9)) == [2]
        await outbox.close()

    async def test_a_pinned_head_survives(self, tmp_path: Path) -> None:
        outbox = self.make(tmp_path)
        await outbox.open()
        await outbox.append(Commit(deliveries=(due(1), due(2), due(3))))
        await outbox.settle(settled(await claimed(outbox, limit=2), State.DUE, attempts=6, due_at_ms=1_999_999_999_999))
        await outbox.close()
        outbox = self.make(tmp_path)
        await outbox.open()
        await outbox.append(Commit(deliveries=(due(4),)))
        expected = Claim((due(1), due(2)), attempts=6, first_at_ms=1_700_000_100_001, due_at_ms=1_999_999_999_999)
        assert await outbox.claim(ENDPOINT, 0, 500) == expected
        await outbox.close()

    async def test_dead_letters_survive(self, tmp_path: Path) -> None:
        outbox = self.make(tmp_path)
        await outbox.open()
        await outbox.append(Commit(deliveries=(due(1),)))
        given_up = settled(await claimed(outbox), State.DEAD, reason="gone")
        await outbox.settle(given_up)
        await outbox.close()
        outbox = self.make(tmp_path)
        await outbox.open()
        assert list(await outbox.dead_letters(ENDPOINT)) == [DeadLetter(due(1), given_up)]
        await outbox.close()

    async def test_open_spans_survive_with_their_facts(self, tmp_path: Path) -> None:
        left = [span("1.1"), span("room\n1.1", "subscription"), span("presence-x\nu\x00\\1", "member", 123)]
        outbox = self.make(tmp_path)
        await outbox.open()
        await outbox.append(Commit(tuple(SpanOpened(one) for one in (*left, span("2.2"), span("3.3")))))
        # within one commit the order of the records decides
        await outbox.append(
            Commit(
                (
                    SpanClosed("1001", "connection", "2.2"),
                    SpanClosed("1001", "connection", "1.1"),
                    SpanOpened(left[0]),
                    SpanOpened(span("4.4")),
                    SpanClosed("1001", "connection", "4.4"),
                    SpanDeparting("1001", "connection", "never.was", 9),
                    SpanDeparting("1001", "connection", "3.3", 9),
                    SpanDeparting("1001", "subscription", "room\n1.1", 456),
                )
            )
        )
        await outbox.append(Commit((SpanClosed("1001", "connection", "3.3"),)))
        await outbox.close()
        outbox = self.make(tmp_path)
        left[1] = dataclasses.replace(left[1], departs_at_ms=456)
        assert sorted((await outbox.open()).spans, key=lambda one: one.id) == sorted(left, key=lambda one: one.id)
        await outbox.append(Commit((SpanDeparting("1001", "subscription", "room\n1.1", None),)))
        await outbox.close()
        outbox = self.make(tmp_path)
        left[1] = dataclasses.replace(left[1], departs_at_ms=None)
        assert sorted((await outbox.open()).spans, key=lambda one: one.id) == sorted(left, key=lambda one: one.id)
        await outbox.close()

    async def test_a_commit_that_cannot_be_written_leaves_nothing_of_itself(self, tmp_path: Path) -> None:
        outbox = self.make(tmp_path)
        await outbox.open()
        unwritable = dataclasses.replace(event(1), data={"what": object()})
        both = await asyncio.gather(
            outbox.append(Commit((SpanOpened(span("1.1")), unwritable), (due(1),))),
            outbox.append(Commit((SpanOpened(span("2.2")), event(2)), (due(2),))),
            return_exceptions=True,
        )
        assert isinstance(both[0], Exception)
        assert both[1] is None
        assert sequences(await outbox.claim(ENDPOINT, 0, 9)) == [2]
        await outbox.close()
        outbox = self.make(tmp_path)
        recovery = await outbox.open()
        assert [one.key for one in recovery.spans] == ["2.2"]
        await outbox.close()


class OutboxMachine(RuleBasedStateMachine):
    """Random histories against a model of a few lists."""

    durable = False
    LANES: ClassVar = [(ENDPOINT, 0), (ENDPOINT, 1), (OTHER, 0)]

    def make_outbox(self, home: Path) -> Outbox:
        raise NotImplementedError

    @initialize()
    def begin(self) -> None:
        self.loop = asyncio.new_event_loop()
        self.home = tempfile.TemporaryDirectory()
        self.due: dict[tuple[str, int], list[Delivery]] = {lane: [] for lane in self.LANES}
        self.pins: dict[tuple[str, int], tuple[int, int, int]] = {}
        self.dead: dict[str, list[int]] = {ENDPOINT: [], OTHER: []}
        self.last = {ENDPOINT: 0, OTHER: 0}
        self.former: list[Settlement] = []
        self.outbox = self.make_outbox(Path(self.home.name))
        self.loop.run_until_complete(self.outbox.open())

    def teardown(self) -> None:
        if hasattr(self, "outbox"):
            self.loop.run_until_complete(self.outbox.close())
            self.loop.close()
            self.home.cleanup()

    def expected(self, lane: tuple[str, int], limit: int) -> Claim | None:
        waiting = self.due[lane]
        if not waiting:
            return None
        count, attempts, due_at_ms = self.pins.get(lane, (limit, 0, 0))
        first_at_ms = 1_700_000_100_001 if lane in self.pins else 0
        return Claim(tuple(waiting[:count]), attempts, first_at_ms, due_at_ms)

    @rule(lanes=st.lists(st.sampled_from(LANES), min_size=1, max_size=6))
    def append(self, lanes: list[tuple[str, int]]) -> None:
        deliveries = []
        for endpoint, lane in lanes:
            self.last[endpoint] += 1
            deliveries.append(due(self.last[endpoint], lane, endpoint))
            self.due[endpoint, lane].append(deliveries[-1])
        self.loop.run_until_complete(self.outbox.append(Commit(deliveries=tuple(deliveries))))

    @rule(lane=st.sampled_from(LANES), limit=st.integers(1, 4))
    def claim(self, lane: tuple[str, int], limit: int) -> None:
        assert self.loop.run_until_complete(self.outbox.claim(*lane, limit)) == self.expected(lane, limit)

    @rule(lane=st.sampled_from(LANES), limit=st.integers(1, 4), state=st.sampled_from(State), due_at_ms=st.integers(1, 99))
    def settle(self, lane: tuple[str, int], limit: int, state: State, due_at_ms: int) -> None:
        claim = self.expected(lane, limit)
        if claim is None:
            return
        settlement = settled(claim, state, attempts=claim.attempts + 1, due_at_ms=due_at_ms if state is State.DUE else 0)
        self.loop.run_until_complete(self.outbox.settle(settlement))
        count = len(claim.deliveries)
        if state is State.DUE:
            self.pins[lane] = (count, settlement.attempts, due_at_ms)
            return
        self.pins.pop(lane, None)
        if state is State.DEAD:
            self.dead[lane[0]] += [delivery.sequence for delivery in self.due[lane][:count]]
        del self.due[lane][:count]
        self.former.append(settlement)

    @rule(which=st.randoms(use_true_random=False))
    def settle_again(self, which: object) -> None:
        if self.former:
            self.loop.run_until_complete(self.outbox.settle(which.choice(self.former)))  # type: ignore[attr-defined]

    @rule()
    def restart(self) -> None:
        if not self.durable:
            return
        self.loop.run_until_complete(self.outbox.close())
        self.outbox = self.make_outbox(Path(self.home.name))
        recovery = self.loop.run_until_complete(self.outbox.open())
        assert {key: value for key, value in recovery.sequences.items() if value} == {k: v for k, v in self.last.items() if v}
        assert recovery.lanes == {lane for lane, waiting in self.due.items() if waiting}

    @invariant()
    def the_books_balance(self) -> None:
        if not hasattr(self, "outbox"):
            return
        for endpoint in (ENDPOINT, OTHER):
            waiting = [delivery for (name, _), lane in self.due.items() if name == endpoint for delivery in lane]
            oldest = min((delivery.at_ms for delivery in waiting), default=None)
            assert self.loop.run_until_complete(self.outbox.backlog(endpoint)) == Backlog(len(waiting), oldest)
            letters = self.loop.run_until_complete(self.outbox.dead_letters(endpoint, 1_000))
            assert [letter.delivery.sequence for letter in letters] == self.dead[endpoint]
