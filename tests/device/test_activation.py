"""Sockets that were handed over: taken if they were meant for this process and are what they should be."""

from __future__ import annotations

import os
import socket
from collections.abc import Iterator

import pytest

from gateway.transport.activation import inherited
from tests.device.front_kit import GREETING, house, on_both_loops

PID = 4711
#: nobody has so many descriptors
FIRST = 900


def hand_over(*sockets: socket.socket) -> dict[str, str]:
    """Give the sockets numbers as systemd would, and return the environment that says so."""
    for number, one in enumerate(sockets):
        os.dup2(one.fileno(), FIRST + number)
        one.close()
    return {"LISTEN_PID": str(PID), "LISTEN_FDS": str(len(sockets))}


@pytest.fixture
def listening() -> Iterator[list[socket.socket]]:
    sockets = [socket.create_server(("127.0.0.1", 0)), socket.create_server(("::1", 0), family=socket.AF_INET6)]
    yield sockets
    for one in sockets:
        one.close()


def test_what_is_for_this_process_is_taken(listening: list[socket.socket]) -> None:
    names = [one.getsockname() for one in listening]
    taken = inherited(hand_over(*listening), PID, FIRST)
    assert [one.getsockname() for one in taken] == names
    assert not any(one.get_inheritable() for one in taken)
    for one in taken:
        one.close()


@pytest.mark.parametrize(
    "environ",
    [{}, {"LISTEN_FDS": "1"}, {"LISTEN_PID": "4712", "LISTEN_FDS": "1"}, {"LISTEN_PID": "4711"}]
    + [{"LISTEN_PID": "4711", "LISTEN_FDS": text} for text in ("", "0", "-1", "one")],
)
def test_what_is_not_is_left_alone(environ: dict[str, str]) -> None:
    assert inherited(environ, PID, FIRST) == []


@pytest.mark.parametrize(
    ("family", "kind"),
    [(socket.AF_INET, socket.SOCK_STREAM), (socket.AF_INET, socket.SOCK_DGRAM), (socket.AF_UNIX, socket.SOCK_STREAM)],
    ids=["not listening", "UDP", "a path"],
)
def test_what_is_no_listening_tcp_socket_is_named(family: socket.AddressFamily, kind: socket.SocketKind) -> None:
    environ = hand_over(socket.socket(family, kind))
    with pytest.raises(OSError, match=f"descriptor {FIRST} is no listening TCP socket"):
        inherited(environ, PID, FIRST)
    with pytest.raises(OSError, match="Bad file descriptor"):
        os.fstat(FIRST)


def test_what_is_no_socket_at_all_is_an_error() -> None:
    with pytest.raises(OSError, match="Bad file descriptor"):
        inherited({"LISTEN_PID": str(PID), "LISTEN_FDS": "1"}, PID, FIRST)


@on_both_loops
async def test_the_queue_outlives_who_listens() -> None:
    original = socket.create_server(("127.0.0.1", 0))
    port = original.getsockname()[1]
    async with house() as home:
        assert await home.front.listen("not used", 1, inherited=original.dup()) == port
        home.port = port
        _, first = await home.join()
        home.front.stop_listening()
        # Nobody takes this one now, and nobody turns it away.
        waiting = await home.dial()
        async with house() as next_home:
            await next_home.front.listen("not used", 1, inherited=original.dup())
            assert (await waiting.upgrade()).startswith(b"HTTP/1.1 101 ")
            assert await waiting.text() == GREETING
            assert len(next_home.node.lives) == 1
        assert home.node.lives == [first]
    original.close()
