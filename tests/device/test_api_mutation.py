"""Changed requests on the wire: none is a fault of the gateway, and none does anything but what its signature was made for."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager, AsyncExitStack

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from tests.desk_kit import DeskKit, endpoint
from tests.device.served import APP, BATCH, CHANNELS, EVENT, EVENTS, ITEM, USERS, Served, serve
from tests.mutation import Edit, edits, meaning, mutate
from tests.patience import LONG_S

HOOKS = f"/apps/{APP.id}/webhooks"
PREFIX = "/rt"

#: method, path, parameters, body
REQUESTS: list[tuple[str, str, dict[str, str], bytes]] = [
    ("POST", EVENTS, {}, orjson.dumps(EVENT | {"info": "subscription_count"})),
    ("POST", EVENTS, {"name": "e", "channel": "a", "data": "x"}, b""),
    ("POST", PREFIX + BATCH, {}, orjson.dumps({"batch": [ITEM, ITEM]})),
    ("GET", CHANNELS, {"filter_by_prefix": "presence-", "info": "user_count"}, b""),
    ("GET", f"{CHANNELS}/private-a@b,c;d", {"info": "subscription_count"}, b""),
    ("GET", f"{CHANNELS}/presence-a/users", {}, b""),
    ("POST", f"{USERS}/u-42/terminate_connections", {}, b"{}"),
    ("POST", "/users/u-42/terminate_connections", {}, b"{}"),
    ("GET", f"{HOOKS}/events", {"after": "0", "limit": "3", "event": "channel.*"}, b""),
    ("GET", f"{HOOKS}/endpoints/backend/dead_letters", {"from": "2026-01-25T10:00:00Z"}, b""),
    ("POST", f"{HOOKS}/endpoints/backend/replay", {}, b'{"dead_letters":"all","limit":5}'),
]

#: in front of the empty line; nothing in them may change what the request asks for
HEADERS = [
    b"Expect: 100-continue",
    b"Content-Type: \xff",
    b"Accept-Encoding: gzip",
    b"X-HTTP-Method-Override: DELETE",
    b"X: \x00",
]
HEADERS += [b"Transfer-Encoding: chunked", b"Content-Encoding: gzip", b"Connection: upgrade", b"Upgrade: h2c", b"Host: other"]


class Bench:
    """A site that is served while an example runs: hypothesis cannot wait for anything itself."""

    def __init__(self, runner: asyncio.Runner) -> None:
        self.runner = runner
        self.stack = AsyncExitStack()
        self.served: Served = runner.run(self.stack.enter_async_context(self.fresh()))
        self.faults: list[str] = []

    @staticmethod
    def fresh() -> AbstractAsyncContextManager[Served]:
        return serve(desk=DeskKit(endpoint()).desk, path_prefix=PREFIX)

    def send(self, data: bytes) -> int:
        self.served.node.published.clear()
        return self.runner.run(send(self.served, data))


@pytest.fixture(scope="module")
def bench() -> Iterator[Bench]:
    with asyncio.Runner() as runner:
        bench = Bench(runner)
        handler = logging.Handler(logging.ERROR)
        handler.emit = lambda record: bench.faults.append(record.getMessage())  # type: ignore[method-assign]
        logging.getLogger().addHandler(handler)
        yield bench
        logging.getLogger().removeHandler(handler)
        runner.run(bench.stack.aclose())


async def send(served: Served, data: bytes) -> int:
    """Send bytes on a connection of their own; return the status of the first answer, or 0 where there is none."""
    line = await served.connect()
    try:
        await line.send(data)
        async with asyncio.timeout(LONG_S):
            if data.startswith(b"HEAD"):
                return int((await line.reader.readuntil(b"\r\n")).split(b" ")[1])
            return (await line.answer())[0]
    except (asyncio.IncompleteReadError, ConnectionError):
        return 0
    finally:
        line.writer.transport.abort()
        served.lines.clear()


@settings(max_examples=8 * settings.default.max_examples)
@given(
    st.sampled_from(REQUESTS),
    edits,
    st.sampled_from(["target", "body", "method"]),
    st.sampled_from(["GET", "HEAD", "POST", "PUT", "OPTIONS", "get", "G\xe9T"]),
    st.lists(st.sampled_from(HEADERS), max_size=1),
)
def test_what_is_answered_with_200_is_what_was_signed(
    bench: Bench,
    request_: tuple[str, str, dict[str, str], bytes],
    changes: list[Edit],
    changed: str,
    method: str,
    more: list[bytes],
) -> None:
    right, path, parameters, body = request_
    target = bench.served.signed(right, path, body, **parameters).encode()
    target_after = mutate(target, changes) if changed == "target" else target
    body_after = mutate(body, changes) if changed == "body" else body
    method_after = method if changed == "method" else right
    head = b" ".join([method_after.encode("latin-1"), target_after, b"HTTP/1.1"])
    lines = [head, b"Host: x", b"Content-Length: %d" % len(body_after), *more, b"", body_after]
    status = bench.send(b"\r\n".join(lines))
    assert status < 500
    assert bench.faults == []
    if status == 200:
        assert (method_after, body_after) == (right, body)
        # a second space between the words of a request line may be overlooked (RFC 9112 section 3)
        assert meaning(target_after.strip(b" "), PREFIX.encode()) == meaning(target, PREFIX.encode())
    else:
        assert bench.served.node.published == []


@settings(max_examples=8 * settings.default.max_examples)
@given(st.sampled_from(REQUESTS), edits)
def test_no_bytes_are_a_fault_of_the_gateway(
    bench: Bench, request_: tuple[str, str, dict[str, str], bytes], changes: list[Edit]
) -> None:
    method, path, parameters, body = request_
    lines = [
        f"{method} {bench.served.signed(method, path, body, **parameters)} HTTP/1.1",
        "Host: x",
        f"Content-Length: {len(body)}",
    ]
    data = "\r\n".join([*lines, "", ""]).encode() + body
    # whatever is still missing after the change, a head or a body, ends here; and another request stands behind it
    end = b"\r\n\r\n" + b" " * 300 + b"\r\n\r\nGET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"
    assert bench.send(mutate(data, changes) + end) < 500
    assert bench.faults == []
