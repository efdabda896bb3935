"""The walk over the subscribers, in C and in Python: both keep the same promises, alone and under a connection."""

from __future__ import annotations

import asyncio
import functools
import gc
import os
import random
import shutil
import socket
import subprocess
import sys
import sysconfig
import tracemalloc
import weakref
from collections.abc import Callable, Iterator, Mapping
from contextlib import ExitStack, contextmanager
from importlib import import_module
from pathlib import Path
from types import MappingProxyType, ModuleType
from typing import Any

import pytest
import uvloop
from hypothesis import given
from hypothesis import strategies as st

import gateway
from gateway.core import frame
from tests.device.front_kit import LIMIT, FakeNode, turn_is_over
from tests.e2e.absent import lacking
from tests.patience import LONG_S

SOURCE = Path(gateway.__file__).parent / "transport" / "_outlet.c"
COMPILED, PURE = "gateway.transport._outlet", "gateway.transport.pure"

#: as in `gateway.transport.phase`, of which the one in C cannot know
HEAD, OPEN, CLOSING = -1, 0, 1
INDIRECT = -1


def walk(name: str) -> Any:
    try:
        return import_module(name)
    except ImportError:
        lacking(f"{name} has not been compiled: no C compiler, or no headers of Python, when the package was installed")


@pytest.fixture(params=[COMPILED, PURE], ids=["compiled", "pure"])
def kind(request: pytest.FixtureRequest) -> Any:
    return walk(request.param)


class Turn(list[Any]):
    """Counts its beginnings."""

    def __init__(self) -> None:
        self.begun = 0

    def begin(self) -> None:
        assert not self
        self.begun += 1


def outlet(kind: Any, turn: list[Any] | None = None, phase: int = OPEN, descriptor: int = INDIRECT) -> Any:
    made = kind.Outlet(Turn() if turn is None else turn)
    made._phase, made._descriptor = phase, descriptor
    return made


@contextmanager
def line(size: int | None = None) -> Iterator[tuple[socket.socket, socket.socket]]:
    """Open a socket that keeps as little as it can, and its other end."""
    near, far = socket.socketpair()
    with near, far:
        near.setblocking(False)
        far.setblocking(False)
        if size is not None:
            near.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, size)
        yield near, far


def arrived(far: socket.socket, most: int = 1 << 24) -> bytes:
    data = b""
    try:
        while len(data) < most and (piece := far.recv(min(65_536, most - len(data)))):
            data += piece
    except BlockingIOError:
        pass
    return data


def written(kind: Any, turn: Turn) -> list[Any]:
    """Write all of a turn; return those that are left to Python."""
    left = list(kind.write_some(turn, 0, len(turn)))
    turn.clear()
    return left


# -- offers ----------------------------------------------------------------------------------------------------------------


def test_an_outlet_begins_with_nothing(kind: Any) -> None:
    fresh = kind.Outlet(Turn())
    assert (fresh._phase, fresh._descriptor, fresh._pending, fresh._is_blocked) == (HEAD, INDIRECT, None, False)
    assert (fresh.sent_messages, fresh.sent_bytes, fresh.take()) == (0, 0, b"")


def test_what_waits_keeps_its_order_and_the_turn_begins_once(kind: Any) -> None:
    turn = Turn()
    one, two = outlet(kind, turn), outlet(kind, turn)
    for number in range(200):
        one.offer(b"%d," % number)
        two.queue(b"%d;" % number)
    assert turn == [one, two]
    assert turn.begun == 1
    assert one.take() == b"".join(b"%d," % number for number in range(200))
    assert two.take() == b"".join(b"%d;" % number for number in range(200))
    assert one._pending is None
    turn.clear()
    one.queue(b"anew")
    assert (turn, turn.begun) == ([one], 2)


@pytest.mark.parametrize("size", [0, 1, 125, 126, 65_535, 65_536])
def test_messages_and_their_payloads_are_counted(kind: Any, size: int) -> None:
    some = outlet(kind)
    some.offer(frame.wire(b"x" * size))
    some.offer_as(frame.wire(b"y" * size), b"shorter")
    some.queue(b"no message")
    assert (some.sent_messages, some.sent_bytes) == (2, 2 * size)
    assert some.take() == frame.wire(b"x" * size) + b"shorter" + b"no message"


