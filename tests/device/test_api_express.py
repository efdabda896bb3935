"""The short way of a publish: held to the long way, byte for byte and publication for publication."""

from __future__ import annotations

import asyncio
import logging
import re
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from typing import Any, cast

import orjson
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from gateway.api import call
from gateway.api.connection import Connection
from gateway.api.site import Site
from gateway.core.app import Limits
from gateway.core.error import RequestError
from gateway.core.publication import Publication
from gateway.core.trace import Trace
from tests.desk_kit import DeskKit
from tests.device.served import APP, BATCH, CHANNELS, EVENT, EVENTS, ITEM, OTHER, FakeNode, signed
from tests.fake import FakeClock
from tests.mutation import Edit, edits, mutate

SMALL = replace(APP, limits=Limits(request=4_096, event_data=64))
#: many, and cheap: nothing goes over a socket
EXAMPLES = 15 * settings().max_examples

HEALTH = b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n"
LAST = b"GET /healthz HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n"


class Wire(asyncio.Transport):
    """A transport that keeps what is written, and goes when it is closed."""

    def __init__(self, protocol: asyncio.Protocol) -> None:
        super().__init__()
        self.protocol = protocol
        self.written = b""
        self.reads = True
        self.is_gone = False
        protocol.connection_made(self)

    def write(self, data: bytes | bytearray | memoryview) -> None:
        if not self.is_gone:
            self.written += data

    def set_write_buffer_limits(self, high: int | None = None, low: int | None = None) -> None:
        """Nothing ever waits here."""

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_reading(self) -> None:
        self.reads = False

    def resume_reading(self) -> None:
        self.reads = True

    def is_closing(self) -> bool:
        return self.is_gone

    def close(self) -> None:
        if not self.is_gone:
            self.is_gone = True
            asyncio.get_running_loop().call_soon(self.protocol.connection_lost, None)

    async def feed(self, *pieces: bytes) -> None:
        """Let pieces arrive, and all come of them that comes without the world's doing."""
        for piece in pieces:
            if not self.is_gone:
                self.protocol.data_received(piece)
            for _ in range(25):
                await asyncio.sleep(0)

    def statuses(self) -> list[int]:
        return [int(status) for status in re.findall(rb"HTTP/1\.1 (\d+) ", self.written)]


class Way:
    """A site over a node of its own, on one way only or with both."""

    def __init__(self, prefix: str = "", *, is_long: bool = False) -> None:
        self.node = FakeNode(SMALL, OTHER)
        self.node.enter("orders", None, None)
        clock = FakeClock()
        self.now_s = clock.epoch_ms() // 1000
        self.site = Site(node=self.node, desk=DeskKit(clock=clock).desk, clock=clock, path_prefix=prefix)
        self.is_long = is_long

    def connect(self) -> Wire:
        if self.is_long:
            return Wire(Connection(self.site._requests, self.site._server))
        return Wire(self.site.protocol())

    @property
    def long_ones(self) -> int:
        """How many requests aiohttp has had."""
        return self.site._server.requests_count

    @property
    def running(self) -> int:
        return self.site._requests.running


@dataclass
class Outcome:
    """What became of some bytes: all that anybody can see of it."""

    early: bytes
    written: bytes
    is_gone: bool
    reads: bool
    running: int
    published: list[Publication]
    rejected: list[Any]
    faults: list[str] = field(default_factory=list)


#: what the node answers
OUTCOMES: dict[str, Any] = {
    "done": None,
    "later": asyncio.Future,
    "never": asyncio.Future,
    "too fast": RequestError(429, "too fast", reason="rate_limited"),
    "full": RequestError(503, "full", reason="overloaded"),
    "no disk": OSError("no disk"),
    "a fault": RuntimeError("a fault"),
    "not written": RequestError(503, "not yet"),
}


