"""The short way of a publish: from the bytes to the answer without aiohttp's requests, tasks and responses.

Theory of operation
-------------------
`Express` is aiohttp's protocol, and sees all bytes first. Where aiohttp has nothing in hand and a plain publish begins (see
`plain`), this side keeps those bytes and answers them; all others go on to aiohttp as they came. So each request is read by
one parser only, from its first byte to its last. aiohttp has nothing in hand as long as it was given nothing, or after a
plain request that came in one piece has been answered; where nobody can tell from outside, as behind requests in several
pieces, the connection stays with it.

What is checked, in which order, and what is answered is what `Site` does, by the same functions.
"""

from __future__ import annotations

import asyncio
from functools import partial

from aiohttp import web

from gateway.api import call, event
from gateway.api.call import too_late, verified
from gateway.api.connection import LINGER_S, Connection, Requests
from gateway.api.form import Forms
from gateway.api.plain import Publish, Reader, is_whole
from gateway.api.reply import Reply, done, failure, refuse
from gateway.api.turn import Turn
from gateway.core.app import App
from gateway.core.auth import Parameters
from gateway.core.error import RequestError
from gateway.core.trace import Trace
from gateway.node import Node
from gateway.ports import Clock

#: bytes behind a request that are kept until it has been answered; more are left to the kernel
_MOST_BEHIND = 65_536


class Shortcut:
    """Carries out plain publishes; `prefix` is where the API is mounted."""

    def __init__(self, *, node: Node, clock: Clock, prefix: str) -> None:
        self.node = node
        self._clock = clock
        self._prefix = prefix
        self._reader = Reader(prefix)
        self._forms = Forms(node=node, clock=clock, prefix=prefix)
        self.turn = Turn()
        #: returns form, body and trace of a whole publish, if it is right and of a form seen before
        self.recognise = self._forms.read

    def read(self, data: bytes) -> tuple[Publish, App] | None:
        """Return the plain publish that `data` begins with, and its app; None if it is none, or is to be refused for its size."""
        head = self._reader.read(data)
        if head is None:
            return None
        try:
            app = self.node.app(head.app_id)
        except Exception:  # noqa: BLE001 -- the long way meets with the same, logs it and answers it
            return None
        return None if app is None or head.length > app.limits.request else (head, app)

    def verified(self, head: Publish, app: App, data: bytes, body: bytes) -> Parameters:
        """Return the parameters of a whole publish; raises RequestError."""
        try:
            parameters = verified(app, "POST", head.path, self._prefix, head.query, body, self._clock)
        except RequestError as error:
            if error.reason is not None:
                self.node.reject(app.id, error.reason, None, None, len(body))
            raise
        if not parameters:
            self._forms.learn(data, head, app)
        return parameters

    def answer(self, app: App, published: event.Published) -> asyncio.Future[dict[str, object]] | asyncio.Future[None]:
        """Return what becomes the answer to what was published, None standing for the empty one; it may also raise."""
        if published.recorded is None or published.asks:
            return asyncio.ensure_future(event.answer(self.node, app, published))
        return asyncio.ensure_future(published.recorded)


class _Partial:
    """A publish whose body has not come whole yet."""

    __slots__ = ("app", "head", "missing", "pieces", "timer")

    def __init__(self, head: Publish, app: App, data: bytes, timer: asyncio.TimerHandle) -> None:
        self.head = head
        self.app = app
        self.pieces = [data]
        self.missing = head.start + head.length - len(data)
        self.timer = timer