@pytest.mark.parametrize("phase", [HEAD, CLOSING])
def test_who_is_not_open_drops_offers_and_still_sends_answers(kind: Any, phase: int) -> None:
    turn = Turn()
    some = outlet(kind, turn, phase)
    some.offer(b"\x81\x00")
    some.offer_as(b"\x81\x00", b"the same")
    kind.offer_all({"1.1": some}, b"\x81\x00", None)
    assert (turn, some.sent_messages) == ([], 0)
    some.queue(b"an answer")
    assert some.take() == b"an answer"


def test_all_but_one_are_offered_the_very_same_object(kind: Any) -> None:
    turn = Turn()
    some = {str(number): outlet(kind, turn) for number in range(100)}
    data = b"\x81\x05" + bytes(5)
    kind.offer_all(some, data, some["7"])
    kind.offer_all(some, data, None)
    assert len(turn) == 100
    assert turn.begun == 1
    assert some["7"].take() is data
    assert all(one.take() == data + data for name, one in some.items() if name != "7")


@pytest.mark.parametrize("wrap", [dict, MappingProxyType])
def test_whoever_offers_in_another_way_is_asked_to(kind: Any, wrap: Callable[[dict[str, Any]], Mapping[str, Any]]) -> None:
    class Loud(kind.Outlet):  # type: ignore[misc]
        def offer(self, data: bytes) -> None:
            self.offer_as(data, data.upper())

    class Same(kind.Outlet):  # type: ignore[misc]
        pass

    class Stranger:
        def __init__(self) -> None:
            self.offered: list[bytes] = []

        def offer(self, data: bytes) -> None:
            self.offered.append(data)

    turn = Turn()
    some: dict[str, Any] = {
        "a": outlet(kind, turn),
        "b": Loud(turn),
        "c": Same(turn),
        "d": Stranger(),
        "e": Stranger(),
        "f": Loud(turn),
    }
    for name in "bcf":
        some[name]._phase = OPEN
    kind.offer_all(wrap(some), b"__text", some["e"])
    assert [some[name].take() for name in "abcf"] == [b"__text", b"__TEXT", b"__text", b"__TEXT"]
    assert (some["d"].offered, some["e"].offered) == ([b"__text"], [])


def test_one_whose_class_changes_is_asked_from_then_on(kind: Any) -> None:
    class Plain(kind.Outlet):  # type: ignore[misc]
        __slots__ = ()

    class Loud(Plain):
        __slots__ = ()

        def offer(self, data: bytes) -> None:
            self.offer_as(data, data.upper())

    some = Plain(Turn())
    some._phase = OPEN
    kind.offer_all({"1.1": some}, b"__one", None)
    some.__class__ = Loud
    kind.offer_all({"1.1": some}, b"__two", None)
    assert some.take() == b"__one__TWO"


def test_a_subscriber_whose_offer_changes_who_subscribes_does_no_harm() -> None:
    kind = walk(COMPILED)
    turn = Turn()
    some: dict[str, Any] = {}

    class Wild(kind.Outlet):  # type: ignore[misc,name-defined]
        def offer(self, data: bytes) -> None:
            some.clear()
            some.update({str(number): outlet(kind, turn) for number in range(1000)})
            gc.collect()

    for number in range(50):
        some[str(number)] = Wild(turn) if number % 2 else outlet(kind, turn)
    before = list(some.values())
    kind.offer_all(some, b"__text", None)
    assert [one.take() for one in before] == [b"__text", b""] * 25


def test_a_turn_whose_beginning_changes_who_subscribes_does_no_harm(kind: Any) -> None:
    some: dict[str, Any] = {}

    class Wild(Turn):
        def begin(self) -> None:
            some["1"].queue(b"first") if not self.begun else None
            super().begin()
            some.clear()
            gc.collect()

    turn = Wild()
    turn.begun = 1
    some["1"] = outlet(kind, turn)
    one = some["1"]
    if kind.__name__ == COMPILED:
        kind.offer_all(some, b"__text", None)
    else:
        one.offer(b"__text")
    assert one.take() == b"__text"


