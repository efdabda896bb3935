"""Clients that come, join, speak, fall silent and leave in every way, and remember what they saw."""

from __future__ import annotations

import asyncio
import json
import random
import time
from itertools import count

from websockets.exceptions import ConnectionClosed, InvalidHandshake, InvalidMessage

from tests.e2e.client import Client, Frame
from tests.kill.gate import Gate
from tests.kill.history import Heard, History, Join, SignIn, Visit
from tests.patience import LONG_S

CHANNELS = tuple(f"{kind}{number}" for kind in ("orders-", "private-", "presence-") for number in range(5))
USERS = tuple(f"u-{number}" for number in range(6))
#: who signs in: somebody else than on any channel
NAMES = tuple(f"n-{number}" for number in range(6))

#: what a dial or a handshake meets when the gateway is down, starting, going or killed
_LOST = (OSError, ConnectionClosed, InvalidHandshake, InvalidMessage, EOFError, TimeoutError)


class Guest:
    """One connection, and what it knows."""

    def __init__(self, client: Client, visit: Visit, history: History) -> None:
        self.client = client
        self.visit = visit
        #: what it is subscribed to, as far as it knows: channel -> its last answered wish
        self.channels: dict[str, Join] = {}
        self.is_gone = False
        self._history = history
        self._asked: dict[str, Join] = {}
        self._established = asyncio.Event()
        self._pong = asyncio.Event()
        self._reader = asyncio.create_task(self._read(), name=f"guest {visit.number}")

    async def established(self) -> bool:
        """Wait for the first frame; False if there is none, or another."""
        await self._established.wait()
        return not self.is_gone and self.visit.established_at is not None

    async def settle(self, within_s: float = LONG_S) -> bool:
        """Wait until everything said before is answered; False if the connection is gone."""
        if self.is_gone:
            return False
        self._pong.clear()
        try:
            async with asyncio.timeout(within_s):
                await self._send("pusher:ping", {})
                await self._pong.wait()
        except TimeoutError:
            return False
        return not self.is_gone

    async def join(self, channel: str, user_id: str) -> None:
        """Ask to subscribe; the answer comes when it comes."""
        member = {"user_id": user_id} if channel.startswith("presence-") else None
        wish = Join(channel, None if member is None else user_id)
        self.visit.joins.append(wish)
        self._asked[channel] = self.channels[channel] = wish
        await self._send("pusher:subscribe", self.client.subscription(channel, member))

    async def forge(self, channel: str) -> None:
        """Ask to subscribe with a wrong signature."""
        self.visit.forged.add(channel)
        await self._send("pusher:subscribe", {"channel": channel, "auth": f"{self.client.key}:{'0' * 64}", "channel_data": "{}"})

    async def sign_in(self, user_id: str) -> None:
        """Ask to be signed in; again, it must be as the same user."""
        self.visit.sign_ins.append(SignIn(user_id))
        await self._send("pusher:signin", self.client.signature(user_id))

    async def part(self, channel: str) -> None:
        """Unsubscribe."""
        del self.channels[channel]
        await self._send("pusher:unsubscribe", {"channel": channel})

    async def speak(self, channel: str, name: str) -> None:
        """Send a client event."""
        self.visit.spoken[name] = channel
        await self._send(name, {"n": len(self.visit.spoken)}, channel)

    async def leave(self, how: str) -> None:
        """End it: `close`, `finish` (FIN), `reset` (RST), or `freeze`: it stays, and neither reads nor says anything again."""
        match how:
            case "close":
                await self.client.close()
            case "finish":
                self.client.finish()
            case "reset":
                self.client.reset()
            case "freeze":
                self._reader.cancel()
                self.client.ws.transport.pause_reading()
                return
        self.is_gone = True
        self._reader.cancel()

    def cut(self) -> None:
        """Be gone at once."""
        self._reader.cancel()
        self.client.reset()

    async def _send(self, event: str, data: object, channel: str | None = None) -> None:
        try:
            await self.client.send(event, data, channel)
        except _LOST:
            self._lose()

    def _lose(self) -> None:
        self.is_gone = True
        self._established.set()
        self._pong.set()

    async def _read(self) -> None:
        try:
            while True:
                self._take(json.loads(await self.client.ws.recv()), time.monotonic())
        except _LOST:
            self._lose()

    def _take(self, frame: Frame, now: float) -> None:
        event, channel = frame["event"], frame.get("channel", "")
        match event:
            case "pusher:connection_established":
                self.visit.socket_id = self.client.socket_id = json.loads(frame["data"])["socket_id"]
                self.visit.established_at = now
                self._history.counts["connections"] += 1
                self._established.set()
            case "pusher:error" if self.visit.established_at is None:
                self.visit.was_refused = True
                self._history.counts["refused"] += 1
                self._established.set()
            case "pusher:pong":
                self._pong.set()
            case "pusher_internal:subscription_succeeded":
                wish = self._asked.pop(channel, None)
                if wish is not None:
                    wish.confirmed_at = now
                    self._history.counts["subscriptions"] += 1
            case "pusher:signin_success":
                asked = next(asked for asked in self.visit.sign_ins if asked.confirmed_at is None)
                asked.confirmed_at = now
                self._history.counts["sign-ins"] += 1
            case _ if event.startswith("client-"):
                self._history.heard.append(Heard(event, channel, self.visit.life, now))


