"""The gateway and its floor, which must answer, beside other servers, which may fail: then it is said why, and no more."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from dataclasses import dataclass

from bench.load import Load, Round
from bench.peer import Peer, peers
from bench.report import Result, summarize, warm_up
from bench.server import Server


@dataclass(frozen=True, slots=True)
class Beside:
    """What came of the other servers: results, and why there are none."""

    results: Mapping[str, Result]
    failures: Mapping[str, str]

    @property
    def said(self) -> str:
        """Return the failures as words behind a sentence."""
        return "".join(f"; {name} is left out: {reason}" for name, reason in self.failures.items())


def guests(is_wanted: bool, *, only_pusher: bool = False) -> Sequence[Peer]:
    """Return the other servers to be measured beside the gateway."""
    return [each for each in peers() if each.is_pusher or not only_pusher] if is_wanted else []


class Contest:
    """Rounds in turn against servers that are all up; to be used as a context manager."""

    def __init__(self) -> None:
        self._stack = ExitStack()
        self._hosts: list[Load] = []
        self._guests: dict[str, Load] = {}
        self._failures: dict[str, str] = {}

    def __enter__(self) -> Contest:
        return self

    def __exit__(self, *_: object) -> None:
        self._stack.close()

    def host(
        self, run: Callable[[], AbstractContextManager[Server]], load: Callable[[Server], AbstractContextManager[Load]]
    ) -> None:
        """Run a server without which there is no answer, and its load."""
        self._hosts.append(self._stack.enter_context(load(self._stack.enter_context(run()))))

    def guest(self, peer: Peer, load: Callable[[Server, Peer], AbstractContextManager[Load]]) -> None:
        """Run another server, and its load."""
        with self._excused(peer.name):
            self._guests[peer.name] = self._stack.enter_context(load(self._stack.enter_context(peer.run()), peer))

    def run(
        self, rounds: int, seconds: float, count: Callable[[Round], int], rate: float = 0.0
    ) -> tuple[list[list[Round]], Beside]:
        """Run rounds; return those of each host, and what came of the guests. `count` says what is counted."""
        for load in self._hosts:
            warm_up(load, seconds, rate)
        for name, load in list(self._guests.items()):
            with self._excused(name):
                warm_up(load, seconds, rate)
        mine: list[list[Round]] = [[] for _ in self._hosts]
        theirs: dict[str, list[Round]] = {name: [] for name in self._guests}
        # In turn, so that whatever else the machine does hits all of them.
        for _ in range(rounds):
            for load, some in zip(self._hosts, mine, strict=True):
                some.append(load.run(seconds, rate))
            for name, load in list(self._guests.items()):
                with self._excused(name):
                    theirs[name].append(load.run(seconds, rate))
        results: dict[str, Result] = {}
        for name in list(self._guests):
            with self._excused(name):
                results[name] = summarize(theirs[name], count)
        return mine, Beside(results, self._failures)

    @contextmanager
    def _excused(self, name: str) -> Iterator[None]:
        try:
            yield
        except (SystemExit, OSError) as reason:
            self._guests.pop(name, None)
            self._failures[name] = " ".join(str(reason).removeprefix("no answer: ").split())
            print(f"{name} is left out: {self._failures[name]}", file=sys.stderr, flush=True)