async def become(way: Way, pieces: list[bytes], outcome: str, faults: list[str]) -> Outcome:
    """Send the pieces, then one request more that ends the connection, and tell what became of it all."""
    faults.clear()
    way.node.published, way.node.rejected = [], []
    what, later = OUTCOMES[outcome], None
    if outcome in ("later", "never", "not written"):
        later = asyncio.get_running_loop().create_future()
    way.node.outcome = what if later is None else later
    wire = way.connect()
    await wire.feed(*pieces)
    early = wire.written
    if later is not None and outcome == "later":
        later.set_result(None)
    elif later is not None and outcome == "not written":
        later.set_exception(what)
        later.exception()
    # whatever is still missing, a head or a body, ends here
    await wire.feed(b"", b"\r\n\r\n" + b" " * 300 + b"\r\n\r\n", LAST)
    running = way.running
    if later is not None and not later.done():
        wire.close()
        await wire.feed(b"")
        later.set_result(None)
    written, is_gone = wire.written, wire.is_gone
    wire.close()
    await wire.feed(b"")
    assert way.running == 0
    dated = re.compile(rb"Date: [^\r]*")
    return Outcome(
        dated.sub(b"Date", early),
        dated.sub(b"Date", written),
        is_gone,
        wire.reads,
        running,
        way.node.published,
        way.node.rejected,
        list(faults),
    )


class Ways:
    """Both ways at work, for hypothesis, which cannot wait for anything itself."""

    def __init__(self, runner: asyncio.Runner, prefix: str) -> None:
        self.runner = runner
        self.faults: list[str] = []
        self.short, self.long = runner.run(self.make(prefix))

    @staticmethod
    async def make(prefix: str) -> tuple[Way, Way]:
        return Way(prefix), Way(prefix, is_long=True)

    def compare(self, pieces: list[bytes], outcome: str = "done") -> Outcome:
        async def both() -> tuple[Outcome, Outcome]:
            return (
                await become(self.short, pieces, outcome, self.faults),
                await become(self.long, pieces, outcome, self.faults),
            )

        short, long = self.runner.run(both())
        assert short == long
        return short


@pytest.fixture(scope="module", params=["", "/rt", "/apps/740213"])
def ways(request: pytest.FixtureRequest) -> Iterator[Ways]:
    with asyncio.Runner() as runner:
        ways = Ways(runner, request.param)
        handler = logging.Handler(logging.ERROR)
        handler.emit = lambda record: ways.faults.append(record.getMessage())  # type: ignore[method-assign]
        logging.getLogger().addHandler(handler)
        yield ways
        logging.getLogger().removeHandler(handler)


BODIES = [
    orjson.dumps(EVENT),
    orjson.dumps(EVENT | {"info": "subscription_count,user_count", "channels": ["orders", "presence-a"]}),
    orjson.dumps(EVENT | {"socket_id": "1.1", "data": {"a": "é"}}),
    orjson.dumps(EVENT | {"data": "x" * 65}),
    orjson.dumps(EVENT | {"name": "pusher:x"}),
    orjson.dumps(EVENT | {"channels": ["a b"]}),
    orjson.dumps(EVENT | {"channels": ["#server-to-user-7"], "info": "user_count"}),
    b"[]",
    b"{",
    b"",
    orjson.dumps(EVENT | {"more": "x" * 4_096}),
]
BATCHES = [
    orjson.dumps({"batch": [ITEM]}),
    orjson.dumps({"batch": [ITEM, ITEM | {"channel": "other", "data": {"a": "é"}}] * 5}),
    orjson.dumps({"batch": [ITEM, ITEM | {"info": "subscription_count"}, ITEM | {"channel": "#server-to-user-7"}]}),
    orjson.dumps({"batch": [ITEM] * 11}),
    orjson.dumps({"batch": [ITEM, ITEM | {"channel": "a b"}]}),
    orjson.dumps({"batch": [ITEM, ITEM | {"data": "x" * 65}, 5]}),
    orjson.dumps({"batch": []}),
    orjson.dumps(EVENT),
    b"{",
]
LINES = [
    b"Content-Type: application/json",
    b"Connection: keep-alive",
    b"Connection: close",
    b"Expect: 100-continue",
    b"Transfer-Encoding: chunked",
    b"Content-Encoding: gzip",
    b"Content-Length: 5",
    b"Host: other",
    b"Upgrade: h2c",
    b"Traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01",
    b"traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01\r\nTraceState: a=1,b=2",
    b"traceparent: 00-4bf92f3577b34da6a3ce929d0e0e4736-0000000000000000-01",
    b"X: \x00",
    b"X : y",
    b" folded",
]


