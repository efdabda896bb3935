"""The kill test itself: lives that end at the worst moments, a calm now and then, an end in peace, and the verdict."""

from __future__ import annotations

import asyncio
import random
import time
import traceback
from collections import Counter
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from tests.e2e.client import Backend
from tests.e2e.gateway_process import ROOT
from tests.e2e.ledger import first_arrivals
from tests.kill.checker import check
from tests.kill.history import Broken
from tests.kill.town import Town, counted, wishes
from tests.patience import LONG_S

#: seconds until a calm must show the clients' own view, and until everything must be delivered once all is well
_CALM_S = LONG_S
PATIENCE_S = 60.0

#: how a life can end
WAYS = (
    "at-any-moment",
    "while-starting",
    "while-recovering",
    "after-an-acknowledgement",
    "at-a-webhook",
    "while-draining",
    "in-order",
)

#: rounds between two calms
_CALM_EVERY = 6


@dataclass(slots=True)
class Report:
    """What was done and what was wrong."""

    seed: int
    counts: Counter[str] = field(default_factory=Counter)
    violations: list[str] = field(default_factory=list)
    events: dict[str, int] = field(default_factory=dict)
    repeats: dict[str, int] = field(default_factory=dict)
    dead: dict[str, int] = field(default_factory=dict)
    lines: list[str] = field(default_factory=list)

    def text(self, most: int = 40) -> str:
        """Return it for people."""
        told = [f"seed {self.seed}"]
        told += [f"  {what}: {count}" for what, count in sorted(self.counts.items())]
        for what, numbers in (("events", self.events), ("repeats", self.repeats), ("dead letters", self.dead)):
            told.append(f"  {what}: {counted(numbers, numbers.values())}")
        told += [f"VIOLATION {sentence}" for sentence in self.violations[:most]]
        if len(self.violations) > most:
            told.append(f"... and {len(self.violations) - most} more")
        told.append(f"{len(self.violations)} violations" if self.violations else "the ledger balances")
        return "\n".join(told)


async def drill(
    folder: Path,
    *,
    seed: int,
    seconds: float,
    rounds: int | None = None,
    only: str | None = None,
    root: Path = ROOT,
    patience_s: float = PATIENCE_S,
    least: Mapping[str, int] | None = None,
) -> Report:
    """Run for about so many seconds, or so many rounds if that is less, and then bring it to its end and judge it.

    `least` is what must have been counted before rounds end it: on a slow machine it takes more of them.
    `only` is one of WAYS, in which all lives but the last are to end. `root` is where the `gateway` package is taken from,
    `patience_s` how long the end may take. The gateway's store and output stay in `folder`.
    """
    town = await Town.build(folder, seed, root)
    report = Report(seed)
    try:
        await _Drill(town, patience_s, least or {}).run(time.monotonic() + seconds, rounds, WAYS if only is None else (only,))
    except Broken as error:
        town.wrong.append(str(error))
    except Exception:  # noqa: BLE001 -- a broken gateway may break anything here; that is for the verdict to say
        town.wrong.append(f"the test could not go on: {traceback.format_exc()}")
    finally:
        await town.raze()
        (folder / "gateway.log").write_text("\n".join(town.lines))
    _judge(town, report)
    return report


def _judge(town: Town, report: Report) -> None:
    dead = town.dead()
    arrivals = {name: post.arrivals for name, post in town.posts.items()}
    report.violations = [f"{name}: {sentence}" for name, post in town.posts.items() for sentence in post.violations]
    report.violations += [*town.wrong, *check(town.history, wishes(), arrivals, dead)]
    report.counts = town.history.counts
    for name, arrived in arrivals.items():
        known = len(first_arrivals(arrival.envelope for arrival in arrived))
        report.events[name] = known
        report.repeats[name] = len(arrived) - known
        report.dead[name] = len(dead.get(name, ()))
    report.lines = town.lines