def test_what_is_no_bytes_is_refused() -> None:
    kind = walk(COMPILED)
    some = outlet(kind)
    for wrong in (bytearray(b"__"), "__", None, 7):
        for call in (some.offer, some.queue):
            with pytest.raises(TypeError):
                call(wrong)
        with pytest.raises(TypeError):
            kind.offer_all({"1.1": some}, wrong, None)
    for call in (lambda: kind.write_some([object()], 0, 1), lambda: kind.offer_all(7, b"__", None), lambda: kind.Outlet(())):
        with pytest.raises((TypeError, AttributeError)):
            call()
    with pytest.raises(TypeError):
        kind.Outlet.__new__(kind.Outlet).queue(b"never made")
    assert (some.sent_messages, some.take()) == (0, b"")


def test_a_turn_that_cannot_begin_takes_nothing(kind: Any) -> None:
    class Broken(Turn):
        def begin(self) -> None:
            raise RuntimeError("the loop is closed")

    turn = Broken()
    some = outlet(kind, turn)
    with pytest.raises(RuntimeError, match="closed"):
        kind.offer_all({"1.1": some}, b"__text", None)
    assert (turn, some._pending) == ([], None)


# -- writing ---------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("pieces", [1, 2, 64, 65, 200])
def test_what_the_socket_takes_is_written_whole(kind: Any, pieces: int) -> None:
    turn = Turn()
    with line() as (near, far):
        some = outlet(kind, turn, descriptor=near.fileno())
        for number in range(pieces):
            some.offer(b"%d;" % number)
        assert written(kind, turn) == []
        assert some._pending is None
        assert arrived(far) == b"".join(b"%d;" % number for number in range(pieces))
        some.offer(b"")
        some.offer(b"behind nothing")
        assert written(kind, turn) == []
        assert arrived(far) == b"behind nothing"


@pytest.mark.parametrize("pieces", [1, 3, 70, 500])
def test_what_the_socket_does_not_take_is_left(kind: Any, pieces: int) -> None:
    turn = Turn()
    whole = random.Random(pieces).randbytes(1_000_000)
    with line(4096) as (near, far):
        some = outlet(kind, turn, descriptor=near.fileno())
        size = len(whole) // pieces
        for start in range(0, len(whole), size):
            some.queue(whole[start : start + size])
        assert written(kind, turn) == [some]
        seen = arrived(far)
        assert 0 < len(seen) < len(whole)
        assert not some.write_straight()
        seen += arrived(far)
        # More may come behind what is left.
        some.queue(b"the end")
        some.write_straight()
        seen += arrived(far)
        assert len(seen) < len(whole)
        assert seen + some.take() == whole + b"the end"
        assert some.take() == b""


def test_who_is_out_of_the_ordinary_is_left_to_python_and_the_others_are_not(kind: Any) -> None:
    turn = Turn()
    with line() as (near, far), line() as (dead, gone):
        gone.close()
        there = [outlet(kind, turn, descriptor=near.fileno()) for _ in range(3)]
        there[1]._phase = CLOSING
        there[2]._descriptor = INDIRECT
        reset, stale = outlet(kind, turn, descriptor=dead.fileno()), outlet(kind, turn, descriptor=1 << 20)
        dropped = outlet(kind, turn, descriptor=near.fileno())
        for some in (reset, *there, dropped, stale):
            some.queue(b"text")
        dropped.forget()
        assert written(kind, turn) == [reset, there[1], there[2], stale]
        assert arrived(far) == b"text"
        assert [some.take() for some in (reset, there[1], there[2], stale)] == [b"text"] * 4


