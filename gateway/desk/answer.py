"""How what the desk knows is told: JSON-able objects. What is not known is left out; no secret is ever among it."""

from __future__ import annotations

from typing import Any

import orjson

from gateway.core.channel import kind_of
from gateway.core.delivery import REPLAY_LANE, Outcome, Settlement, State
from gateway.core.lifecycle import LifecycleEvent, Span
from gateway.core.signing import VERSION
from gateway.core.webhook import timestamp
from gateway.ports import Attempt, DeadLetter, Entry, Trace

Answer = dict[str, Any]


def event(told: LifecycleEvent) -> Answer:
    """Return the envelope, without the metadata, which belongs to an endpoint."""
    return {
        "id": told.id,
        "event": told.kind,
        "version": VERSION,
        "timestamp": timestamp(told.at_ms),
        "app_id": told.app_id,
        "data": dict(told.data),
    }


def entry(found: Entry) -> Answer:
    """Return the envelope of an event in the feed, with its cursor."""
    return {**event(found.event), "cursor": found.cursor}


def span(held: Span) -> Answer:
    """Return what is open, as the events that opened it tell of it."""
    name, _, inner = held.key.partition("\n")
    told: Answer = {"opened_at": timestamp(held.opened_at_ms)}
    match held.kind:
        case "connection":
            # what the events of the connection say of it
            return {**held.facts, "socket_id": name, "span": held.id, **told}
        case "subscription":
            return {"channel": name, "socket_id": inner, **held.facts, **told}
        case "channel":
            kind = kind_of(name)
            told |= {"channel": name, "type": kind.type, "span": held.id} | ({"cache": True} if kind.caches else {})
        case "member":
            told |= {"channel": name, "user_id": inner, "span": held.id}
    if held.departs_at_ms is not None:
        told["departs_at"] = timestamp(held.departs_at_ms)
    return told


def outcome(back: Outcome | None) -> Answer:
    """Return what came back from an attempt, if there was one."""
    if back is None:
        return {}
    told: Answer = {"stage": back.stage.value, "latency_ms": round(back.latency_ms, 1)}
    if back.status is not None:
        told["status"] = back.status
    if back.error:
        told["error"] = back.error
    if back.body:
        told["body"] = back.body.decode("utf-8", "replace")
    return told


def settlement(settled: Settlement) -> Answer:
    """Return what an attempt, or giving up without one, did to a request."""
    told: Answer = {
        "at": timestamp(settled.at_ms),
        "request_id": settled.request_id,
        "attempt": settled.attempts,
        "state": settled.state.value,
        "events": settled.count,
        "lane": settled.lane,
        "replay": settled.lane == REPLAY_LANE,
        **outcome(settled.outcome),
    }
    if settled.state is State.DUE:
        told["next_attempt_at"] = timestamp(settled.due_at_ms)
    if settled.reason:
        told["reason"] = settled.reason
    return told


def attempt(made: Attempt) -> Answer:
    """Return a row of the delivery log."""
    return {"number": made.number, **settlement(made.settlement)}


def trace(found: Trace) -> Answer:
    """Return what became of an event at one endpoint. The sequence is the one in its metadata, unless it is a replay's."""
    is_replay = found.lane == REPLAY_LANE
    told: Answer = {"state": found.state, "lane": found.lane, "replay": is_replay}
    if not is_replay:
        told["sequence"] = found.sequence
    return told | {"attempts": [attempt(made) for made in found.attempts]}


def letter(number: int, dead: DeadLetter) -> Answer:
    """Return a dead letter: what it would have said, and why it was given up."""
    delivery, settled = dead.delivery, dead.settlement
    told: Answer = {
        "number": number,
        "event_id": delivery.event_id,
        "event": delivery.kind,
        "timestamp": timestamp(delivery.at_ms),
        "given_up_at": timestamp(settled.at_ms),
        "reason": settled.reason,
        "attempts": settled.attempts,
        **outcome(settled.outcome),
    }
    return told | {"envelope": orjson.loads(delivery.envelope)}
