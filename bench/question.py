"""All questions, each with what it is asked with in a full run and in a quick one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench import (
    backlog,
    churn,
    client_event,
    connect,
    curve,
    fanout,
    inside,
    liveness,
    memory,
    neighbour,
    publish,
    stop,
    storm,
    webhook,
)


@dataclass(frozen=True, slots=True)
class Question:
    """A benchmark and its arguments."""

    name: str
    main: Callable[[Sequence[str]], int]
    full: Sequence[str]
    quick: Sequence[str]


#: events that wait for an endpoint, where they are many: those of the largest size of the curve too
MOST_WAITING = 1_000_000
_ROUNDS = "--rounds 3 --seconds 0.4".split()
_QUICK = "--rounds 1 --seconds 0.2".split()
#: publishes in flight, where they are few and where they are many
_FEW, _MANY = 4, 32
#: what becomes of these is compared with other servers
_BESIDE = ["--peers", *_ROUNDS]


def _fanout(subscribers: int, window: int) -> Question:
    asked = f"--subscribers {subscribers} --window {window}".split()
    few = f"--subscribers {min(subscribers, 50)} --window {window}".split()
    # With much in flight a slow server takes seconds to the end of each round: one size will do to see how they compare.
    beside = ["--peers"] if window == _FEW or subscribers == 1000 else []
    return Question(f"fanout-{subscribers}-{window}", fanout.main, [*asked, *beside, *_ROUNDS], [*few, *beside, *_QUICK])


def _growth(name: str, most: int) -> Question:
    """`most` is how far a quick run goes: to the second size of the curve at least."""
    asked = ["--only", name]
    return Question(f"growth-{name}", curve.main, [*asked, *_ROUNDS], [*asked, "--most", str(most), *_QUICK])


QUESTIONS = (
    *(_fanout(subscribers, window) for subscribers in (100, 1000, 5000) for window in (_FEW, _MANY)),
    # Below anybody's limit: what counts is the CPU per delivery and how soon it comes.
    Question(
        "fanout-paced",
        fanout.main,
        "--subscribers 1000 --rate 50 --rounds 3".split(),
        ["--subscribers", "20", "--rate", "500", *_QUICK],
    ),
    Question("client-event", client_event.main, _BESIDE, ["--peers", *_QUICK]),
    Question("publish", publish.main, _BESIDE, ["--peers", "--channels", "10", "--connections", "4", *_QUICK]),
    Question("connect", connect.main, _BESIDE, ["--peers", "--at-once", "8", "--channels", "5", *_QUICK]),
    Question("storm", storm.main, ["--seconds", "3"], "--at-once 50 --seconds 0.5".split()),
    Question("memory", memory.main, ["--peers"], ["--connections", "2000", "--channels", "20"]),
    # Memory is counted in pages: of few connections each would seem to have taken some bytes.
    Question("churn", churn.main, "--connects 80000 --seconds 60".split(), ["--seconds", "5"]),
    Question(
        "liveness",
        liveness.main,
        "--rounds 3 --seconds 6".split(),
        "--connections 600 --silence 4 --rounds 1 --seconds 4".split(),
    ),
    Question("in-process", inside.main, [], ["--connections", "3000"]),
    Question(
        "webhook",
        webhook.main,
        ["--outboxes", "disk", "--samples", "200"],
        ["--outboxes", "disk", "--samples", "20", "--subscribers", "5", *_QUICK],
    ),
    Question("stop", stop.main, ["--seconds", "7"], ["--seconds", "1"]),
    Question(
        "stall",
        webhook.main,
        "--stall --outboxes disk --formats batch --seconds 3".split(),
        "--stall --outboxes disk --formats batch --seconds 0.5".split(),
    ),
    Question("neighbour", neighbour.main, "--rounds 2 --samples 150".split(), "--rate 200 --rounds 1 --samples 20".split()),
    Question("backlog", backlog.main, ["--events", str(MOST_WAITING)], ["--events", "20000"]),
    _growth("fanout", 100),
    _growth("publish", 100),
    _growth("connect", 1000),
    _growth("webhook", 10_000),
)
