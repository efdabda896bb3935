"""All questions, each with what it is asked with in a full run and in a quick one."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from bench import backlog, client_event, connect, fanout, memory, neighbour, publish, storm, webhook


@dataclass(frozen=True, slots=True)
class Question:
    """A benchmark and its arguments."""

    name: str
    main: Callable[[Sequence[str]], int]
    full: Sequence[str]
    quick: Sequence[str]


_QUICK = "--rounds 1 --seconds 0.2".split()


def _fanout(subscribers: int, window: int) -> Question:
    asked = f"--subscribers {subscribers} --window {window} --peers".split()
    few = f"--subscribers {min(subscribers, 50)} --window {window} --peers".split()
    return Question(f"fanout-{subscribers}-{window}", fanout.main, [*asked, "--rounds", "3"], [*few, *_QUICK])


QUESTIONS = (
    *(_fanout(subscribers, window) for subscribers in (100, 1000, 5000) for window in (4, 32)),
    # Below anybody's limit: what counts is the CPU per delivery and how soon it comes.
    Question(
        "fanout-paced",
        fanout.main,
        "--subscribers 1000 --rate 50 --rounds 3".split(),
        ["--subscribers", "20", "--rate", "500", *_QUICK],
    ),
    Question("client-event", client_event.main, ["--rounds", "3"], _QUICK),
    Question("publish", publish.main, [], ["--channels", "10", "--connections", "4", *_QUICK]),
    Question("connect", connect.main, [], ["--at-once", "8", "--channels", "5", *_QUICK]),
    Question("storm", storm.main, [], "--at-once 50 --seconds 0.5".split()),
    Question("memory", memory.main, [], ["--connections", "2000", "--channels", "20"]),
    Question("webhook", webhook.main, [], ["--outboxes", "disk", "--samples", "20", "--subscribers", "5", *_QUICK]),
    Question(
        "stall",
        webhook.main,
        "--stall --outboxes disk --seconds 10".split(),
        "--stall --outboxes disk --formats batch --seconds 0.5".split(),
    ),
    Question("neighbour", neighbour.main, [], "--rate 200 --rounds 1 --samples 20".split()),
    Question("backlog", backlog.main, ["--events", "1000000"], ["--events", "20000"]),
)
