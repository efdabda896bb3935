"""The composition root: builds everything, starts it in order, stops it in order.

Start: outbox, recorder, node, recovery of a former life, delivery; only then the port opens, though the operator's does earlier.
Stop (within `shutdown_timeout`): newcomers are told to come back later, sockets are sent home over `drain`, the port closes, what
that causes is recorded, what can be delivered is delivered, the rest stays in the outbox and the log says how much.
"""

from __future__ import annotations

import asyncio
import logging
import os
import random
import secrets
import socket
from collections.abc import Callable, Iterable
from dataclasses import replace
from pathlib import Path

from gateway import __version__
from gateway.admin.pulse import Pulse
from gateway.admin.site import Site as AdminSite
from gateway.admin.sources import Sources
from gateway.admin.stock import Stock
from gateway.api.site import Site
from gateway.backplane.local import LocalBroker, LocalTracker
from gateway.chance import Chance
from gateway.clock import SystemClock
from gateway.config import Config
from gateway.core.error import RequestError
from gateway.core.ident import Ids
from gateway.core.newcomer import Newcomers
from gateway.core.retry import told_by
from gateway.core.webhook import Endpoint, Router
from gateway.delivery.address import AddressRules
from gateway.delivery.pool import Pool
from gateway.delivery.sender import HttpSender
from gateway.desk import Desk
from gateway.entrance import Entrance
from gateway.node import Node
from gateway.outbox.memory import Dropped, MemoryOutbox
from gateway.outbox.sqlite import SqliteOutbox
from gateway.ports import Clock
from gateway.recorder import Recorder
from gateway.reload import Reloader
from gateway.telemetry import Telemetry
from gateway.transport.activation import inherited
from gateway.transport.outlet import offer_all

USER_AGENT = f"RawPush/{__version__}"

#: sections that are read at the start only
_AT_START = ("server", "outbox", "delivery", "admin", "log")

#: The shares of `shutdown_timeout` that spreading the closes may take, and that peers and requests which do not end by
#: themselves are given afterwards: more than a third is left for delivering.
_DRAIN_SHARE = 0.4
_PATIENCE_SHARE = 0.1

#: Seconds beyond `shutdown_timeout` that an outbox which does not answer is waited for, to count what is left and again to let
#: go of the file: less than service managers add, and enough for a disk that is only slow. What it has not written by then
#: it would not have written in time either; the next start closes those books.
_LETTING_GO_S = 3.0

#: Seconds an endpoint that was taken out of the file is given to take what is under way, before it becomes dead letters.
_PARTING_S = 2.0


