"""Ways to break a copy of the gateway on purpose: a kill test that does not see these sees nothing.

Most of them put something before a method of the durable outbox: the seam everything goes through, and the one place in the
code that keeps its shape.
"""

from __future__ import annotations

import shutil
import textwrap
from dataclasses import dataclass
from pathlib import Path

from tests.e2e.gateway_process import ROOT


@dataclass(frozen=True, slots=True)
class Patch:
    """Replace a text that stands exactly once in a file of the package."""

    file: str
    old: str
    new: str


def _instead(signature: str, body: str, file: str = "outbox/sqlite.py") -> Patch:
    """Put another method in place of one; the real one is called `real_...` from then on."""
    whole = f"    {signature}\n"
    return Patch(
        file,
        whole,
        f"{whole}{textwrap.indent(textwrap.dedent(body).strip(), ' ' * 8)}\n\n{whole.replace('def ', 'def real_', 1)}",
    )


_OPEN = "async def open(self) -> Recovery:"
_APPEND = "async def append(self, commit: Commit) -> None:"
_SETTLE = "async def settle(self, settlement: Settlement) -> None:"
_SETTLE_SOON = "async def settle_soon(self, settlement: Settlement) -> None:"
_CLAIM = "async def claim(self, endpoint: str, lane: int, limit: int) -> Claim | None:"

#: name -> what is broken, and how
SABOTAGES: dict[str, tuple[str, tuple[Patch, ...]]] = {
    "send-before-commit": (
        "events reach the lanes, and publishers their answers, 50 ms before they are durable",
        (
            _instead(
                _APPEND,
                """
                import asyncio

                early = self.__dict__.setdefault("early", {})
                for delivery in commit.deliveries:
                    early.setdefault((delivery.endpoint, delivery.lane), []).append(delivery)

                async def late():
                    await asyncio.sleep(0.05)
                    await self.real_append(commit)
                    for delivery in commit.deliveries:
                        waiting = early[delivery.endpoint, delivery.lane]
                        if delivery in waiting:
                            waiting.remove(delivery)

                self.late = asyncio.ensure_future(late())
                """,
            ),
            _instead(
                _SETTLE,
                """
                late = self.__dict__.get("late")
                if late is not None:
                    await late
                await self.real_settle(settlement)
                """,
            ),
            _instead(
                _SETTLE_SOON,
                """
                late = self.__dict__.get("late")
                if late is not None:
                    await late
                await self.real_settle_soon(settlement)
                """,
            ),
            _instead(
                _CLAIM,
                """
                claim = await self.real_claim(endpoint, lane, limit)
                early = self.__dict__.get("early", {}).get((endpoint, lane))
                return claim if claim is not None or not early else Claim((early.pop(0),))
                """,
            ),
        ),
    ),
    "answer-before-commit": (
        "a publish is acknowledged while its events are on their way to the disk",
        (
            _instead(
                "def committed(self) -> asyncio.Future[None]:",
                """
                future = asyncio.get_running_loop().create_future()
                future.set_result(None)
                return future
                """,
                "recorder.py",
            ),
        ),
    ),
    "spans-outside": (
        "what is open is written, but ten transactions after the event that says so",
        (
            _instead(
                _APPEND,
                """
                from gateway.core.lifecycle import LifecycleEvent

                waiting = self.__dict__.setdefault("waiting", [()] * 10)
                waiting.append(tuple(record for record in commit.records if not isinstance(record, LifecycleEvent)))
                events = tuple(record for record in commit.records if isinstance(record, LifecycleEvent))
                await self.real_append(Commit(events + waiting.pop(0), commit.deliveries))
                """,
            ),
        ),
    ),
    "spans-dropped": (
        "what is open is not written at all",
        (
            _instead(
                _APPEND,
                """
                from gateway.core.lifecycle import LifecycleEvent

                events = tuple(record for record in commit.records if isinstance(record, LifecycleEvent))
                await self.real_append(Commit(events, commit.deliveries))
                """,
            ),
        ),
    ),
    "sequences-forgotten": (
        "how far an endpoint has counted is lost with the process",
        (
            _instead(
                _OPEN,
                """
                recovery = await self.real_open()
                return Recovery({}, recovery.spans, recovery.lanes)
                """,
            ),
        ),
    ),
    "settlements-lost": (
        "now and then it is not written that a webhook was delivered",
        (
            _instead(
                _SETTLE,
                """
                if settlement.last_sequence % 100:
                    await self.real_settle(settlement)
                """,
            ),
            _instead(
                _SETTLE_SOON,
                """
                if settlement.last_sequence % 100:
                    await self.real_settle_soon(settlement)
                """,
            ),
        ),
    ),
    "settled-before-answer": (
        "a webhook counts as delivered when it is sent",
        (
            _instead(
                _CLAIM,
                """
                from gateway.core.delivery import State

                claim = await self.real_claim(endpoint, lane, limit)
                if claim is not None:
                    first, last = claim.deliveries[0].sequence, claim.deliveries[-1].sequence
                    count = len(claim.deliveries)
                    await self.settle(Settlement(endpoint, lane, "", first, last, count, 1, 1, 1, State.DELIVERED, None))
                return claim
                """,
            ),
        ),
    ),
    "recovery-skipped": (
        "the books of the former life are not closed",
        (
            _instead(
                _OPEN,
                """
                recovery = await self.real_open()
                return Recovery(recovery.sequences, (), recovery.lanes)
                """,
            ),
        ),
    ),
    "backlog-asleep": (
        "what a former life left to be delivered waits until something new comes along",
        (
            _instead(
                _OPEN,
                """
                recovery = await self.real_open()
                return Recovery(recovery.sequences, recovery.spans, frozenset())
                """,
            ),
        ),
    ),
    "sign-ins-forgotten": (
        "who has signed in on a connection is not written where its end could be told from",
        (
            Patch(
                "core/lifecycle.py",
                'records.append(SpanOpened(Span(self._app_id, "connection", socket_id, span, opened_at_ms, facts)))',
                "pass",
            ),
        ),
    ),
    "lanes-by-turn": (
        "events of one subject travel in whatever lane is next",
        (Patch("core/webhook.py", "subject % route.concurrency", "sequence % route.concurrency"),),
    ),
}


def broken_copy(name: str, folder: Path) -> Path:
    """Copy the package into the folder, break it, and return the folder to run it from.

    Raises ValueError if the code has changed so that the patch does not fit any more.
    """
    root = folder / f"sabotage-{name}"
    shutil.copytree(ROOT / "gateway", root / "gateway", ignore=shutil.ignore_patterns("__pycache__"))
    for patch in SABOTAGES[name][1]:
        file = root / "gateway" / patch.file
        text = file.read_text()
        if text.count(patch.old) != 1:
            raise ValueError(
                f"{name}: this must stand exactly once in {patch.file}, not {text.count(patch.old)} times: {patch.old}"
            )
        file.write_text(text.replace(patch.old, patch.new))
    return root