@st.composite
def requests(draw: st.DrawFn) -> bytes:
    """A publish, rightly signed, as it is or changed somewhere."""
    route, bodies = draw(st.sampled_from([("events", BODIES), ("batch_events", BATCHES)]))
    body = draw(st.sampled_from(bodies))
    app = draw(st.sampled_from([SMALL, SMALL, SMALL, OTHER]))
    path = draw(st.sampled_from(["", "", "/rt", "/apps/740213"])) + f"/apps/{app.id}/{route}"
    late = draw(st.sampled_from([0, 0, 0, 600]))
    more = draw(st.sampled_from([{}, {}, {}, {"info": "user_count"}]))
    target = signed("POST", path, body, app=app, now_s=FakeClock().epoch_ms() // 1000 - late, **more).encode()
    lines = [b"Host: x", b"Content-Length: %d" % len(body), *draw(st.lists(st.sampled_from(LINES), max_size=1))]
    changed = draw(st.sampled_from(["nothing", "nothing", "target", "lines", "body", "all"]))
    changes: list[Edit] = draw(edits)
    target = mutate(target, changes) if changed == "target" else target
    text = mutate(b"\r\n".join(lines), changes) if changed == "lines" else b"\r\n".join(lines)
    body = mutate(body, changes) if changed == "body" else body
    data = b"POST %b HTTP/1.1\r\n%b\r\n\r\n%b" % (target, text, body)
    return mutate(data, changes) if changed == "all" else data


@settings(max_examples=EXAMPLES)
@given(
    st.lists(requests() | st.sampled_from([HEALTH]), min_size=1, max_size=3),
    st.booleans(),
    st.lists(st.integers(0, 2_000), max_size=2),
    st.sampled_from([*OUTCOMES, *["done"] * 5]),
)
def test_both_ways_answer_the_same_and_do_the_same(
    ways: Ways, data: list[bytes], is_one_piece: bool, cuts: list[int], outcome: str
) -> None:
    pieces = [b"".join(data)] if is_one_piece else list(data)
    for cut in cuts:
        place = cut % len(pieces)
        whole = pieces.pop(place)
        at = cut % (len(whole) + 1)
        pieces[place:place] = [whole[:at], whole[at:]]
    ways.compare([piece for piece in pieces if piece], outcome)


def plain(body: bytes = BODIES[0], path: str = EVENTS) -> bytes:
    target = signed("POST", path, body, app=SMALL, now_s=FakeClock().epoch_ms() // 1000)
    return b"POST %b HTTP/1.1\r\nHost: x\r\nContent-Length: %d\r\n\r\n%b" % (target.encode(), len(body), body)


@pytest.mark.parametrize("outcome", OUTCOMES)
@pytest.mark.parametrize(
    ("path", "body"),
    [*((EVENTS, body) for body in BODIES), *((BATCH, body) for body in BATCHES)],
    ids=range(len(BODIES + BATCHES)),
)
def test_each_body_with_each_outcome(ways: Ways, path: str, body: bytes, outcome: str) -> None:
    data = plain(body, path)
    for pieces in ([data], [data, data], [data[:-1], data[-1:]], [data[:-1], data[-1:] + data], [data * 2]):
        ways.compare(pieces, outcome)


# -- which way


@pytest.mark.parametrize(("data", "events"), [(plain(), 1), (plain(BATCHES[1], BATCH), 10)], ids=["one", "batch"])
async def test_a_plain_publish_does_not_reach_aiohttp(data: bytes, events: int) -> None:
    way = Way()
    wire = way.connect()
    # as it comes at once, behind its head, and in many pieces
    await wire.feed(data, data[:-20], data[-20:], data[:-20], *[bytes((byte,)) for byte in data[-20:]])
    assert wire.statuses() == [200] * 3
    assert len(way.node.published) == 3 * events
    assert way.long_ones == 0


async def test_a_trace_is_read_on_both_ways() -> None:
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    way = Way()
    wire = way.connect()
    line = f"Traceparent: {parent}\r\ntracestate: a=1 , b=2".encode()
    await wire.feed(plain().replace(b"Host: x", b"Host: x\r\n" + line))
    assert way.long_ones == 0
    # twice the same header is not for the short way
    await wire.feed(plain().replace(b"Host: x", b"Host: x\r\n" + line.replace(b" , b", b"\r\nTracestate: b")))
    assert way.long_ones == 1
    assert wire.statuses() == [200, 200]
    assert [publication.trace for publication in way.node.published] == [Trace(parent, "a=1,b=2")] * 2


async def test_a_refused_one_does_not_either() -> None:
    way = Way()
    wire = way.connect()
    await wire.feed(plain().replace(b"auth_signature=", b"auth_signature=0"), plain(b"[]"), plain())
    assert wire.statuses() == [401, 400, 200]
    assert [reason for _, reason, *_ in way.node.rejected] == ["unauthorized", "invalid_event"]
    assert way.long_ones == 0


async def test_behind_a_plain_request_that_went_the_long_way_the_short_one_is_taken_again() -> None:
    way = Way()
    wire = way.connect()
    channels = signed("GET", CHANNELS, b"", app=SMALL, now_s=way.now_s).encode()
    for count in range(1, 4):
        await wire.feed(b"GET %b HTTP/1.1\r\nHost: x\r\n\r\n" % channels, plain())
        assert way.long_ones == count
    assert wire.statuses() == [200] * 6


@pytest.mark.parametrize(
    "pieces",
    [
        [HEALTH + HEALTH],
        [HEALTH[:9], HEALTH[9:]],
        [HEALTH + plain()[:20], plain()[20:]],
        [plain().replace(b"Host: x", b"Host: x\r\nExpect: 100-continue")],
    ],
)
async def test_behind_anything_else_it_is_not(pieces: list[bytes]) -> None:
    way = Way()
    wire = way.connect()
    await wire.feed(*pieces)
    before = way.long_ones
    await wire.feed(plain(), plain())
    assert way.long_ones == before + 2
    assert wire.statuses()[-2:] == [200, 200]


async def test_what_is_half_a_request_for_aiohttp_is_no_place_to_begin_one() -> None:
    """Whoever can have a body be taken for a request can have another's request be taken for his."""
    way = Way()
    hidden = plain(orjson.dumps(EVENT | {"name": "hidden"}))
    for head in (b"Content-Length: %d" % len(hidden), b"Transfer-Encoding: chunked", b"Content-Length: 5\r\nContent-Length: 6"):
        wire = way.connect()
        await wire.feed(b"POST /nowhere HTTP/1.1\r\nHost: x\r\n%b\r\n\r\n" % head, hidden, b"0\r\n\r\n")
    assert way.node.published == []


# -- waiting


async def test_nothing_is_answered_before_it_is_durable_and_what_comes_meanwhile_waits() -> None:
    way = Way()
    way.node.outcome = recorded = asyncio.get_running_loop().create_future()
    wire = way.connect()
    await wire.feed(plain(), HEALTH, plain(BODIES[1]))
    assert wire.written == b""
    assert len(way.node.published) == 1
    recorded.set_result(None)
    await wire.feed(b"")
    assert wire.statuses() == [200, 200, 200]
    assert b'{"channels":' in wire.written.rpartition(b"\r\n\r\n")[2]


async def test_a_client_that_sends_without_end_behind_a_publish_is_not_read_from() -> None:
    way = Way()
    way.node.outcome = recorded = asyncio.get_running_loop().create_future()
    wire = way.connect()
    await wire.feed(plain(), HEALTH * 2_000)
    assert not wire.reads
    recorded.set_result(None)
    await wire.feed(*[b""] * 400)
    assert wire.statuses() == [200] * 2_001
    assert wire.reads


async def test_and_is_read_from_again() -> None:
    way = Way()
    way.node.apps[APP.id] = APP
    way.node.outcome = recorded = asyncio.get_running_loop().create_future()
    wire = way.connect()
    large = plain(orjson.dumps(EVENT | {"more": "x" * 70_000}))
    await wire.feed(plain(), large[:-1])
    assert not wire.reads
    recorded.set_result(None)
    await wire.feed(b"")
    assert wire.reads
    await wire.feed(large[-1:])
    assert wire.statuses() == [200, 200]
    assert way.long_ones == 0


async def test_a_client_that_does_not_read_its_answers_is_made_to_wait() -> None:
    way = Way()
    wire = way.connect()
    protocol = cast(Connection, wire.protocol)
    await wire.feed(plain())
    protocol.pause_writing()
    await wire.feed(*[plain()] * 50)
    # one answer is written before anybody can tell that it is not taken
    assert len(way.node.published) == 2
    protocol.resume_writing()
    await wire.feed(*[b""] * 10)
    assert wire.statuses() == [200] * 51


async def test_a_body_that_does_not_come(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(call, "BODY_TIMEOUT_S", 0.0)
    written = []
    for way in (Way(), Way(is_long=True)):
        wire = way.connect()
        await wire.feed(plain()[:-9])
        assert wire.statuses() == [408]
        assert b"\r\nConnection: close\r\n" in wire.written
        assert way.running == 0
        written.append(wire.written.partition(b"\r\n\r\n")[2])
        # whoever still sends gets to read that, and no more; what comes now is neither its end nor another request
        await wire.feed(plain()[-9:-1])
        assert not wire.is_gone
        await wire.feed(plain()[-1:] + HEALTH)
        assert wire.is_gone
        assert wire.statuses() == [408]
        assert way.node.published == []
    assert written[0] == written[1]


async def test_the_client_that_leaves_in_the_middle_of_a_body_is_forgotten() -> None:
    way = Way()
    wire = way.connect()
    await wire.feed(plain()[:-1])
    assert way.running == 1
    wire.close()
    await wire.feed(b"")
    assert way.running == 0
    await way.site.stop(3600)


async def test_the_client_that_leaves_before_its_publish_is_durable_takes_nothing_along() -> None:
    way = Way()
    way.node.outcome = recorded = asyncio.get_running_loop().create_future()
    wire = way.connect()
    await wire.feed(plain())
    wire.close()
    await wire.feed(b"")
    assert way.running == 1
    recorded.set_result(None)
    await wire.feed(b"")
    assert way.running == 0
    assert wire.written == b""


async def test_stopping_waits_for_a_body_and_a_commit() -> None:
    way = Way()
    way.node.outcome = recorded = asyncio.get_running_loop().create_future()
    wire = way.connect()
    await wire.feed(plain()[:-1])
    stopping = asyncio.ensure_future(way.site.stop(3600))
    await wire.feed(plain()[-1:])
    assert way.node.published
    assert not stopping.done()
    recorded.set_result(None)
    await stopping
    assert wire.statuses() == [200]
    assert b"\r\nConnection: close\r\n" in wire.written
    assert wire.is_gone


async def test_stopping_waits_for_an_answer_that_is_due_in_this_turn() -> None:
    way = Way()
    wires = [way.connect(), way.connect()]
    for wire in wires:
        await wire.feed(b"")
    for wire in wires:
        wire.protocol.data_received(plain())
    # they are written in a row when the turn is over
    assert [wire.written for wire in wires] == [b"", b""]
    await way.site.stop(3600)
    for wire in wires:
        assert wire.statuses() == [200]
        assert b"\r\nConnection: close\r\n" in wire.written
        assert wire.is_gone


async def test_what_comes_behind_a_publish_in_the_same_turn_is_answered_behind_it() -> None:
    way = Way()
    wire = way.connect()
    for data in (plain(), plain(b"[]"), HEALTH, plain()):
        wire.protocol.data_received(data)
    await wire.feed(b"")
    assert wire.statuses() == [200, 400, 200, 200]


async def test_a_connection_is_idle_from_its_last_answer_on(monkeypatch: pytest.MonkeyPatch) -> None:
    loop, late = asyncio.get_running_loop(), 0.0
    real = loop.time
    monkeypatch.setattr(loop, "time", lambda: real() + late)
    way = Way()
    wire = way.connect()
    await wire.feed(plain())
    late = 100.0
    await wire.feed(plain())
    late = 200.0
    await wire.feed(b"")
    assert not wire.is_gone
    late = 221.0
    await wire.feed(b"")
    assert wire.is_gone
    assert wire.statuses() == [200, 200]


async def test_an_upgrade_behind_a_publish_is_given_back() -> None:
    way = Way()
    taken: list[bytes] = []
    way.site.take_back = lambda transport, data: taken.append(data)
    wire = way.connect()
    upgrade = b"GET /app/key HTTP/1.1\r\nHost: x\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n\r\n"
    await wire.feed(plain(), upgrade)
    assert taken == [upgrade]
    assert wire.statuses() == [200]
