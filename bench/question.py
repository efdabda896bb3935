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


_ROUNDS = "--rounds 3 --seconds 0.5".split()
_QUICK = "--rounds 1 --seconds 0.2".split()
#: what becomes of these is compared with other servers
_BESIDE = ["--peers", *_ROUNDS]


def _fanout(subscribers: int, window: int) -> Question:
    asked = f"--subscribers {subscribers} --window {window}".split()
    few = f"--subscribers {min(subscribers, 50)} --window {window} --peers".split()
    return Question(f"fanout-{subscribers}-{window}", fanout.main, [*asked, *_BESIDE], [*few, *_QUICK])


def _growth(name: str) -> Question:
    asked = ["--only", name]
    return Question(f"growth-{name}", curve.main, [*asked, *_ROUNDS], [*asked, "--most", "100", *_QUICK])


QUESTIONS = (
    *(_fanout(subscribers, window) for subscribers in (100, 1000, 5000) for window in (4, 32)),
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
    Question("storm", storm.main, [], "--at-once 50 --seconds 0.5".split()),
    Question("memory", memory.main, ["--peers"], ["--connections", "2000", "--channels", "20"]),
    Question("churn", churn.main, ["--seconds", "20"], ["--seconds", "5"]),
    Question("liveness", liveness.main, ["--seconds", "20"], ["--connections", "1000", "--seconds", "12"]),
    Question("in-process", inside.main, [], ["--connections", "3000"]),
    Question(
        "webhook",
        webhook.main,
        ["--outboxes", "disk", "--samples", "200"],
        ["--outboxes", "disk", "--samples", "20", "--subscribers", "5", *_QUICK],
    ),
    Question("stop", stop.main, ["--seconds", "10"], ["--seconds", "1"]),
    Question(
        "stall",
        webhook.main,
        "--stall --outboxes disk --formats batch --seconds 4".split(),
        "--stall --outboxes disk --formats batch --seconds 0.5".split(),
    ),
    Question("neighbour", neighbour.main, ["--rounds", "2"], "--rate 200 --rounds 1 --samples 20".split()),
    Question("backlog", backlog.main, ["--events", "1000000"], ["--events", "20000"]),
    *(_growth(name) for name in ("fanout", "publish", "connect", "webhook")),
)