def test_a_stretch_has_a_beginning_and_an_end(kind: Any) -> None:
    turn = Turn()
    with line() as (near, far):
        for number in range(10):
            outlet(kind, turn, descriptor=near.fileno()).queue(b"%d" % number)
        assert list(kind.write_some(turn, 3, 4)) == []
        assert arrived(far) == b"3456"
        assert list(kind.write_some(turn, 8, 100)) == []
        assert arrived(far) == b"89"
        assert list(kind.write_some(turn, 100, 100)) == []
        assert list(kind.write_some(turn, 0, 0)) == []
        assert list(kind.write_some(turn, 0, 100)) == []
        assert arrived(far) == b"0127"


# -- references ------------------------------------------------------------------------------------------------------------


def test_nothing_is_kept_and_nothing_is_let_go_twice(kind: Any) -> None:
    data, more = b"\x81\x10" + os.urandom(16), b"\x81\x14" + os.urandom(20)
    strange = type("Strange", (kind.Outlet,), {"offer": lambda self, data: self.offer_as(data, more)})
    turn = Turn()
    with line() as (near, far), line(4096) as (tight, _):

        def rounds(count: int) -> None:
            for number in range(count):
                some = {str(n): outlet(kind, turn, descriptor=(near if n % 2 else tight).fileno()) for n in range(6)}
                some["x"] = strange(turn)
                for one in some.values():
                    one._phase = OPEN
                kind.offer_all(some, data, some["3"])
                kind.offer_all(MappingProxyType(some), more, None)
                for _ in range(number % 7):
                    some["1"].queue(data)
                for one in written(kind, turn)[number % 2 :]:
                    one.take()
                some["2"].queue(more)
                if number % 3 == 0:
                    some["2"].forget()
                turn.clear()
                arrived(far)
                if number % 5 == 0:
                    with pytest.raises((TypeError, AttributeError)):
                        kind.offer_all(7, data, None)

        rounds(50)
        before = (sys.getrefcount(data), sys.getrefcount(more), sys.getrefcount(turn), sys.getrefcount(strange))
        tracemalloc.start()
        grown = []
        for _ in range(5):
            used = tracemalloc.get_traced_memory()[0]
            rounds(400)
            gc.collect()
            grown.append(tracemalloc.get_traced_memory()[0] - used)
        tracemalloc.stop()
        assert (sys.getrefcount(data), sys.getrefcount(more), sys.getrefcount(turn), sys.getrefcount(strange)) == before
        # What the interpreter keeps for later grows, but not for ever; the smallest object for each round would be 13 KB.
        assert min(grown) < 10_000, f"bytes more after 400 rounds, five times: {grown}"


def test_an_outlet_in_a_circle_is_collected(kind: Any) -> None:
    named = type("Named", (kind.Outlet,), {})
    turn = Turn()
    some = named(turn)
    some.queue(b"text")
    some.queue(b"and more")
    some.itself = some
    ghost = weakref.ref(some)
    del some, turn
    gc.collect()
    assert ghost() is None


# -- under a connection ----------------------------------------------------------------------------------------------------


@functools.cache
def transport(name: str) -> dict[str, ModuleType]:
    """Import the room anew upon one of the two walks, whichever the tests at large use."""
    walk(name)
    old = {key: sys.modules.pop(key) for key in list(sys.modules) if key.startswith("gateway.transport")}
    room = gateway.transport  # type: ignore[attr-defined]
    try:
        with pytest.MonkeyPatch.context() as patch:
            patch.delenv("GATEWAY_PURE_PYTHON", raising=False)
            if name == PURE:
                patch.setenv("GATEWAY_PURE_PYTHON", "1")
            made = {each: import_module(f"gateway.transport.{each}") for each in ("outlet", "commons", "connection")}
    finally:
        for key in [key for key in sys.modules if key.startswith("gateway.transport")]:
            del sys.modules[key]
        sys.modules.update(old)
        gateway.transport = room  # type: ignore[attr-defined]
    assert made["outlet"].IS_COMPILED is (name == COMPILED)
    return made


