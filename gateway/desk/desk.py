"""The desk: feed and snapshot for receivers; why, delivery log, dead letters, replay and test for operators.

The answers are JSON-able objects, whoever asks: the HTTP API, the dashboard. Endpoints are named as in the file; whatever
is unknown is a RequestError that says what is known.
"""

from __future__ import annotations

import logging
from collections.abc import Callable, Iterable, Mapping, Sequence
from difflib import get_close_matches
from typing import Protocol

from gateway.core.delivery import Delivery, Outcome
from gateway.core.endpoint import Endpoint, shown_url
from gateway.core.error import RequestError
from gateway.core.ident import Ids
from gateway.core.lifecycle import LifecycleEvent, Record
from gateway.core.retry import enabled, is_left_alone, told_by
from gateway.core.webhook import Router, timestamp
from gateway.desk import answer
from gateway.desk.answer import Answer
from gateway.desk.feed import Feed
from gateway.desk.replay import MOST_EXAMINED, Replay, Replayed
from gateway.desk.selection import Selection
from gateway.desk.sent import Sent
from gateway.desk.snapshot import written
from gateway.desk.timeline import timeline
from gateway.ports import Clock, Ledger, Outbox
from gateway.telemetry import Telemetry

#: Tests of all endpoints that may be under way at once; each may take as long as its endpoint's time-out.
_MOST_TESTS = 16


class Health(Protocol):
    """How an endpoint is doing, as its deliverer sees it."""

    @property
    def state(self) -> str: ...
    @property
    def why(self) -> str: ...
    @property
    def running(self) -> int: ...
    @property
    def waiting(self) -> int: ...
    @property
    def failures(self) -> int: ...
    @property
    def last(self) -> Outcome | None: ...
    @property
    def last_at_ms(self) -> int: ...


class Deliverer(Protocol):
    """What the desk needs of whoever delivers."""

    def wake(self, lanes: Iterable[tuple[str, int]]) -> None:
        """Something is due in these (endpoint key, lane) pairs."""
        ...

    def enable(self, endpoint_key: str) -> bool:
        """Let an endpoint that answered 410 have webhooks again; False if there is no such endpoint."""
        ...

    def states(self) -> Mapping[str, Health]:
        """Return how each endpoint is doing, by its key."""
        ...

    async def test(self, delivery: Delivery) -> Outcome:
        """Send one delivery at once, outside of lanes and outbox; KeyError if its endpoint is not configured."""
        ...


