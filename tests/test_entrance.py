"""What [server] says, and what of it is listened on."""

from __future__ import annotations

import asyncio
import dataclasses
from pathlib import Path
from typing import Any

import pytest

from gateway.clock import SystemClock
from gateway.config import Server, Tls
from gateway.entrance import Entrance
from gateway.telemetry import Telemetry
from gateway.transport.place import tcp_sockets
from tests.certificate import anybody, write_pair
from tests.device.front_kit import FakeNode

PLAIN = Server(port=0)


def entrance(server: Server, telemetry: Telemetry | None = None) -> Entrance:
    def no_http() -> Any:
        raise AssertionError("nobody asks for anything")

    node: Any = FakeNode()
    return Entrance(server, node=node, clock=SystemClock(), http=no_http, telemetry=telemetry or Telemetry())


def tls(folder: Path, stem: str = "server") -> Tls:
    cert, key, _ = write_pair(folder, stem)
    return Tls(str(cert), str(key))


async def answered(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    writer.write(b"nonsense\r\n")
    assert (await reader.readline()).startswith(b"HTTP/1.1 400 ")
    await reader.read()
    writer.transport.abort()


async def reached(port: int, **how: Any) -> None:
    await answered(*await asyncio.open_connection("127.0.0.1", port, **how))


async def test_it_opens_what_the_file_says_and_closes_all_of_it(tmp_path: Path) -> None:
    path = tmp_path / "s"
    one = entrance(dataclasses.replace(PLAIN, unix_socket=str(path), tls=tls(tmp_path)))
    port = await one.open()
    await reached(port, ssl=anybody(), server_hostname="localhost")
    await answered(*await asyncio.open_unix_connection(path))
    await one.close()
    await one.close()
    assert not path.exists()
    with pytest.raises(ConnectionRefusedError):
        await reached(port)


async def test_sockets_that_were_inherited_stand_for_host_and_port() -> None:
    sockets = [tcp_sockets("127.0.0.1", 0)[0] for _ in range(2)]
    ports = [one.getsockname()[1] for one in sockets]
    one = entrance(dataclasses.replace(PLAIN, host="203.0.113.1"))
    assert await one.open(sockets) == ports[-1]
    for port in ports:
        await reached(port)
    await one.close()


async def test_a_certificate_can_be_exchanged_but_tls_not_taken_up_or_given_up(tmp_path: Path) -> None:
    telemetry = Telemetry()
    plain, secure = entrance(PLAIN), entrance(dataclasses.replace(PLAIN, tls=tls(tmp_path)), telemetry)
    assert plain.renew(None)
    assert not plain.renew(tls(tmp_path, "other"))
    before = telemetry.certificate_expires_at
    assert before is not None
    cert, key, _ = write_pair(tmp_path, "longer", days=365)
    assert secure.renew(Tls(str(cert), str(key)))
    assert telemetry.certificate_expires_at is not None
    assert telemetry.certificate_expires_at > before
    # One that does not fit, and none at all: both wait, and what is served stays.
    assert not secure.renew(Tls(str(cert), str(tmp_path / "other.key")))
    assert not secure.renew(None)
    await plain.close()
    await secure.close()


async def test_a_certificate_that_cannot_be_used_is_an_error_at_the_start(tmp_path: Path) -> None:
    with pytest.raises(OSError):
        entrance(dataclasses.replace(PLAIN, tls=Tls(str(tmp_path / "none"), str(tmp_path / "none"))))