class Crowd:
    """Many places, each taken by one guest after another."""

    def __init__(self, port: int, history: History, seed: int, places: int) -> None:
        self.port = port
        self.history = history
        self.places = places
        self.gate = Gate()
        #: the number of the gateway's life, set from outside
        self.life = 0
        self.guests: set[Guest] = set()
        self._frozen: set[Guest] = set()
        self._seed = seed
        self._numbers = count(1)
        self._words = count(1)
        self._tasks: list[asyncio.Task[None]] = []

    def start(self) -> None:
        """Let them in."""
        self._tasks = [
            asyncio.create_task(self._live(random.Random(f"{self._seed} {place}")), name=f"place {place}")
            for place in range(self.places)
        ]

    async def thaw(self) -> None:
        """Cut off those who do not answer any more."""
        for guest in self._frozen:
            guest.cut()
        self._frozen.clear()

    async def go(self) -> None:
        """Everybody leaves, at once and without a word. Raises what a place has met."""
        for task in self._tasks:
            task.cancel()
        done = await asyncio.gather(*self._tasks, return_exceptions=True)
        for guest in self.guests | self._frozen:
            guest.cut()
        self.guests.clear()
        self._frozen.clear()
        await Client.clear_away()
        for error in done:
            if isinstance(error, Exception):
                raise error

    async def _live(self, chance: random.Random) -> None:
        while True:
            await self.gate.passed()
            guest = await self._arrive()
            if guest is None:
                await asyncio.sleep(chance.uniform(0.02, 0.3))
                continue
            self.guests.add(guest)
            for _ in range(chance.randint(1, 16)):
                await self.gate.passed()
                if guest.is_gone:
                    break
                await self._act(guest, chance)
                await asyncio.sleep(chance.uniform(0.01, 0.25))
            await self.gate.passed()
            self.guests.discard(guest)
            if not guest.is_gone:
                how = chance.choices(["close", "finish", "reset", "freeze"], [4, 3, 4, 1])[0]
                if how == "freeze":
                    self._frozen.add(guest)
                await guest.leave(how)
                self.history.counts[f"left by {how}"] += 1
            # Some come back before anybody can have noticed, some after every linger.
            await asyncio.sleep(chance.choice([0.0, 0.0, 0.05, 0.2, 0.8]))

    async def _arrive(self) -> Guest | None:
        visit = Visit(next(self._numbers), self.life)
        self.history.visits[visit.number] = visit
        query = f"protocol=7&client=kill&version={visit.number}"
        try:
            client = await Client.dial(self.port, query=query, close_timeout=0.3)
        except _LOST:
            return None
        guest = Guest(client, visit, self.history)
        if await guest.established():
            return guest
        guest.cut()
        return None

    async def _act(self, guest: Guest, chance: random.Random) -> None:
        roll = chance.random()
        speakable = [
            channel for channel, wish in guest.channels.items() if wish.confirmed_at and not channel.startswith("orders-")
        ]
        if roll < 0.2 and guest.channels:
            await guest.part(chance.choice(list(guest.channels)))
        elif roll < 0.45 and speakable:
            kind = chance.choice(["client-typing", "client-said"])
            await guest.speak(chance.choice(speakable), f"{kind}-{next(self._words)}")
            self.history.counts["client events"] += 1
        elif roll < 0.5:
            await guest.forge(chance.choice(["private-0", "presence-0"]))
        elif roll < 0.6:
            known = guest.visit.sign_ins
            await guest.sign_in(known[0].user_id if known else chance.choice(NAMES))
        else:
            channel = chance.choice(CHANNELS)
            if channel not in guest.channels:
                await guest.join(channel, chance.choice(USERS))
