"""One attempt over HTTP, through aiohttp's client.

Each endpoint has a session and a connection pool of its own; nothing is shared but the name resolver, which asks name servers
without threads, so that one that hangs keeps nobody else waiting. Redirects are not followed, proxies not used, cookies not
kept, bodies not unpacked.

A connection that the receiver closes in the very moment a request goes out on it is an ordinary failed attempt: whether the
receiver had read the request nobody can know, and the retry carries the same id. Idle connections are dropped before
common receivers would, which makes this rare.
"""

from __future__ import annotations

import asyncio
import io
import logging
import socket
import ssl
import time
from collections.abc import Callable, Mapping
from ipaddress import ip_address
from typing import Protocol

import aiohttp
from aiohttp import ClientSession
from aiohttp.abc import AbstractResolver, ResolveResult
from yarl import URL

from gateway.core.delivery import Outcome, Stage
from gateway.core.retry import parse_retry_after
from gateway.core.webhook import Endpoint
from gateway.delivery.address import AddressRules
from gateway.delivery.bound import BoundConnector, TooMuch
from gateway.delivery.deadline import Deadlines

#: Seconds a connection is kept without a request: less than the 5 s after which Node and uvicorn close theirs.
IDLE_S = 4.0

#: How much of an answer's body is kept for the log, in bytes.
BODY_HEAD = 4096

#: How long the body may take once the status is known, in seconds. The status has decided by then; what remains is the
#: head of a text for the log, and a receiver that drips it must not hold up a lane.
BODY_PATIENCE_S = 1.0

#: What the kernel takes in on our behalf, in bytes: answers are small, and a flood should stop at the sender's side.
_RECEIVE_BUFFER = 32_768

#: Connections beyond those of the live lanes: one for the replay lane and one for a test. Without them a live lane would
#: wait for one, and that wait is part of its time-out.
_BESIDE = 2

#: from this size on, in bytes, a body is handed over in pieces
_LARGE = 1 << 20

#: aiohttp has its own ideas about these
_UNSET = ("User-Agent", "Content-Type", "Accept", "Accept-Encoding")


class Sender(Protocol):
    """Makes one attempt; knows nothing of retries."""

    async def send(self, endpoint: Endpoint, headers: Mapping[str, str], body: bytes) -> Outcome:
        """POST the body with exactly these headers (and those HTTP itself needs); raises nothing but CancelledError."""
        ...

    async def forget(self, endpoint_key: str) -> None:
        """Let go of the endpoint's connections: it is gone, or different."""
        ...

    async def close(self) -> None:
        """Let go of everything; an attempt after this is refused. Closing twice is harmless."""
        ...