def test_the_one_in_python_is_taken_when_it_is_asked_for_and_where_there_is_no_other(monkeypatch: pytest.MonkeyPatch) -> None:
    assert transport(PURE)["outlet"].Outlet.__module__ == PURE
    monkeypatch.delenv("GATEWAY_PURE_PYTHON", raising=False)
    monkeypatch.setitem(sys.modules, COMPILED, None)
    monkeypatch.delitem(sys.modules, "gateway.transport.outlet")
    without = import_module("gateway.transport.outlet")
    assert (without.IS_COMPILED, without.Outlet.__module__) == (False, PURE)


class Ears:
    """The door and the peers of some connections; it knows what each peer is to hear."""

    def __init__(self, made: dict[str, ModuleType], sizes: list[int], stack: ExitStack) -> None:
        self.made = made
        self.node = FakeNode()
        self.commons = made["commons"].Commons(
            node=self.node,
            loop=asyncio.get_running_loop(),
            tick_s=1,
            activity_timeout_s=12,
            pong_timeout_s=3,
            request_timeout_s=10,
            close_timeout_s=5,
            buffer_limit=1 << 30,
        )
        self.lines = [stack.enter_context(line(size)) for size in sizes]
        self.connections: dict[str, Any] = {}
        self.due = [b"" for _ in sizes]
        self.heard = [b"" for _ in sizes]
        self.is_whole = [True for _ in sizes]

    async def open(self) -> None:
        for number, (near, _) in enumerate(self.lines):
            near = near.dup()
            _, connection = await asyncio.get_running_loop().connect_accepted_socket(
                lambda: self.made["connection"].Connection(self.commons, self), near
            )
            self.connections[str(number)] = connection
            connection.open(b"101;", type("Handshake", (), {"key": "key"})(), LIMIT, b"")
            self.due[number] += b"101;" + frame.wire(b"hello")

    def admits(self, transport: object) -> bool:
        return True

    def offer(self, text: bytes, left_out: int | None) -> None:
        data = frame.wire(text)
        self.made["outlet"].offer_all(self.connections, data, self.connections.get(str(left_out)))
        for number, connection in enumerate(self.connections.values()):
            if number != left_out and connection._phase == OPEN:
                self.due[number] += data

    def answer(self, number: int, text: bytes) -> None:
        connection = self.connections[str(number)]
        if connection._phase in (OPEN, CLOSING) and self.is_whole[number]:
            connection.queue(text)
            self.due[number] += text

    def close(self, number: int) -> None:
        connection = self.connections[str(number)]
        if connection._phase == OPEN:
            connection.close(4200, "away")
            self.due[number] += b"\x88\x06\x10\x68away"

    def abort(self, number: int) -> None:
        self.is_whole[number] = False
        self.connections[str(number)].abort()

    def hang_up(self, number: int) -> None:
        self.is_whole[number] = False
        self.lines[number][1].close()

    def hear(self, number: int, most: int) -> None:
        far = self.lines[number][1]
        if far.fileno() >= 0:
            self.heard[number] += arrived(far, most)

    async def end(self) -> None:
        """Hear out those that are whole, and see that no more waits; then let everybody go."""
        for number in range(len(self.lines)):
            # What is lost never comes; counted in turns, for what is found is found again many times until it is small.
            turns = 1_000
            while self.is_whole[number] and turns and len(self.heard[number]) < len(self.due[number]):
                await asyncio.sleep(0)
                self.hear(number, 1 << 20)
                turns -= 1
        await turn_is_over()
        for number in range(len(self.lines)):
            self.hear(number, 1 << 20)
        for connection in self.connections.values():
            connection.abort()
        if self.commons.wheel:
            self.commons.gone = asyncio.Event()
            await self.commons.gone.wait()


STEPS = st.one_of(
    st.tuples(st.just("offer"), st.integers(0, 40_000), st.none() | st.integers(0, 3)),
    st.tuples(st.just("offer"), st.integers(0, 200), st.none() | st.integers(0, 3)),
    st.tuples(st.just("turn")),
    st.tuples(st.just("turn")),
    st.tuples(st.just("hear"), st.integers(0, 3), st.integers(1, 100_000)),
    st.tuples(st.just("answer"), st.integers(0, 3), st.binary(min_size=1, max_size=20)),
    st.tuples(st.just("close"), st.integers(0, 3)),
    st.tuples(st.just("abort"), st.integers(0, 3)),
    st.tuples(st.just("hang_up"), st.integers(0, 3)),
)