def _in_turn(ways: Sequence[str], chance: random.Random) -> list[str]:
    """Return all ways in some order, to be taken from the end: first the one by which an answer that comes too soon is found out.

    Only a kill within milliseconds of such an answer shows it; so a run must not be over before there was one.
    """
    return sorted(chance.sample(ways, len(ways)), key=lambda way: way == "after-an-acknowledgement")


class _Drill:
    """The course of events."""

    def __init__(self, town: Town, patience_s: float, least: Mapping[str, int]) -> None:
        self._town = town
        self._patience_s = patience_s
        self._least = least

    def _is_enough(self, done: int, rounds: int | None) -> bool:
        counts = self._town.history.counts
        return rounds is not None and done >= rounds and all(counts[what] >= least for what, least in self._least.items())

    async def run(self, until: float, rounds: int | None, ways: Sequence[str]) -> None:
        town, chance = self._town, self._town.chance
        await town.spawn()
        await town.ready()
        town.start()
        done = 0
        left: list[str] = []
        while time.monotonic() < until and not self._is_enough(done, rounds):
            left = left or _in_turn(ways, chance)
            way = left.pop()
            await self._way(way)()
            town.history.counts[f"ended {way}"] += 1
            await town.bury()
            await asyncio.sleep(chance.choice([0.0, 0.0, 0.0, 0.4]))
            await town.spawn()
            done += 1
            if done % _CALM_EVERY == 0:
                await town.ready()
                await self._calm()
        await self._end()

    def _way(self, name: str) -> Callable[[], Awaitable[None]]:
        way: Callable[[], Awaitable[None]] = getattr(self, f"_{name.replace('-', '_')}")
        return way

    # -- ways to end a life; each begins with one that was just started

    async def _at_any_moment(self) -> None:
        await self._town.ready()
        await asyncio.sleep(self._town.chance.uniform(0.1, 2.0))
        self._town.kill()

    async def _while_starting(self) -> None:
        await asyncio.sleep(self._town.chance.uniform(0.0, 0.7))
        self._town.kill()

    async def _while_recovering(self) -> None:
        await self._town.ready()
        await asyncio.sleep(self._town.chance.uniform(0.0, 0.6))
        self._town.kill()

    async def _after_an_acknowledgement(self) -> None:
        town = self._town
        await town.ready()
        left = town.chance.randint(1, 20)
        killed = asyncio.Event()

        def watch() -> None:
            nonlocal left
            left -= 1
            if left == 0:
                town.kill()
                killed.set()

        town.press.watch = watch
        await self._unless_late(killed, "an acknowledged publish")
        town.press.watch = None

    async def _at_a_webhook(self) -> None:
        town = self._town
        await town.ready()
        post = town.posts[town.chance.choice(list(town.posts))]
        moment = town.chance.choice(["asked", "answered"])
        left = town.chance.randint(1, 30)
        killed = asyncio.Event()

        def watch(now: str) -> None:
            nonlocal left
            left -= now == moment
            if left == 0:
                town.kill()
                killed.set()

        post.watch = watch
        await self._unless_late(killed, None)
        post.watch = None
        town.kill()

    async def _while_draining(self) -> None:
        await self._town.ready()
        await asyncio.sleep(self._town.chance.uniform(0.0, 1.0))
        self._town.terminate()
        await asyncio.sleep(self._town.chance.uniform(0.0, 1.0))
        self._town.kill()

    async def _in_order(self) -> None:
        await self._town.ready()
        await asyncio.sleep(self._town.chance.uniform(0.0, 1.5))
        self._town.terminate()

    async def _unless_late(self, event: asyncio.Event, what: str | None) -> None:
        """Wait for it; if it must come, its absence is a violation, and if not, the life ends anyway."""
        try:
            async with asyncio.timeout(LONG_S if what is not None else 2.0):
                await event.wait()
        except TimeoutError:
            if what is not None:
                raise Broken(f"waited {LONG_S:g} s in vain for {what}") from None

    # -- calm

    async def _calm(self) -> None:
        """Everybody stands still: what the gateway answers must be what the clients see."""
        town = self._town
        await self._forgive()
        await asyncio.gather(town.crowd.gate.shut(town.crowd.places), town.press.gate.shut(town.press.authors))
        await town.crowd.thaw()
        for guest in list(town.crowd.guests):
            await guest.settle()
        seen = self._as_clients_see_it()
        told: dict[str, object] = {}
        until = time.monotonic() + _CALM_S
        async with Backend(town.port) as backend:
            # Commits, departures of those who were cut off, and lingers take their time.
            while told != seen and time.monotonic() < until:
                told = await self._as_the_gateway_sees_it(backend)
                await asyncio.sleep(0.05)
        for of in seen:
            if told.get(of) != seen[of]:
                town.wrong.append(
                    f"in a calm of life {town.crowd.life} the clients see {of} {seen[of]}, the gateway {told.get(of)}"
                )
        town.history.counts["calms"] += 1
        town.crowd.gate.reopen()
        town.press.gate.reopen()

    def _as_clients_see_it(self) -> dict[str, object]:
        users: dict[str, set[str]] = {}
        spans = set()
        for guest in self._town.crowd.guests:
            if guest.is_gone:
                continue
            spans.add(("connection", guest.client.socket_id))
            for channel, wish in guest.channels.items():
                users.setdefault(channel, set())
                spans |= {("channel", channel), ("subscription", f"{channel} {guest.client.socket_id}")}
                if wish.user_id is not None:
                    users[channel].add(wish.user_id)
                    spans.add(("member", f"{channel} {wish.user_id}"))
        return {"channels": {channel: sorted(found) for channel, found in users.items()}, "spans": sorted(spans)}

    async def _as_the_gateway_sees_it(self, backend: Backend) -> dict[str, object]:
        users: dict[str, list[str]] = {}
        for channel in (await backend.get("/channels"))["channels"]:
            users[channel] = []
            if channel.startswith("presence-"):
                answer = await backend.get(f"/channels/{channel}/users")
                users[channel] = sorted(user["id"] for user in answer["users"])
        snapshot = await self._town.poll.look(backend)
        return {"channels": users, "spans": sorted(snapshot.spans.keys() - snapshot.departing)}

    async def _forgive(self) -> None:
        """Let the endpoint that answers 410 now and then have webhooks again: it stays disabled until somebody says so."""
        async with Backend(self._town.port) as backend:
            status, answer, _ = await backend.call("POST", "/webhooks/endpoints/goner/enable", b"{}")
        if status != 200:
            raise Broken(f"goner cannot be enabled: {status} {answer}")

    # -- the end

    async def _end(self) -> None:
        """One last kill with a backlog everywhere; then all is well, and everything must come out."""
        town = self._town
        await town.ready()
        await town.clear_up("error")
        await asyncio.sleep(0.5)
        await town.press.stop()
        await town.crowd.go()
        town.kill()
        await town.bury()
        await town.spawn()
        await town.ready()
        await town.clear_up()
        await self._forgive()
        await town.press.last_word()
        until = time.monotonic() + self._patience_s
        while (left := town.left()) != (0, 0):
            if time.monotonic() >= until:
                sentence = f"after {self._patience_s:g} s of peace {left[0]} deliveries are still due and {left[1]} spans open"
                town.wrong.append(f"{sentence}: {town.open_spans()[:20]}")
                break
            await asyncio.sleep(0.1)
        await town.poll.finish()
        await self._look_at_endpoints()
        town.terminate()
        await town.bury()
        if (left := town.left()) != (0, 0):
            town.wrong.append(f"at the very end {left[0]} deliveries are due and {left[1]} spans open")

    async def _look_at_endpoints(self) -> None:
        """What an operator is told of the endpoints, when all is well."""
        town = self._town
        dead = {name: len(letters) for name, letters in town.dead().items()}
        async with Backend(town.port) as backend:
            for told in (await backend.get("/webhooks/endpoints"))["endpoints"]:
                found = told["state"], told["backlog"], told["dead_letters"]
                if found != ("healthy", 0, dead.get(told["name"], 0)):
                    town.wrong.append(f"all is well, and the operator is told {told}; dead letters are {dead}")