class HttpSender:
    """See `Sender`. Needs a running event loop from the first attempt on.

    `rules` say which addresses may be sent to. `tls` is the context for https, `resolver` the name resolver; by default
    the system's certificates and name servers.
    """

    def __init__(
        self, *, rules: AddressRules | None = None, tls: ssl.SSLContext | None = None, resolver: AbstractResolver | None = None
    ) -> None:
        self._rules = rules or AddressRules()
        self._tls = tls
        self._resolver = resolver
        self._peers: dict[str, _Peer] = {}
        self._is_closed = False

    async def send(self, endpoint: Endpoint, headers: Mapping[str, str], body: bytes) -> Outcome:
        started = time.perf_counter()
        peer: _Peer | None = None
        try:
            _check(headers)
            former = self._peers.get(endpoint.key)
            peer = self._peer(endpoint)
            peer.under_way += 1
            if former is not None and former is not peer:
                await former.retire()
            with peer.deadlines:
                answer = await peer.session.post(
                    peer.url, data=_data(body), allow_redirects=False, middlewares=(_Headed(headers),)
                )
            async with answer as response:
                wishes = response.headers.getall("Retry-After", ())
                latency_s = time.perf_counter() - started
                return Outcome(
                    Stage.ANSWERED,
                    latency_s * 1000,
                    response.status,
                    # two of them contradict each other
                    parse_retry_after(wishes[0], time.time()) if len(wishes) == 1 else None,
                    await _head(response, min(BODY_PATIENCE_S, endpoint.timeout_s - latency_s)),
                )
        except Exception as error:  # noqa: BLE001 -- a lane must hear of every end of an attempt; _judge logs what it does not know
            stage, sentence = _judge(error, endpoint)
            return Outcome(stage, (time.perf_counter() - started) * 1000, error=sentence)
        finally:
            if peer is not None:
                peer.under_way -= 1
                if peer.is_retired:
                    await peer.close_if_done()

    async def forget(self, endpoint_key: str) -> None:
        peer = self._peers.pop(endpoint_key, None)
        if peer is not None:
            await peer.retire()

    async def close(self) -> None:
        self._is_closed = True
        for key in list(self._peers):
            await self.forget(key)
        if self._resolver is not None:
            await self._resolver.close()

    def _peer(self, endpoint: Endpoint) -> _Peer:
        """Return the endpoint's peer, a new one in the place of the former if it has changed.

        Not a coroutine: two attempts at the same moment would each put one there, and one of them would be lost.
        """
        if self._is_closed:
            raise _Refused("the sender is closed")
        peer = self._peers.get(endpoint.key)
        if peer is not None and (peer.endpoint is endpoint or peer.endpoint == endpoint):
            return peer
        url = _target(endpoint.url)
        if (why := self._refusal(url.host or "")) is not None:
            raise _Refused(why)
        connector = BoundConnector(
            limit=endpoint.concurrency + _BESIDE,
            keepalive_timeout=IDLE_S,
            resolver=_Guard(self._names, self._refusal),
            socket_factory=self._make_socket,
            ssl=self._context() if url.scheme == "https" else True,
        )
        session = ClientSession(
            connector=connector,
            timeout=aiohttp.ClientTimeout(),  # see `Deadlines`
            cookie_jar=aiohttp.DummyCookieJar(),
            auto_decompress=False,
            read_bufsize=BODY_HEAD,
        )
        peer = self._peers[endpoint.key] = _Peer(endpoint, url, session)
        return peer

    # Both are made when they are first needed: most endpoints beside a gateway are reached by address, without TLS.

    def _names(self) -> AbstractResolver:
        if self._resolver is None:
            self._resolver = aiohttp.AsyncResolver()
        return self._resolver

    def _context(self) -> ssl.SSLContext:
        if self._tls is None:
            self._tls = ssl.create_default_context()
        return self._tls

    def _make_socket(self, info: tuple[int, int, int, str, tuple[object, ...]]) -> socket.socket:
        """Make the socket for one address, which is judged here once more: this is the one that will be connected to.

        What comes from the resolver has been judged before. A literal is handed through by the client as it is spelt.
        """
        address = str(info[4][0])
        if not _is_address(address):
            raise _Refused(f"{address} is not the plain form of an address, nothing may be sent there")
        if (why := self._refusal(address)) is not None:
            raise _Refused(why)
        sock = socket.socket(info[0], info[1], info[2])
        # Before connecting, or the window has been promised already.
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, _RECEIVE_BUFFER)
        return sock

    def _refusal(self, address: str) -> str | None:
        """Return why nothing may be sent to this address; a name is judged when it has been looked up."""
        why = self._rules.refusal(address) if _is_address(address) else None
        return None if why is None else f"{address} is {why}, nothing may be sent there"


class _Refused(Exception):
    """This side will not send it; the text says why."""


class _Peer:
    """One endpoint's receiver, and what it is reached through."""

    __slots__ = ("deadlines", "endpoint", "is_retired", "session", "under_way", "url")

    def __init__(self, endpoint: Endpoint, url: URL, session: ClientSession) -> None:
        self.endpoint = endpoint
        self.url = url
        self.session = session
        self.deadlines = Deadlines(endpoint.timeout_s)
        self.under_way = 0
        self.is_retired = False

    async def retire(self) -> None:
        """Nothing new is sent from now on."""
        self.is_retired = True
        await self.close_if_done()

    async def close_if_done(self) -> None:
        """Let go of the connections once nobody needs them: an attempt under way goes on to its end."""
        if self.is_retired and not self.under_way:
            self.deadlines.close()
            await self.session.close()


class _Headed:
    """Gives a request exactly these headers, beside those HTTP itself needs.

    A middleware of aiohttp's, because what it is told in another way it copies three times, name by name.
    """

    __slots__ = ("_headers",)

    def __init__(self, headers: Mapping[str, str]) -> None:
        self._headers = headers

    async def __call__(self, request: aiohttp.ClientRequest, send: aiohttp.ClientHandlerType) -> aiohttp.ClientResponse:
        headers = request.headers
        for name in _UNSET:
            headers.pop(name, None)
        headers.update(self._headers)
        return await send(request)


class _Guard(AbstractResolver):
    """Lets through only addresses that may be sent to: the ones judged are the ones used, there is no second look-up."""

    def __init__(self, inner: Callable[[], AbstractResolver], refusal_of: Callable[[str], str | None]) -> None:
        self._inner = inner
        self._refusal_of = refusal_of

    async def resolve(self, host: str, port: int = 0, family: socket.AddressFamily = socket.AF_UNSPEC) -> list[ResolveResult]:
        found = await self._inner().resolve(host, port, family)
        why = [self._refusal_of(result["host"]) for result in found]
        allowed = [result for result, refused in zip(found, why, strict=True) if refused is None]
        if found and not allowed:
            raise _Refused(why[0])  # found and none allowed: there is a reason for each
        return allowed

    async def close(self) -> None:
        """The inner one is shared, and not ours to close."""