@pytest.mark.parametrize("loop_factory", [uvloop.new_event_loop, asyncio.new_event_loop], ids=["uvloop", "asyncio"])
@given(st.lists(STEPS, max_size=60), st.lists(st.sampled_from([2_048, 8_192, 200_000]), min_size=4, max_size=4))
def test_whatever_happens_everybody_hears_what_is_for_him_in_order(
    loop_factory: Callable[[], asyncio.AbstractEventLoop], steps: list[tuple[Any, ...]], sizes: list[int]
) -> None:
    async def heard(name: str) -> list[bytes]:
        async with asyncio.timeout(LONG_S):
            with ExitStack() as stack:
                return await whole(Ears(transport(name), sizes, stack))

    async def whole(ears: Ears) -> list[bytes]:
        await ears.open()
        for number, (what, *how) in enumerate(steps):
            if what == "offer":
                ears.offer(bytes([65 + number % 26]) * how[0], how[1])
            elif what == "turn":
                await turn_is_over()
            else:
                getattr(ears, what)(*how)
        await ears.end()
        for due, said, is_whole in zip(ears.due, ears.heard, ears.is_whole, strict=True):
            assert said == due if is_whole else due.startswith(said)
        return [said for said, is_whole in zip(ears.heard, ears.is_whole, strict=True) if is_whole]

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        assert runner.run(heard(COMPILED)) == runner.run(heard(PURE))


@pytest.mark.parametrize("name", [COMPILED, PURE], ids=["compiled", "pure"])
@pytest.mark.parametrize("loop_factory", [uvloop.new_event_loop, asyncio.new_event_loop], ids=["uvloop", "asyncio"])
def test_the_way_is_straight_only_while_nothing_waits_and_nothing_ends(
    loop_factory: Callable[[], asyncio.AbstractEventLoop], name: str
) -> None:
    async def run() -> None:
        async with asyncio.timeout(LONG_S):
            with ExitStack() as stack:
                ears = Ears(transport(name), [4_096, 4_096], stack)
                await ears.open()
                await turn_is_over()
                slow, other = ears.connections.values()
                assert min(slow._descriptor, other._descriptor) >= 0
                ears.offer(b"x" * 100_000, 1)
                await turn_is_over()
                assert slow._descriptor == INDIRECT
                assert slow.transport.get_write_buffer_size() > 0
                # Now the socket takes more, but the transport has not written what it keeps.
                ears.hear(0, 1 << 20)
                ears.offer(b"not to overtake", None)
                await turn_is_over()
                while slow.transport.get_write_buffer_size():
                    ears.hear(0, 1 << 20)
                    await turn_is_over()
                ears.offer(b"again", None)
                await turn_is_over()
                assert slow._descriptor >= 0
                ears.close(0)
                ears.abort(1)
                assert other._descriptor < INDIRECT
                slow.eof_received()
                assert slow._descriptor < INDIRECT
                await ears.end()
                assert slow._descriptor < INDIRECT
                assert ears.heard[0] == ears.due[0]

    with asyncio.Runner(loop_factory=loop_factory) as runner:
        runner.run(run())


# -- the source ------------------------------------------------------------------------------------------------------------


def test_the_source_compiles_without_a_warning(tmp_path: Path) -> None:
    include = sysconfig.get_paths()["include"]
    if (cc := shutil.which("cc")) is None or not Path(include, "Python.h").exists():
        lacking("no C compiler, or no headers of Python")
    command = [cc, "-std=c11", "-D_GNU_SOURCE", "-O2", "-Wall", "-Wextra", "-Werror", "-fPIC", "-shared", f"-I{include}"]
    subprocess.run([*command, "-o", str(tmp_path / "outlet.so"), str(SOURCE)], check=True)