class Desk:
    """Answers questions about the webhooks of an app, named by id. `router` is asked each time: a reload replaces it.

    All questions may raise OSError where the disk is at fault.
    """

    def __init__(
        self,
        *,
        outbox: Outbox,
        ledger: Ledger,
        router: Callable[[], Router],
        deliverer: Deliverer,
        ids: Ids,
        clock: Clock,
        telemetry: Telemetry,
        user_agent: str,
    ) -> None:
        """`user_agent` is what the deliverer calls itself."""
        self._outbox = outbox
        self._ledger = ledger
        self._router = router
        self._deliverer = deliverer
        self._ids = ids
        self._clock = clock
        self._telemetry = telemetry
        self._feed = Feed(ledger)
        self._replay = Replay(outbox=outbox, ledger=ledger, router=router, wake=deliverer.wake)
        self._sent = Sent(ledger=ledger, router=router, user_agent=user_agent)
        self._testing: set[str] = set()
        #: told of the same records as `announce`; None: nobody watches
        self.listener: Callable[[Sequence[Record]], None] | None = None

    def announce(self, records: Sequence[Record]) -> None:
        """To be called with the records of each commit, once it is durable."""
        self._feed.announce(records)
        if self.listener is not None:
            self.listener(records)

    @property
    def waiting(self) -> int:
        """How many questions wait for an event."""
        return self._feed.waiting

    def stop(self) -> None:
        """Let everybody who waits for an event go; from now on nobody waits."""
        self._feed.stop()

    # -- for receivers

    async def events(
        self, app_id: str, *, after: int | None, limit: int, kinds: frozenset[str] | None = None, wait_s: float = 0.0
    ) -> Answer:
        """Answer the events after a cursor, oldest first (None: those to come), and the cursor to go on with."""
        if after is None:
            after = self._ledger.latest(app_id)
        page = await self._feed.read(app_id, after=after, limit=limit, kinds=kinds, wait_s=wait_s)
        return {"events": list(map(answer.entry, page.entries)), "cursor": page.cursor, "forgotten": page.forgotten}

    async def snapshot(self, app_id: str) -> Answer:
        """Answer what is open, and the cursor at which it is."""
        return await written(await self._ledger.snapshot(app_id))

    # -- for operators

    def states(self) -> Mapping[str, Health]:
        """Return how each endpoint is doing, by its key, without asking the disk."""
        return self._deliverer.states()

    async def endpoints(self, app_id: str) -> Answer:
        """Answer how each endpoint of the app is doing."""
        states = self._deliverer.states()
        return {"endpoints": [await self._endpoint(endpoint, states) for endpoint in self._of(app_id).values()]}

    async def _endpoint(self, endpoint: Endpoint, states: Mapping[str, Health]) -> Answer:
        key = endpoint.key
        backlog = await self._outbox.backlog(key)
        told: Answer = {
            "name": endpoint.name,
            "url": shown_url(endpoint.url),
            "format": endpoint.format,
            "events": list(endpoint.events),
            "state": "healthy",
            "backlog": backlog.count,
            "dead_letters": await self._ledger.count_dead(key),
        }
        if backlog.oldest_at_ms is not None:
            told["oldest_at"] = timestamp(backlog.oldest_at_ms)
            told["oldest_age_ms"] = max(0, self._clock.epoch_ms() - backlog.oldest_at_ms)
        health = states.get(key)
        if health is not None:
            told |= {"state": health.state, "failures": health.failures, "running": health.running, "waiting": health.waiting}
            if health.state != "healthy" and health.why:
                told["why"] = health.why
            if health.last is not None:
                told["last"] = {"at": timestamp(health.last_at_ms), **answer.outcome(health.last)}
        return told

    async def why(self, app_id: str, event_id: str) -> Answer:
        """Answer, for each endpoint, whether the event was due to it and what became of it, or which setting left it out.

        The filter is today's; what an endpoint was sent before its filter changed is told all the same.
        """
        found = await self._ledger.find(app_id, event_id)
        if found is None:
            raise RequestError(
                404,
                f"event {event_id!r} is not in the ledger: it is older than the retention, or nobody wanted its kind "
                "when it happened, or it is of another app",
                "event_id",
            )
        traces = await self._ledger.trace(app_id, event_id)
        router, known = self._router(), self._of(app_id)
        gone = [key for key in dict.fromkeys(trace.endpoint for trace in traces) if key not in known]
        endpoints: list[Answer] = []
        for key in [*known, *gone]:
            told: Answer = {"name": key.partition("/")[2]}
            if key in known:
                setting = router.left_out_by(key, found.event)
                told["matches"] = setting is None
                if setting is not None:
                    told["left_out_by"] = setting
            else:
                told["removed"] = True
            now_ms = self._clock.epoch_ms()
            told["deliveries"] = [
                answer.trace(trace) | {"request": await self._sent.of(found.event, trace, now_ms)}
                for trace in traces
                if trace.endpoint == key
            ]
            endpoints.append(told)
        return {"event": answer.entry(found), "endpoints": endpoints}

    async def timeline(
        self, app_id: str, *, socket_id: str = "", channel: str = "", after: int = 0, from_ms: int | None = None, limit: int = 100
    ) -> Answer:
        """Answer what has happened to a connection, or on a channel, with what became of it; see `timeline.timeline`."""
        return await timeline(
            self._ledger, app_id, socket_id=socket_id, channel=channel, after=after, from_ms=from_ms, limit=limit
        )

    async def deliveries(self, app_id: str, name: str, *, before: int | None, limit: int) -> Answer:
        """Answer the endpoint's delivery log, newest first; `before` of the answer leads to the next page."""
        attempts = await self._ledger.attempts(self._key(app_id, name), before=before, limit=limit)
        told: Answer = {"deliveries": [answer.attempt(made) for made in attempts if made.settlement.count]}
        if len(attempts) == limit:
            told["before"] = attempts[-1].number
        return told

    async def request(self, app_id: str, name: str, number: int | None) -> Answer:
        """Answer an attempt of the delivery log (None: the newest) with what it sent; see `sent`."""
        key = self._key(app_id, name)
        # There may be a note before it.
        noted = await self._ledger.attempts(key, before=None if number is None else number + 1, limit=2)
        attempts = [made for made in noted if made.settlement.count]
        if not attempts or number not in (None, attempts[0].number):
            which = "attempt" if number is None else f"attempt {number}"
            raise RequestError(404, f"the delivery log of this endpoint has no {which} (any more)", "number")
        made = attempts[0]
        return answer.attempt(made) | {"request": await self._sent.by(app_id, made.settlement)}

    async def dead_letters(self, app_id: str, name: str, selection: Selection, *, after: int, limit: int) -> Answer:
        """Answer the endpoint's dead letters, oldest first; `after` of the answer leads to the next page."""
        key = self._key(app_id, name)
        # One more than the page tells whether there is one; only a filter must look at others than it returns.
        examined = MOST_EXAMINED if selection.is_choosy else limit + 1
        page = await self._ledger.dead(key, after=after, limit=examined)
        letters: list[Answer] = []
        # It may have been cut short for its size.
        has_more = bool(page) and (len(page) == examined or bool(await self._ledger.dead(key, after=page[-1][0], limit=1)))
        for number, letter in page:
            if len(letters) == limit:
                has_more = True
                break
            after = number
            if selection.takes_delivery(letter.delivery):
                letters.append(answer.letter(number, letter))
        told: Answer = {"dead_letters": letters, "count": await self._ledger.count_dead(key)}
        return told | {"after": after} if has_more else told

    async def replay_event(self, app_id: str, name: str, event_id: str) -> Answer:
        """Send one event to the endpoint again."""
        return self._replayed(app_id, name, await self._replay.event(app_id, self._key(app_id, name), event_id))

    async def replay_letters(self, app_id: str, name: str, numbers: Sequence[int]) -> Answer:
        """Send dead letters again, by number."""
        return self._replayed(app_id, name, await self._replay.letters(app_id, self._key(app_id, name), numbers))

    async def replay_all_letters(
        self, app_id: str, name: str, selection: Selection, *, limit: int, resume: str | None = None
    ) -> Answer:
        """Send the selected dead letters again, a step of at most `limit`; `resume` of the answer leads on (None: done)."""
        key = self._key(app_id, name)
        return self._replayed(app_id, name, await self._replay.all_letters(app_id, key, selection, limit, resume))

    async def replay_range(
        self,
        app_id: str,
        name: str,
        selection: Selection,
        *,
        limit: int,
        after: int | None = None,
        until: int | None = None,
        resume: str | None = None,
    ) -> Answer:
        """Send the selected events between two cursors again, a step at a time like `replay_all_letters`."""
        key = self._key(app_id, name)
        done = await self._replay.range(app_id, key, selection, limit, after=after, until=until, resume=resume)
        return self._replayed(app_id, name, done)

    def _replayed(self, app_id: str, name: str, done: Replayed) -> Answer:
        self._telemetry.note(logging.INFO, "replay", endpoint=f"{app_id}/{name}", events=done.replayed)
        told: Answer = {"replayed": done.replayed, "left_out": done.left_out, "resume": done.resume}
        return told | {"missing": list(done.missing)} if done.missing else told

    async def test(self, app_id: str, name: str) -> Answer:
        """Send one `webhook.test` to the endpoint, disabled or not, and answer what it said."""
        key = self._key(app_id, name)
        if key in self._testing or len(self._testing) >= _MOST_TESTS:
            raise RequestError(429, "a test is under way already; wait for its end")
        now_ms = self._clock.epoch_ms()
        data = {"webhook_id": name, "message": "A test, sent because somebody asked for it. Nothing has happened."}
        event_id = self._ids.make("evt", now_ms)
        event = LifecycleEvent(event_id, "webhook.test", app_id, now_ms, f"{app_id}/endpoint/{name}", data)
        self._testing.add(key)
        try:
            back = await self._deliverer.test(self._router().render(key, event, 0))
        finally:
            self._testing.discard(key)
        self._telemetry.note(logging.INFO, "webhook test", endpoint=key, status=back.status, error=back.error or None)
        return {"ok": back.is_success, "event_id": event_id, **answer.outcome(back)}

    async def enable(self, app_id: str, name: str) -> Answer:
        """Let an endpoint that answered 410 have webhooks again, also after the next start; harmless to one that did not."""
        key = self._key(app_id, name)
        made = await self._ledger.attempts(key, limit=told_by(self._router().endpoints[key].concurrency))
        if is_left_alone(one.settlement for one in made):
            await self._outbox.settle(enabled(key, made[0].settlement.lane, self._clock.epoch_ms()))
        self._deliverer.enable(key)
        return {"name": name, "state": self._deliverer.states()[key].state}

    # -- who is known

    def _of(self, app_id: str) -> dict[str, Endpoint]:
        return {key: endpoint for key, endpoint in self._router().endpoints.items() if endpoint.app_id == app_id}

    def _key(self, app_id: str, name: str) -> str:
        known = self._of(app_id)
        key = f"{app_id}/{name}"
        if key in known:
            return key
        names = [endpoint.name for endpoint in known.values()]
        near = get_close_matches(name, names, 3, 0.5)
        if near:
            hint = "; did you mean " + " or ".join(f'"{one}"' for one in near) + "?"
        else:
            hint = f"; there are: {', '.join(names)}" if names else "; the app has none"
        raise RequestError(404, f'there is no endpoint "{name[:64]}"{hint}')
