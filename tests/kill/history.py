"""What the clients, the publishers and the receivers of a kill test know, each by themselves; nothing here asks the gateway."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping
from dataclasses import dataclass, field
from math import inf
from typing import Any

Envelope = Mapping[str, Any]


class Broken(Exception):
    """The test cannot go on: the gateway did something so wrong that nothing can be judged after it."""


@dataclass(slots=True)
class Life:
    """One process of the gateway, from its start to its end; times are monotonic seconds."""

    number: int
    #: `killed`, or `clean` where it was asked to end and did so with status 0; empty while it lives
    end: str = ""
    ended_at: float = inf


@dataclass(slots=True)
class Join:
    """A client asked to subscribe, and perhaps saw that it was."""

    channel: str
    user_id: str | None
    confirmed_at: float | None = None


@dataclass(slots=True)
class SignIn:
    """A client asked to be signed in, and perhaps saw that it was."""

    user_id: str
    confirmed_at: float | None = None


@dataclass(slots=True)
class Visit:
    """One connection as its client knows it; it tells the gateway its number as its client version."""

    number: int
    life: int
    socket_id: str = ""
    established_at: float | None = None
    was_refused: bool = False
    joins: list[Join] = field(default_factory=list)
    sign_ins: list[SignIn] = field(default_factory=list)
    #: channels it tried to join with a wrong signature
    forged: set[str] = field(default_factory=set)
    #: client events it sent: name -> channel
    spoken: dict[str, str] = field(default_factory=dict)


@dataclass(slots=True)
class Publish:
    """One event published over HTTP; its name is found nowhere else."""

    name: str
    author: int
    channels: tuple[str, ...]
    data: str
    life: int
    sent_at: float
    #: None: the answer never came
    status: int | None = None
    #: the answer came in the life it was asked of
    same_life: bool = False


@dataclass(slots=True)
class Heard:
    """A client got another client's event."""

    name: str
    channel: str
    life: int
    at: float


@dataclass(slots=True)
class Arrival:
    """One envelope that a receiver has accepted."""

    envelope: Envelope
    #: when the request came, and when it was answered
    came_at: float
    at: float
    life: int
    #: a 2xx was written to a line that was still up, in good time: the gateway knows, unless it died
    told: bool
    #: how the receiver felt
    mood: str = "well"


@dataclass(frozen=True, slots=True)
class Snapshot:
    """What was open when the ledger stood at the cursor: kind and key -> span id (None: it has none that is told)."""

    cursor: int
    spans: Mapping[tuple[str, str], str | None]
    #: those of which a departure is pending
    departing: frozenset[tuple[str, str]] = frozenset()


@dataclass(slots=True)
class History:
    """All of it."""

    lives: list[Life] = field(default_factory=list)
    visits: dict[int, Visit] = field(default_factory=dict)
    publishes: dict[str, Publish] = field(default_factory=dict)
    heard: list[Heard] = field(default_factory=list)
    #: the ledger as a receiver polled it, across all lives, and the snapshots taken meanwhile
    feed: list[Envelope] = field(default_factory=list)
    snapshots: list[Snapshot] = field(default_factory=list)
    counts: Counter[str] = field(default_factory=Counter)
    #: from when until when the test itself stood still: what it saw then may have been there long before
    stalls: list[tuple[float, float]] = field(default_factory=list)

    def stalled_s(self, since: float, until: float) -> float:
        """Return how much of this time the test stood still."""
        return sum(max(0.0, min(until, end) - max(since, begin)) for begin, end in self.stalls)

    def horizons(self) -> dict[int, float]:
        """Return by life the moment up to which everything that anybody has seen must be in the ledger.

        The ledger of a life is a prefix of what happened in it. So what a client saw before a publish was sent that was
        acknowledged is in it, and in a life that ended as asked, all is.
        """
        horizons = {life.number: inf if life.end == "clean" else -inf for life in self.lives}
        for publish in self.publishes.values():
            if publish.status == 200 and publish.same_life:
                horizons[publish.life] = max(horizons[publish.life], publish.sent_at)
        return horizons
