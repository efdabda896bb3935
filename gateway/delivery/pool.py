"""All endpoints' lanes. Nothing is shared between endpoints: no queue, no connection, no circuit, no wait."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Collection, Iterable, Mapping

from gateway.core import signing, webhook
from gateway.core.delivery import REPLAY_LANE, Delivery, Outcome, Settlement
from gateway.core.endpoint import Endpoint
from gateway.core.retry import is_left_alone
from gateway.delivery.lane import EndpointState, Lanes, Tools
from gateway.delivery.sender import Sender
from gateway.ports import Clock, Outbox
from gateway.telemetry import Telemetry


class Pool:
    """Delivers what the outbox holds, for the endpoints it was `configure`d with, between `start` and `stop`.

    Outbox and sender stay the caller's, to be closed after `stop`. `roll` returns a random number in [0, 1).
    """

    def __init__(
        self, *, outbox: Outbox, sender: Sender, clock: Clock, telemetry: Telemetry, roll: Callable[[], float], user_agent: str
    ) -> None:
        self._outbox = outbox
        self._sender = sender
        self._clock = clock
        self._telemetry = telemetry
        self._changed = asyncio.Event()
        self._tools = Tools(
            outbox=outbox,
            sender=sender,
            clock=clock,
            telemetry=telemetry,
            roll=roll,
            user_agent=user_agent,
            changed=self._changed.set,
        )
        self._lanes: dict[str, Lanes] = {}
        #: lanes with something to send to endpoints that are not configured (now)
        self._strays: dict[str, set[int]] = {}
        #: endpoints that were removed and whose lanes have not ended yet
        self._leaving: dict[str, asyncio.Task[None]] = {}
        self._is_started = False
        self._is_stopped = False

    def configure(self, endpoints: Iterable[Endpoint]) -> None:
        """Take over a configuration, the first or another one.

        Endpoints that are the same as before go on undisturbed, disabled ones included (see `enable`). One that has
        changed goes on with what it has left, and starts with a clean slate. One that is gone is cut off; what is due to
        it stays in the outbox. After `start` this needs the running event loop.
        """
        wanted = {endpoint.key: endpoint for endpoint in endpoints}
        for key in [key for key in self._lanes if key not in wanted]:
            self._remove(key)
        for key, endpoint in wanted.items():
            lanes = self._lanes.get(key)
            if lanes is None:
                self._add(endpoint)
            elif lanes.endpoint != endpoint:
                lanes.change(endpoint)

    def recall(self, endpoint_key: str, settlements: Iterable[Settlement]) -> None:
        """Take up an endpoint's latest settlements of a former life, the newest first: see `retry.is_left_alone`."""
        lanes = self._lanes.get(endpoint_key)
        if lanes is not None and is_left_alone(settlements):
            lanes.disable("it answered 410 before this start; `rawpush webhooks enable` lets it have webhooks again")

    def enable(self, endpoint_key: str) -> bool:
        """Let an endpoint that answered 410 have webhooks again; False if there is no such endpoint."""
        lanes = self._lanes.get(endpoint_key)
        if lanes is not None:
            lanes.enable("enabled by the operator")
        return lanes is not None

    def wake(self, lanes: Iterable[tuple[str, int]]) -> None:
        """Something is due in these (endpoint key, lane) pairs. Cheap; called after each commit."""
        touched: set[Lanes] = set()
        for key, lane in lanes:
            found = self._lanes.get(key)
            if found is None:
                self._strays.setdefault(key, set()).add(lane)
            else:
                found.note(lane)
                touched.add(found)
        for found in touched:
            found.go()

    async def start(self) -> None:
        """Begin delivering."""
        self._is_started = True
        for lanes in self._lanes.values():
            lanes.start()

    async def drain(self, timeout_s: float, keys: Collection[str] | None = None) -> int:
        """Deliver what can be delivered within `timeout_s`, and return how many deliveries are left.

        Returns early when every lane is empty or would only go on after that time. `keys` limits it to some endpoints.
        """
        deadline = self._clock.monotonic() + timeout_s
        drained = {key: lanes for key, lanes in self._lanes.items() if keys is None or key in keys}
        while (self._leaving and keys is None) or any(lanes.is_busy(deadline) for lanes in drained.values()):
            left_s = deadline - self._clock.monotonic()
            if left_s <= 0:
                break
            self._changed.clear()
            try:
                async with asyncio.timeout(left_s):
                    await self._changed.wait()
            except TimeoutError:
                break
        left = 0
        for key in drained:
            try:
                left += (await self._outbox.backlog(key)).count
            except OSError as error:
                self._telemetry.note(logging.ERROR, "cannot count what is due", endpoint=key, error=str(error))
        return left

    async def stop(self) -> None:
        """End all lanes; attempts under way are cut off and stay due. Idempotent."""
        self._is_stopped = True
        await asyncio.gather(*[lanes.stop() for lanes in self._lanes.values()], *self._leaving.values())

    async def test(self, delivery: Delivery) -> Outcome:
        """Send one delivery at once, outside of lanes, circuit and outbox, and return what came back.

        Raises KeyError if its endpoint is not configured.
        """
        endpoint = self._lanes[delivery.endpoint].endpoint
        at_ms = self._clock.epoch_ms()
        request = webhook.request(endpoint, (delivery,), at_ms)
        headers = signing.headers(endpoint, request, attempt=1, now_s=at_ms // 1000, user_agent=self._tools.user_agent)
        return await self._sender.send(endpoint, headers, request.body)

    def states(self) -> Mapping[str, EndpointState]:
        """Return how each endpoint is doing, by its key."""
        return {key: lanes.state for key, lanes in self._lanes.items()}

    def _add(self, endpoint: Endpoint) -> None:
        key = endpoint.key
        lanes = self._lanes[key] = Lanes(endpoint, self._tools)
        for lane in self._strays.pop(key, ()):
            lanes.note(lane)
        # Under the same name it may have left something behind, before it was removed or before this process.
        if self._is_started:
            for lane in (*range(endpoint.concurrency), REPLAY_LANE):
                lanes.note(lane)
        if self._is_started and not self._is_stopped and key not in self._leaving:
            lanes.start()

    def _remove(self, key: str) -> None:
        lanes = self._lanes.pop(key)
        self._strays.setdefault(key, set()).update(lanes.unfinished)
        if self._is_started and key not in self._leaving:
            self._leaving[key] = asyncio.create_task(self._leave(key, lanes), name=f"leave {key}")

    async def _leave(self, key: str, lanes: Lanes) -> None:
        await lanes.stop()
        await self._sender.forget(key)
        del self._leaving[key]
        # It may have come back meanwhile; two attempts at one request at the same time there must not be.
        if key in self._lanes and not self._is_stopped:
            self._lanes[key].start()
        self._changed.set()