class Express(Connection):
    """A connection on which plain publishes go the short way."""

    __slots__ = ("_behind", "_comes_back", "_dropped", "_is_busy", "_is_fresh", "_is_held", "_partial", "_shortcut")

    def __init__(self, shortcut: Shortcut, requests: Requests, server: web.Server) -> None:
        super().__init__(requests, server)
        self._shortcut = shortcut
        #: nothing was given to aiohttp
        self._is_fresh = True
        #: what was given to aiohttp was whole requests, the last of them plain and in one piece
        self._comes_back = True
        #: a publish goes the short way, and is not answered
        self._is_busy = False
        #: that publish, while its body comes
        self._partial: _Partial | None = None
        #: what has come behind it
        self._behind = b""
        self._is_held = False
        #: bytes of a refused body that are still read and dropped
        self._dropped = 0

    def data_received(self, data: bytes) -> None:
        if self._partial is not None:
            self._complete(self._partial, data)
        elif self._is_busy:
            self._keep(data)
        elif self._dropped:
            self._drop(data)
        elif not self._is_free() or (known := self._shortcut.recognise(data)) is None:
            self._read(data)
        else:
            form, body, trace = known
            self._publish(form.path, form.app, {}, body, trace, is_batch=form.is_batch)

    def _read(self, data: bytes) -> None:
        """Take what begins a request, of whatever kind."""
        begun = self._shortcut.read(data) if self._is_free() else None
        if begun is None or len(data) > begun[0].start + begun[0].length:
            self._comes_back = self._is_free() and is_whole(data)
            self._is_fresh = False
            super().data_received(data)
        else:
            self._begin(*begun, data)

    def connection_lost(self, exc: BaseException | None) -> None:
        unfinished, self._partial = self._partial, None
        if unfinished is not None:
            unfinished.timer.cancel()
            self._is_busy = False
            self.requests.ended()
        super().connection_lost(exc)

    def close(self) -> None:
        # the answer that is still due is the last one, and closes the connection
        if not self._is_busy:
            super().close()

    def _is_free(self) -> bool:
        """Tell whether aiohttp has nothing in hand: no request, no part of one, no answer that the peer does not take."""
        if self._close or self._force_close or self.transport is None or self.writing_paused:
            return False
        if self._is_fresh:
            return True
        return self._comes_back and self._waiter is not None and not self._waiter.done()

    def _begin(self, head: Publish, app: App, data: bytes) -> None:
        if len(data) == head.start + head.length:
            self._carry_out(head, app, data)
        else:
            self._stay_busy()
            self._stay_awake()
            self._partial = _Partial(head, app, data, self._loop.call_later(call.BODY_TIMEOUT_S, self._is_late))

    def _complete(self, unfinished: _Partial, data: bytes) -> None:
        piece = data[: unfinished.missing]
        unfinished.pieces.append(piece)
        unfinished.missing -= len(piece)
        if not unfinished.missing:
            self._partial = None
            unfinished.timer.cancel()
            self._behind = data[len(piece) :]
            whole = b"".join(unfinished.pieces)
            known = self._shortcut.recognise(whole)
            if known is None:
                self._carry_out(unfinished.head, unfinished.app, whole)
            else:
                form, body, trace = known
                self._publish(form.path, form.app, {}, body, trace, is_batch=form.is_batch)

    def _is_late(self) -> None:
        unfinished, self._partial = self._partial, None
        if unfinished is not None:
            self._dropped = unfinished.missing
            self._answer(refuse(too_late()))

    def _drop(self, data: bytes) -> None:
        self._dropped = max(0, self._dropped - len(data))
        if not self._dropped:
            self.force_close()

    def _keep(self, data: bytes) -> None:
        self._behind += data
        if len(self._behind) > _MOST_BEHIND and not self._is_held and self.transport is not None:
            self._is_held = True
            self.transport.pause_reading()

    def _carry_out(self, head: Publish, app: App, data: bytes) -> None:
        body = data[head.start :]
        try:
            parameters = self._shortcut.verified(head, app, data, body)
        except Exception as error:  # noqa: BLE001 -- what is not a refusal is logged there
            self._answer(failure(error, "POST", head.path))
            return
        self._publish(head.path, app, parameters, body, head.trace, is_batch=head.is_batch)

    def _publish(self, path: str, app: App, parameters: Parameters, body: bytes, trace: Trace | None, *, is_batch: bool) -> None:
        try:
            published = event.publish_now(self._shortcut.node, app, parameters, body, trace, is_batch=is_batch)
        except Exception as error:  # noqa: BLE001 -- as above
            self._answer(failure(error, "POST", path))
            return
        self._stay_busy()
        if published is None:
            self._shortcut.turn.answer_later(self)
        else:
            self._stay_awake()
            self._shortcut.answer(app, published).add_done_callback(partial(self._carried_out, path))

    def answer_now(self) -> None:
        """Answer a publish for which there is nothing to say."""
        self._answer(None)

    def _carried_out(self, path: str, answer: asyncio.Future[dict[str, object]] | asyncio.Future[None]) -> None:
        if answer.cancelled():
            self._answer(failure(RuntimeError("a publish was cancelled"), "POST", path))
            return
        error = answer.exception()
        if isinstance(error, Exception):
            self._answer(failure(error, "POST", path))
        elif error is not None:
            raise error
        else:
            result = answer.result()
            self._answer(None if result is None else Reply(200, result))

    def _answer(self, reply: Reply | None) -> None:
        """Write the answer, None for the empty object, and go on."""
        self.answered += 1
        if self._is_busy:
            self._is_busy = False
            self.requests.ended()
        transport = self.transport
        if transport is None or self._force_close:
            return
        if self.requests.is_stopping:
            reply = reply or Reply(200, {})
            reply.force_close()
        transport.write(done() if reply is None else reply.whole())
        if reply is None or reply.keep_alive:
            self._stay_awake()
            if self._behind or self._is_held:
                self._go_on(transport)
        elif self._dropped:
            self._loop.call_later(LINGER_S, self.force_close)
        else:
            self.force_close()

    def _go_on(self, transport: asyncio.Transport) -> None:
        if self._is_held:
            self._is_held = False
            transport.resume_reading()
        if self._behind:
            behind, self._behind = self._behind, b""
            self.data_received(behind)

    def _stay_busy(self) -> None:
        """Say that a publish is under way whose answer is written later."""
        if not self._is_busy:
            self._is_busy = True
            self.requests.began()

    def _stay_awake(self) -> None:
        """Count the time of an idle connection from now on, as aiohttp does behind its own answers."""
        self._next_keepalive_close_time = self._loop.time() + self.keepalive_timeout