class Gateway:
    """Everything, wired. `start` it once, `stop` it once or more often."""

    def __init__(self, config: Config, *, clock: Clock | None = None, load: Callable[[], Config] | None = None) -> None:
        """`load` reads the file again, for a reload that the operator's port asks for; see `Reloader`."""
        self.config = config
        self.port = 0
        #: of the operator's port; 0: there is none
        self.admin_port = 0
        self.telemetry = Telemetry()
        self._clock: Clock = clock or SystemClock()
        self._outbox = _outbox(config, self._dropped)
        self._sender = HttpSender(
            rules=AddressRules(
                refuse=config.delivery.refuse_networks,
                allow=config.delivery.allow_networks,
                private_allowed=config.delivery.allow_private,
            )
        )
        self._pool = Pool(
            outbox=self._outbox,
            sender=self._sender,
            clock=self._clock,
            telemetry=self.telemetry,
            roll=random.random,
            user_agent=USER_AGENT,
        )
        self.node: Node | None = None
        self.desk: Desk | None = None
        self._recorder: Recorder | None = None
        self._site: Site | None = None
        self._entrance: Entrance | None = None
        self._parting: asyncio.Task[None] | None = None
        self._stopping: asyncio.Task[None] | None = None
        self._reloading = asyncio.Lock()
        self.reloader = Reloader(load=load, adopt=self._adopt, telemetry=self.telemetry)
        self._admin: AdminSite | None = None
        #: the last sequence given out, by endpoint key
        self._sequences: dict[str, int] = {}

    async def start(self) -> None:
        """Come up; on return the gateway accepts work and `port` says where. Raises OSError if it cannot (port, disk)."""
        try:
            async with self._reloading:  # a reload that is asked for meanwhile waits
                await self._come_up()
        except BaseException:
            await self.stop()
            raise

    async def _come_up(self) -> None:
        config, server = self.config, self.config.server
        recovery = await self._outbox.open()
        self._sequences.update(recovery.sequences)
        endpoints = _endpoints(config)
        router = _router(config, self._sequences)
        ids = Ids(secrets.randbits(48))
        self._recorder = recorder = Recorder(
            outbox=self._outbox,
            router=router,
            telemetry=self.telemetry,
            wake=self._pool.wake,
            capacity=config.outbox.queue_capacity,
            ids=ids,
            clock=self._clock,
            announce=lambda records: desk.announce(records),
        )
        self.desk = desk = Desk(
            outbox=self._outbox,
            ledger=self._outbox,
            router=lambda: recorder.router,
            deliverer=self._pool,
            ids=ids,
            clock=self._clock,
            telemetry=self.telemetry,
            user_agent=USER_AGENT,
        )
        self.node = Node(
            apps=[entry.app for entry in config.apps],
            ids=ids,
            broker=LocalBroker(),
            tracker=LocalTracker(),
            recorder=self._recorder,
            clock=self._clock,
            telemetry=self.telemetry,
            chance=Chance(),
            defer=asyncio.get_running_loop().call_soon,
            activity_timeout_s=round(server.activity_timeout_s),
            offer_all=offer_all,
            newcomers=Newcomers(server.newcomers_per_address, server.newcomers_burst),
        )
        self._site = Site(node=self.node, desk=desk, clock=self._clock, path_prefix=server.path_prefix)
        self._entrance = Entrance(server, node=self.node, clock=self._clock, http=self._site.protocol, telemetry=self.telemetry)
        self._site.take_back = self._entrance.front.take_back
        self._pool.configure(endpoints)
        for endpoint in endpoints:
            attempts = await self._outbox.attempts(endpoint.key, limit=told_by(endpoint.concurrency))
            self._pool.recall(endpoint.key, [attempt.settlement for attempt in attempts])
        await self._recorder.start()
        self._pool.wake(recovery.lanes)
        waiting = self.node.recover(recovery.spans, server.recovery_linger_s)
        if config.admin.enabled:
            # While the books are being closed, which may take a while, it says that the gateway lives, and is starting.
            self._admin = self._make_admin(self.node, self.desk, self._recorder)
            self.admin_port = await self._admin.listen(config.admin.port)
        if recovery.spans:
            try:
                await self._recorder.written()
            except OSError as error:
                raise OSError(f"the books of the former life cannot be closed: {error}") from error
            closed = len(recovery.spans) - waiting
            self.telemetry.note(logging.WARNING, "closed the books of a former life", spans=closed, of_absent_apps=waiting)
        # Not before: for what they deliver meanwhile, the first client would wait.
        await self._pool.start()
        self.node.ticker.start(asyncio.get_running_loop().call_later)
        if strays := {key for key, _ in recovery.lanes} - {endpoint.key for endpoint in endpoints}:
            self._parting = asyncio.create_task(self._abandon_strays(strays), name="abandon")
        self.node.started()
        self.port = await self._entrance.open(inherited(os.environ, os.getpid()))

    def _make_admin(self, node: Node, desk: Desk, recorder: Recorder) -> AdminSite:
        sources = Sources(
            version=__version__,
            name=_name(self.config),
            node=node,
            desk=desk,
            telemetry=self.telemetry,
            clock=self._clock,
            pulse=Pulse(self.telemetry, self._clock.monotonic()),
            stock=Stock(desk=desk, clock=self._clock, app_ids=lambda: node.tenants),
            recorder=recorder,
            capacity=self.config.outbox.queue_capacity,
            storage=self._outbox.storage,
            dead_letters_dropped=lambda: self._outbox.dead_letters_dropped,
        )
        admin = self.config.admin
        return AdminSite(sources=sources, token=admin.token, host=admin.host, reload=self.reloader.reload)

    async def _adopt(self, config: Config) -> list[str]:
        if self._stopping is not None or self.node is None:
            raise RequestError(503, "the gateway does not run; nothing was changed")
        await self.reload(config)
        return self._differing(config)

    def _differing(self, config: Config) -> list[str]:
        return [section for section in _AT_START if getattr(config, section) != getattr(self.config, section)]

    async def reload(self, config: Config) -> None:
        """Take over the apps and endpoints of another configuration without dropping a connection of an app that stays.

        An app that is gone sends its connections home; an endpoint that is gone leaves its backlog as dead letters.
        The certificate is read again, also from other files. Whatever else differs takes effect at the next start, and the
        log says so. Raises OSError where the outbox cannot be written; it can be repeated then, with the same
        configuration or another one.
        """
        async with self._reloading:
            if self.node is None or self._recorder is None or self._entrance is None or self._stopping is not None:
                return
            old = self.config
            # Whatever cannot be written now could not be told to those who leave either.
            await self._recorder.written()
            staying = {entry.app.id for entry in config.apps}
            await self.node.dismiss(entry.app.id for entry in old.apps if entry.app.id not in staying)
            # What has happened so far is due to the endpoints as they were.
            await self._recorder.written()
            endpoints = _endpoints(config)
            gone = {endpoint.key for endpoint in _endpoints(old)} - {endpoint.key for endpoint in endpoints}
            if gone:
                await self._pool.drain(_PARTING_S, gone)
            self._recorder.router = _router(config, self._sequences)
            self.node.adopt(entry.app for entry in config.apps)
            self._pool.configure(endpoints)
            # What happened during the farewell was still due to the endpoints that are gone; nothing after this is.
            await self._recorder.written()
            await self._abandon(gone)
            # Last, since nothing can fail after it.
            is_renewed = self._entrance.renew(config.server.tls)
            server = replace(old.server, tls=config.server.tls) if is_renewed else old.server
            self.config = replace(old, apps=config.apps, server=server)
            for section in self._differing(config):
                self.telemetry.note(logging.WARNING, "a changed section takes effect at the next start", section=section)
            self.telemetry.note(logging.INFO, "reloaded", apps=len(config.apps), endpoints=len(endpoints))

    async def _abandon(self, keys: Iterable[str]) -> None:
        """Make dead letters of what is due to endpoints that are in the file no more."""
        for key in sorted(keys):
            left = await self._outbox.abandon(key, "endpoint_removed", self._clock.epoch_ms())
            self.telemetry.note(logging.WARNING, "endpoint removed", endpoint=key, dead_letters=left)

    async def _abandon_strays(self, keys: set[str]) -> None:
        """The same for endpoints that were taken out of the file while the gateway was down, however much is due to them."""
        async with self._reloading:  # a reload may bring one back
            try:
                await self._abandon(keys)
            except OSError as error:
                self.telemetry.note(logging.ERROR, "what is due to removed endpoints stays until the next start", error=error)

    async def stop(self) -> None:
        """Go down as promised, within `shutdown_timeout`; a second call waits for the first."""
        if self._stopping is None:
            self._stopping = asyncio.create_task(self._stop(), name="stop")
        await asyncio.shield(self._stopping)

    async def _stop(self) -> None:
        if self._parting is not None:
            # It may have much to do; the next start goes on with it.
            self._parting.cancel()
            await asyncio.gather(self._parting, return_exceptions=True)
        async with self._reloading:
            await self._go_down()

    async def _go_down(self) -> None:
        server = self.config.server
        whole_s = server.shutdown_timeout_s
        deadline = self._clock.monotonic() + whole_s
        if self.node is not None and self._entrance is not None and self._recorder is not None and self._site is not None:
            self.telemetry.note(logging.INFO, "shutting down", connections=sum(self.node.connections().values()))
            spread_s = min(server.drain_s, whole_s * _DRAIN_SHARE)
            patience_s = min(1.0, whole_s * _PATIENCE_SHARE)
            # The port stays open while sockets are sent home: whoever comes back at once is told 4100, come back later, where
            # a refused connection would keep pusher-js away for 15 s.
            try:
                async with asyncio.timeout(spread_s + patience_s):
                    await self.node.drain(spread_s)
            except TimeoutError:
                self.telemetry.note(logging.WARNING, "some peers did not answer the close; cut off")
            self._entrance.stop_listening()
            if self.desk is not None:
                self.desk.stop()
            await self._site.stop(patience_s)
            await self._entrance.close()
            self.node.ticker.stop()
            self.node.settle_departures(at_once=self.config.outbox.mode == "memory")
            unwritten = await self._recorder.stop(max(0.1, deadline - self._clock.monotonic()))
            if unwritten:
                self.telemetry.note(logging.ERROR, "records could not be written and are lost", records=unwritten)
        left_s = max(0.0, deadline - self._clock.monotonic())
        left = 0
        try:
            async with asyncio.timeout(left_s + _LETTING_GO_S):
                left = await self._pool.drain(left_s)
        except TimeoutError:
            self.telemetry.note(logging.ERROR, "the outbox does not answer; what is due cannot be counted")
        if self._admin is not None:
            # So late, because how the shutdown goes is among what an operator wants to see.
            await self._admin.stop()
        await self._pool.stop()
        await self._sender.close()
        try:
            async with asyncio.timeout(_LETTING_GO_S):
                await self._outbox.close()
        except TimeoutError:
            self.telemetry.note(logging.ERROR, "the outbox does not answer; what it was given last may not be written")
        if left and self.config.outbox.mode == "memory":
            self.telemetry.note(logging.ERROR, "undelivered webhooks are lost (outbox.mode is memory)", deliveries=left)
        elif left:
            self.telemetry.note(logging.WARNING, "undelivered webhooks wait for the next start", deliveries=left)
        self.telemetry.note(logging.INFO, "stopped")

    def _dropped(self, endpoint: str, count: int, first_sequence: int, last_sequence: int, untold: int) -> None:
        if self._recorder is not None:
            self._recorder.dropped(endpoint, count, first_sequence, last_sequence, untold)


def _endpoints(config: Config) -> list[Endpoint]:
    return [endpoint for entry in config.apps for endpoint in entry.endpoints]


def _router(config: Config, sequences: dict[str, int]) -> Router:
    feeds = {entry.app.id: entry.app.feed for entry in config.apps}
    return Router(_endpoints(config), _name(config), sequences, feeds)


def _name(config: Config) -> str:
    return config.server.node or socket.gethostname()


def _outbox(config: Config, dropped: Dropped) -> MemoryOutbox | SqliteOutbox:
    settings = config.outbox
    if settings.mode == "memory":
        return MemoryOutbox(capacity=settings.queue_capacity, dropped=dropped)
    return SqliteOutbox(
        path=Path(config.server.state_dir) / "outbox.sqlite",
        synchronous="full" if settings.synchronous == "full" else "normal",
        max_size=settings.max_size,
        retention_s=settings.retention_s,
    )
