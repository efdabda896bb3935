"""A desk over an outbox in memory, with deliveries that are made by hand."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from itertools import count
from typing import Any

from gateway.core.delivery import Delivery, Outcome, Settlement, Stage, State
from gateway.core.endpoint import Endpoint
from gateway.core.ident import Ids
from gateway.core.lifecycle import LifecycleEvent, Record
from gateway.core.webhook import Router, request
from gateway.desk import Desk
from gateway.outbox.memory import MemoryOutbox
from gateway.ports import Commit
from gateway.telemetry import Telemetry
from tests.fake import FakeClock

REFUSED_500 = Outcome(Stage.ANSWERED, 12.34, 500, body=b"no \xff", error="")


def endpoint(name: str = "backend", app_id: str = "740213", **settings: Any) -> Endpoint:
    return Endpoint(app_id, name, f"http://127.0.0.1:9/{name}?token=s3cret", ("s3cret",), **settings)


@dataclass
class FakeHealth:
    state: str = "healthy"
    why: str = ""
    running: int = 0
    waiting: int = 0
    failures: int = 0
    last: Outcome | None = None
    last_at_ms: int = 0


class FakeDeliverer:
    """Delivers nothing; remembers what it was told, and answers a test with `outcome`."""

    def __init__(self) -> None:
        self.health: dict[str, FakeHealth] = {}
        self.woken: list[tuple[str, int]] = []
        self.tested: list[Delivery] = []
        self.outcome = Outcome(Stage.ANSWERED, 1.25, 200, body=b"fine")

    def wake(self, lanes: Iterable[tuple[str, int]]) -> None:
        self.woken += lanes

    def enable(self, endpoint_key: str) -> bool:
        self.health[endpoint_key] = FakeHealth()
        return True

    def states(self) -> Mapping[str, FakeHealth]:
        return self.health

    async def test(self, delivery: Delivery) -> Outcome:
        self.tested.append(delivery)
        return self.outcome


class DeskKit:
    """The desk, what it stands on, and the hands that record events and make attempts."""

    def __init__(
        self, *endpoints: Endpoint, clock: FakeClock | None = None, feed: tuple[str, ...] = (), outbox: MemoryOutbox | None = None
    ) -> None:
        self.clock = clock or FakeClock()
        self.outbox = outbox or MemoryOutbox(capacity=10_000)
        self.ids = Ids(1)
        self.deliverer = FakeDeliverer()
        self.sequences: dict[str, int] = {}
        self.configure(*endpoints)
        self.numbers = count(1)
        self.desk = Desk(
            outbox=self.outbox,
            ledger=self.outbox,
            router=lambda: self.router,
            deliverer=self.deliverer,
            ids=self.ids,
            clock=self.clock,
            telemetry=Telemetry(),
            user_agent="RawPush/test",
        )

    def configure(self, *endpoints: Endpoint) -> None:
        self.endpoints = {one.key: one for one in endpoints}
        self.router = Router(endpoints, "gw-1", self.sequences)

    def event(self, kind: str = "message.published", channel: str = "orders", name: str | None = "created") -> LifecycleEvent:
        """Return a new event of now."""
        at_ms = self.clock.epoch_ms()
        data = {"channel": channel, "event": name, "number": next(self.numbers), "data": "é"}
        subject = f"740213/channel/{channel}"
        return LifecycleEvent(self.ids.make("evt", at_ms), kind, "740213", at_ms, subject, data, channel, name)

    async def record(self, *records: Record) -> None:
        """Commit records, with the deliveries they cause, and announce them."""
        events = [record for record in records if isinstance(record, LifecycleEvent)]
        deliveries = [delivery for event in events for delivery in self.router.route(event)]
        await self.outbox.append(Commit(records, tuple(deliveries)))
        self.desk.announce(records)

    async def happen(self, number: int, **settings: Any) -> list[LifecycleEvent]:
        """Record so many new events, one a second."""
        events = []
        for _ in range(number):
            events.append(self.event(**settings))
            await self.record(events[-1])
            self.clock.move(1)
        return events

    async def settle(self, key: str, state: State, outcome: Outcome | None = None, **more: Any) -> list[Delivery]:
        """Make one attempt at everything that is due to the endpoint, one request at a time; return the deliveries."""
        settled = []
        for lane in (*range(self.endpoints[key].concurrency), 4096):
            while (claim := await self.outbox.claim(key, lane, 1)) is not None:
                one = request(self.endpoints[key], claim.deliveries)
                await self.outbox.settle(self.settlement(one.id, claim.deliveries, claim.attempts + 1, state, outcome, **more))
                settled += claim.deliveries
                if state is State.DUE:
                    break
        return settled

    def settlement(
        self, id_: str, deliveries: Sequence[Delivery], attempts: int, state: State, outcome: Outcome | None, **more: Any
    ) -> Settlement:
        first, last = deliveries[0], deliveries[-1]
        now = self.clock.epoch_ms()
        bounds = (first.sequence, last.sequence, len(deliveries))
        return Settlement(first.endpoint, first.lane, id_, *bounds, attempts, now, now, state, outcome, **more)

    async def replayed(self, key: str) -> list[Delivery]:
        """Return what waits in the replay lane."""
        claim = await self.outbox.claim(key, 4096, 10_000)
        return [] if claim is None else list(claim.deliveries)

    async def until_waiting(self, number: int) -> None:
        """Return once so many questions wait for an event; whatever makes them wait must be under way."""
        while self.desk.waiting != number:  # noqa: ASYNC110 -- waiting is not announced
            await asyncio.sleep(0)
