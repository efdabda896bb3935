"""One endpoint's lanes: claim the head, have one attempt made, settle what became of it, go on or wait.

    idle --wake--> waiting --admitted by the circuit--> running --nothing left--> idle
                      ^                                    |
                      +--- failed, or must not go on yet --+

A running lane is a task; an idle or waiting one is a number in a set. A lane runs on from request to request for as long as
the circuit lets it.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace

from gateway.core import signing, webhook
from gateway.core.circuit import Circuit
from gateway.core.delivery import REPLAY_LANE, Claim, Delivery, Outcome, Request, Settlement, Stage, State
from gateway.core.endpoint import Endpoint
from gateway.core.format import FORMATS, batches, together
from gateway.core.pace import rest_s
from gateway.core.retry import Delivered, Disable, GiveUp, RetryAt, Suspend, decide
from gateway.delivery.sender import Sender
from gateway.ports import Clock, Outbox
from gateway.telemetry import Telemetry

#: Seconds until a lane that met trouble on this side (disk, a fault of our own) tries again: short enough to go unnoticed
#: once the disk is back, long enough not to fill the log.
TROUBLE_S = 1.0

#: Seconds `stop` gives an answer that has come to be written down.
_SETTLE_S = 2.0


@dataclass(frozen=True, slots=True)
class EndpointState:
    """How an endpoint is doing, for whoever looks in."""

    #: `healthy`, `backing off` or `disabled`
    state: str
    #: what made it so; empty while nothing has
    why: str
    #: lanes with a request under way, and lanes that wait although they have something to send
    running: int
    waiting: int
    #: attempts failed since the last success, of any lane
    failures: int
    #: the latest attempt, if there was one: what came back, and when (Unix ms)
    last: Outcome | None
    last_at_ms: int


class Tools:
    """What all lanes need, and the one judgement about time they share."""

    def __init__(
        self,
        *,
        outbox: Outbox,
        sender: Sender,
        clock: Clock,
        telemetry: Telemetry,
        roll: Callable[[], float],
        user_agent: str,
        changed: Callable[[], None],
    ) -> None:
        """`changed` is called whenever a lane has stopped running."""
        self.outbox = outbox
        self.sender = sender
        self.clock = clock
        self.telemetry = telemetry
        self.roll = roll
        self.user_agent = user_agent
        self.changed = changed
        self._monotonic_s = clock.monotonic()
        self._epoch_ms = clock.epoch_ms()

    def age_s(self, since_ms: int) -> float:
        """Return the seconds since a moment of the wall clock, so that no step of that clock makes anything old.

        The wall clock of this start, carried on by the steady one, is asked too, and the one that says less is believed.
        """
        steady_ms = self._epoch_ms + (self.clock.monotonic() - self._monotonic_s) * 1000
        return max(0.0, min(float(self.clock.epoch_ms()), steady_ms) - since_ms) / 1000


class Lanes:
    """The lanes of one endpoint, with its circuit. `start` lets them go, `stop` ends them for good."""

    def __init__(self, endpoint: Endpoint, tools: Tools) -> None:
        self.endpoint = endpoint
        self._tools = tools
        self._circuit = Circuit(endpoint.concurrency, endpoint.retry)
        #: lanes that have, or may have, something to send, and do not run
        self._waiting: set[int] = set()
        self._running: dict[int, asyncio.Task[None]] = {}
        #: running lanes that were woken since their latest claim
        self._woken: set[int] = set()
        #: running lanes whose answer is being written down
        self._settling: set[int] = set()
        #: lanes claimed from before; until then, what a former life of the process has put off counts
        self._known: set[int] = set()
        self._timer: asyncio.TimerHandle | None = None
        self._timer_at = 0.0
        self._is_started = False
        self._is_stopping = False
        self._state = self._circuit.state
        self._why = ""
        self._failures = 0
        self._last: Outcome | None = None
        self._last_at_ms = 0

    @property
    def state(self) -> EndpointState:
        return EndpointState(
            self._circuit.state, self._why, len(self._running), len(self._waiting), self._failures, self._last, self._last_at_ms
        )

    @property
    def unfinished(self) -> frozenset[int]:
        """The lanes that have, or may have, something to send."""
        return frozenset(self._waiting.union(self._running))

    def note(self, lane: int) -> None:
        """The lane has got something to send; `go` lets it."""
        if lane in self._running:
            self._woken.add(lane)
        else:
            self._waiting.add(lane)

    def go(self) -> None:
        """Start every lane that has something to send and may."""
        self._admit(None)

    def start(self) -> None:
        """Let the lanes run."""
        self._is_started = True
        self.go()

    def change(self, endpoint: Endpoint) -> None:
        """Go on under another configuration; what was held against the former one is forgotten."""
        before, self.endpoint = self.endpoint, endpoint
        if (before.concurrency, before.retry) != (endpoint.concurrency, endpoint.retry):
            self._circuit = Circuit(endpoint.concurrency, endpoint.retry)
        self.enable("configured anew")

    def enable(self, why: str) -> None:
        """Forget a 410 and all other failures, and try at once, gently."""
        self._circuit.enable()
        self._note_state(why)
        self.go()

    def disable(self, why: str) -> None:
        """Send nothing more until `enable`; what is due stays due."""
        self._circuit.disable()
        self._note_state(why)

    def is_busy(self, deadline: float) -> bool:
        """Tell whether a lane is running or will be before the deadline (monotonic), as far as one can know."""
        if self._running:
            return True
        at = self._circuit.next_at(self._waiting, self._tools.clock.monotonic()) if self._is_started else None
        return at is not None and at <= deadline

    async def stop(self) -> None:
        """End all lanes. Attempts under way are cut off and stay due; answers that have come are still written down."""
        self._is_stopping = True
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        tasks = list(self._running.values())
        for lane, task in self._running.items():
            if lane not in self._settling:
                task.cancel()
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=_SETTLE_S)
            for task in late:
                task.cancel()
            await asyncio.gather(*late, return_exceptions=True)

    # -- who runs

    def _admit(self, asking: int | None) -> bool:
        """Start who may; tell whether the lane that asks, which runs already, may go on."""
        if not self._is_started or self._is_stopping:
            return False
        now = self._tools.clock.monotonic()
        goes_on = False
        for lane in self._circuit.admit(self._waiting, now):
            self._waiting.discard(lane)
            if lane == asking:
                goes_on = True
            else:
                self._running[lane] = asyncio.create_task(self._run(lane), name=f"lane {self.endpoint.key} {lane}")
        self._arm(now)
        return goes_on

    def _goes_on(self, lane: int) -> bool:
        """Ask the circuit whether the running lane may go on at once; if not, it waits from now on."""
        if not self._waiting and not self._is_stopping and self._circuit.admit((lane,), self._tools.clock.monotonic()):
            return True
        self._waiting.add(lane)
        return self._admit(lane)

    def _arm(self, now: float) -> None:
        """Set the timer to the moment at which the circuit would let one of the waiting go."""
        at = self._circuit.next_at(self._waiting, now) if self._waiting else None
        if self._timer is not None:
            if at == self._timer_at:
                return
            self._timer.cancel()
            self._timer = None
        if at is not None:
            self._timer_at = at
            self._timer = asyncio.get_running_loop().call_later(max(0.0, at - now), self._time_has_come)

    def _time_has_come(self) -> None:
        self._timer = None
        self.go()

    # -- a running lane

    async def _run(self, lane: int) -> None:
        try:
            while await self._run_once(lane):
                pass
        except Exception:
            logging.getLogger("rawpush.webhook").exception(
                "a lane failed; it goes on in a second", extra={"fields": {"endpoint": self.endpoint.key, "lane": lane}}
            )
            self._put_off(lane, TROUBLE_S)
        finally:
            del self._running[lane]
            self._settling.discard(lane)
            if lane in self._woken:
                self._woken.discard(lane)
                self._waiting.add(lane)
            self.go()
            self._tools.changed()

    async def _run_once(self, lane: int) -> bool:
        """Deal with the head of the lane, which the circuit has admitted; tell whether the lane may go on at once."""
        endpoint = self.endpoint
        self._woken.discard(lane)
        try:
            claim = await self._tools.outbox.claim(endpoint.key, lane, endpoint.batch_max if batches(endpoint.format) else 1)
        except OSError as error:
            self._complain("cannot read what is due", lane, error)
            self._put_off(lane, TROUBLE_S)
            return False
        if claim is None:
            self._circuit.released(lane)
            return False
        if lane not in self._known:
            self._known.add(lane)
            wait_s = self._put_off_before(claim)
            if wait_s > 0:
                self._put_off(lane, wait_s)
                return False
        if not claim.attempts:  # else it stays as it was cut
            count = together(endpoint.format, claim.deliveries)
            if count < len(claim.deliveries):
                claim = replace(claim, deliveries=claim.deliveries[:count])
        expired = self._expired(lane, claim)
        if expired:
            await self._settle(self._given_up(lane, claim, expired))
            return not self._is_stopping  # no answer, no report: it is still admitted
        began_s = self._tools.clock.monotonic()
        is_delivered = await self._attempt(lane, endpoint, claim)
        if is_delivered and batches(endpoint.format):
            took_s = self._tools.clock.monotonic() - began_s
            await asyncio.sleep(rest_s(took_s, len(claim.deliveries), endpoint.batch_max))
        return self._goes_on(lane)

    async def _attempt(self, lane: int, endpoint: Endpoint, claim: Claim) -> bool:
        """Make the attempt and settle it; tell whether the deliveries have arrived."""
        tools = self._tools
        at_ms = tools.clock.epoch_ms()
        request = _request(endpoint, claim.deliveries, at_ms)
        attempt = claim.attempts + 1
        headers = signing.headers(endpoint, request, attempt=attempt, now_s=at_ms // 1000, user_agent=tools.user_agent)
        outcome = await tools.sender.send(endpoint, headers, request.body)
        # From here to the end of `_settle` the lane must not be cut off: what was answered would be sent again.
        self._settling.add(lane)
        # What was published in this turn of the loop goes out at its end, and must not wait for what follows here.
        await asyncio.sleep(0)
        first_at_ms = claim.first_at_ms or at_ms
        verdict = decide(endpoint.retry, attempts=attempt, age_s=tools.age_s(first_at_ms), outcome=outcome, roll=tools.roll())
        now = tools.clock.monotonic()
        state, due_at_ms, reason = State.DUE, 0, ""
        self._failures += 1
        match verdict:
            case Delivered():
                state = State.DELIVERED
                self._failures = 0
                self._circuit.succeeded(lane)
            case RetryAt(delay_s):
                due_at_ms = tools.clock.epoch_ms() + round(delay_s * 1000)
                self._circuit.failed(lane, delay_s, now)
            case Suspend(delay_s):
                due_at_ms = tools.clock.epoch_ms() + round(delay_s * 1000)
                self._circuit.suspended(lane, delay_s, now)
            case GiveUp(reason):
                state = State.DEAD
                self._circuit.failed(lane, 0.0, now)
            case Disable(reason):
                state = State.DEAD
                self._circuit.released(lane)
                self._circuit.disable()
        self._last, self._last_at_ms = outcome, at_ms
        self._note_state(_in_short(outcome))
        if self._waiting:
            self.go()
        await self._settle(request.settlement(attempt, at_ms, first_at_ms, state, outcome, due_at_ms=due_at_ms, reason=reason))
        self._settling.discard(lane)
        return state is State.DELIVERED

    async def _settle(self, settlement: Settlement) -> None:
        """Say and write what became of a request. While the disk refuses, the lane waits: it must not be sent again."""
        self._tools.telemetry.attempted(self.endpoint, settlement)
        while True:
            try:
                if settlement.state is State.DELIVERED and settlement.count == 1:
                    await self._tools.outbox.settle_soon(settlement)
                else:  # where events pile up, the next webhook grows meanwhile
                    await self._tools.outbox.settle(settlement)
                return
            except OSError as error:
                self._complain("cannot write what became of a webhook", settlement.lane, error)
            if self._is_stopping:
                return
            await asyncio.sleep(TROUBLE_S)

    # -- what must not be attempted now, or at all

    def _put_off_before(self, claim: Claim) -> float:
        """Return for how long a former life of the process has put the head off.

        The moment was written by a wall clock that may have stood anywhere, so no more is believed than the policy allows.
        """
        policy = self.endpoint.retry
        longest = max(policy.max_delay_s, *policy.schedule_s) if policy.schedule_s else policy.max_delay_s
        return min(longest, (claim.due_at_ms - self._tools.clock.epoch_ms()) / 1000)

    def _expired(self, lane: int, claim: Claim) -> tuple[Delivery, ...]:
        """Return the deliveries at the head that are too old: all of a request that was attempted, or none of it."""
        max_age_s = self.endpoint.retry.max_age_s
        if claim.attempts:
            return claim.deliveries if self._tools.age_s(claim.first_at_ms) > max_age_s else ()
        if lane == REPLAY_LANE:
            return ()  # somebody wants it in spite of its age, which begins anew with the first attempt
        count = 0
        for delivery in claim.deliveries:
            if self._tools.age_s(delivery.at_ms) <= max_age_s:
                break
            count += 1
        return claim.deliveries[:count]

    def _given_up(self, lane: int, claim: Claim, deliveries: tuple[Delivery, ...]) -> Settlement:
        now_ms = self._tools.clock.epoch_ms()
        request = _request(self.endpoint, deliveries)
        return request.settlement(claim.attempts, now_ms, claim.first_at_ms or now_ms, State.DEAD, None, reason="max_age")

    def _put_off(self, lane: int, wait_s: float) -> None:
        """The lane was admitted, sends nothing, and waits."""
        self._circuit.released(lane)
        self._circuit.hold(lane, self._tools.clock.monotonic() + wait_s)
        self._waiting.add(lane)

    # -- what is said

    def _note_state(self, why: str) -> None:
        state = self._circuit.state
        if state != self._state:
            self._state, self._why = state, why
            self._tools.telemetry.endpoint_changed(self.endpoint, state, why)

    def _complain(self, sentence: str, lane: int, error: OSError) -> None:
        self._tools.telemetry.note(logging.ERROR, sentence, endpoint=self.endpoint.key, lane=lane, error=str(error))


def _request(endpoint: Endpoint, deliveries: Sequence[Delivery], at_ms: int | None = None) -> Request:
    if len(deliveries) > 1 and not batches(endpoint.format):
        # It was cut and attempted before the format was changed; a retry is the same bytes, as far as it can be.
        endpoint = replace(endpoint, format=FORMATS[endpoint.format].several)
    return webhook.request(endpoint, deliveries, at_ms)


def _in_short(outcome: Outcome) -> str:
    if outcome.stage is Stage.ANSWERED:
        return f"it answered {outcome.status}"
    return outcome.error or outcome.stage.value