def _check(headers: Mapping[str, str]) -> None:
    """Raise _Refused where a header cannot be sent, before a connection is made for it, and without quoting it."""
    text = "".join([*headers, *headers.values()])
    if "\r" in text or "\n" in text or "\0" in text:
        raise _Refused("a header holds a control character")
    if not text.isascii():
        try:
            text.encode()
        except UnicodeError:
            raise _Refused("a header holds what is no text") from None


def _is_address(host: str) -> bool:
    try:
        ip_address(host)
    except ValueError:
        return False
    return True


def _data(body: bytes) -> bytes | io.BytesIO:
    """Return the body in the form aiohttp wants it: it warns of large bytes, since writing them holds up the loop."""
    return body if len(body) < _LARGE else io.BytesIO(body)


async def _head(response: aiohttp.ClientResponse, patience_s: float) -> bytes:
    """Return the head of the body; if there is more, or it drips, the connection is ended and the status stands."""
    if response.content.is_eof() and response.content.exception() is None:
        return response.content.read_nowait(BODY_HEAD)  # all of it came together with the status: no timer for that
    head = b""
    try:
        async with asyncio.timeout(patience_s):
            while len(head) <= BODY_HEAD:
                some = await response.content.read(BODY_HEAD + 1 - len(head))
                if not some:
                    return head
                head += some
    except (TimeoutError, aiohttp.ClientError):
        pass  # the status has decided
    if response.connection is not None and response.connection.transport is not None:
        # close() would go on reading what a flood has in flight, over TLS for half a minute
        response.connection.transport.abort()
    response.close()
    return head[:BODY_HEAD]


def _target(url: str) -> URL:
    """Return the URL to send to. Raises _Refused with a sentence that does not quote it: it may hold a secret."""
    try:
        target = URL(url)
    except ValueError:
        raise _Refused("the URL cannot be read") from None
    if target.scheme not in ("http", "https") or not target.host:
        raise _Refused("the URL is not http:// or https:// with a host")
    if target.user is not None or target.password is not None:
        raise _Refused("the URL holds user information")
    return target.with_fragment(None)


def _judge(error: Exception, endpoint: Endpoint) -> tuple[Stage, str]:
    """Return how far an attempt came that ended in this exception, and a sentence without secrets."""
    host = ""
    if isinstance(error, aiohttp.ClientConnectorError | aiohttp.ClientConnectorCertificateError):
        host = f"[{error.host}]:{error.port}" if ":" in error.host else f"{error.host}:{error.port}"
    match error:
        case _Refused():
            return Stage.REFUSED, str(error)
        case TooMuch():
            return Stage.PROTOCOL, "the receiver sent too much before an answer"
        case aiohttp.ClientConnectorDNSError():
            return Stage.DNS, f"cannot resolve {error.host}: {_reason(error.os_error)}"
        case aiohttp.ClientConnectorCertificateError():
            return Stage.TLS, f"no TLS with {host}: {_reason(error.certificate_error)}"
        case aiohttp.ClientSSLError():
            return Stage.TLS, f"no TLS with {host}: {_reason(error.os_error)}"
        case aiohttp.ClientConnectorError():
            return Stage.CONNECT, f"cannot connect to {host}: {_reason(error.os_error)}"
        case TimeoutError():
            return Stage.TIMEOUT, f"no answer within {endpoint.timeout_s:g} s"
        case aiohttp.ClientResponseError() | aiohttp.ClientPayloadError() | aiohttp.http.HttpProcessingError():
            return Stage.PROTOCOL, f"what came back is no HTTP answer, or has too much header: {type(error).__name__}"
        case aiohttp.ServerDisconnectedError():
            return Stage.SEND, "the receiver closed the connection without an answer"
        case OSError():
            return Stage.SEND, _reason(error)
        case ValueError():
            # The text would quote the header, which may be a secret.
            return Stage.REFUSED, "a header or the URL holds what cannot be sent"
    logging.getLogger("rawpush.webhook").exception(
        "an attempt failed in an unforeseen way", exc_info=error, extra={"fields": {"endpoint": endpoint.key}}
    )
    return Stage.SEND, type(error).__name__


def _reason(error: Exception) -> str:
    if isinstance(error, ssl.SSLCertVerificationError):
        return f"certificate not accepted, {error.verify_message}"
    if isinstance(error, ssl.SSLError):
        return (error.reason or "handshake failed").lower().replace("_", " ")
    return (error.strerror if isinstance(error, OSError) else None) or str(error) or type(error).__name__
