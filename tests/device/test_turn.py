"""What is offered within a turn, and with the look at the sockets behind it, is written at once."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import Callable

import pytest
import uvloop

from gateway.transport.outlet import Outlet
from gateway.transport.turn import Turn


class Noted(Outlet):
    """Notes what it was to write."""

    def __init__(self, turn: Turn, written: list[bytes]) -> None:
        super().__init__(turn)
        self._written = written

    def write_out(self) -> None:
        self._written.append(self.take())


@pytest.mark.parametrize("new_loop", [asyncio.new_event_loop, uvloop.new_event_loop])
def test_a_publish_that_came_while_the_first_was_worked_off_is_written_with_it(
    new_loop: Callable[[], asyncio.AbstractEventLoop],
) -> None:
    async def run() -> list[bytes]:
        loop = asyncio.get_running_loop()
        done = asyncio.Event()
        written: list[bytes] = []
        outlet = Noted(Turn(loop, done.set), written)
        (first, to_first), (second, to_second) = socket.socketpair(), socket.socketpair()

        def take_first() -> None:
            outlet.queue(first.recv(1))
            to_second.send(b"2")

        def take_second() -> None:
            outlet.queue(second.recv(1))

        with first, to_first, second, to_second:
            loop.add_reader(first, take_first)
            loop.add_reader(second, take_second)
            to_first.send(b"1")
            await done.wait()
            loop.remove_reader(first)
            loop.remove_reader(second)
        return written

    with asyncio.Runner(loop_factory=new_loop) as runner:
        assert runner.run(run()) == [b"12"]
