"""Places to listen: both families, Unix sockets with their files, and the bound of descriptors; on both loops."""

from __future__ import annotations

import asyncio
import os
import socket
import stat
from pathlib import Path

import pytest

from gateway.transport.place import UnixPlace, tcp_sockets
from tests.device.front_kit import GREETING, Peer, house, on_both_loops, request


def has_ipv6() -> bool:
    try:
        with socket.socket(socket.AF_INET6) as probe:
            probe.bind(("::1", 0))
    except OSError:
        return False
    return True


needs_ipv6 = pytest.mark.skipif(not has_ipv6(), reason="this machine has no IPv6")


async def address_told(peer: Peer, home: object, **fields: str | None) -> str:
    home.peers.append(peer)  # type: ignore[attr-defined]
    peer.writer.write(request(**fields))
    assert (await peer.head()).startswith(b"HTTP/1.1 101 ")
    assert await peer.text() == GREETING
    remote: str = home.node.lives[-1].handshake.remote_ip  # type: ignore[attr-defined]
    return remote


# -- TCP -------------------------------------------------------------------------------------------------------------------


@needs_ipv6
@on_both_loops
async def test_all_addresses_of_both_families() -> None:
    async with house() as home:
        port = await home.front.listen("::", 0)
        for host in ("127.0.0.1", "::1"):
            assert await address_told(Peer(*await asyncio.open_connection(host, port)), home) == host


@needs_ipv6
@on_both_loops
async def test_one_address_of_ipv6_is_that_one() -> None:
    async with house() as home:
        port = await home.front.listen("::1", 0)
        assert await address_told(Peer(*await asyncio.open_connection("::1", port)), home) == "::1"
        with pytest.raises(ConnectionRefusedError):
            await asyncio.open_connection("127.0.0.1", port)


def test_a_name_with_several_addresses_has_one_port() -> None:
    sockets = tcp_sockets("localhost", 0)
    try:
        assert len({one.getsockname()[1] for one in sockets}) == 1
        assert "127.0.0.1" in {one.getsockname()[0] for one in sockets}
    finally:
        for one in sockets:
            one.close()


def test_a_port_that_is_taken_is_named() -> None:
    [taken] = tcp_sockets("127.0.0.1", 0)
    with taken, pytest.raises(OSError, match=r"cannot listen on 127\.0\.0\.1 port \d+: Address already in use"):
        tcp_sockets("127.0.0.1", taken.getsockname()[1])


# -- Unix ------------------------------------------------------------------------------------------------------------------


@on_both_loops
async def test_whoever_may_connect_to_a_unix_socket_is_a_trusted_proxy(tmp_path: Path) -> None:
    path = tmp_path / "rawpush.sock"
    async with house() as home:
        await home.front.listen_unix(str(path), 0o620)
        assert stat.S_IMODE(path.stat().st_mode) == 0o620
        told = [
            await address_told(Peer(*await asyncio.open_unix_connection(path)), home, **fields)
            for fields in (
                {},
                {"X_Forwarded_For": "6.6.6.6, 203.0.113.9", "X_Forwarded_Proto": "https"},
                {"X_Forwarded_For": "?"},
            )
        ]
        assert told == ["unix", "203.0.113.9", "unix"]
        assert [live.handshake.is_secure for live in home.node.lives] == [False, True, False]
        assert {live.connection.peer for live in home.node.lives} == {""}
        home.front.stop_listening()
        assert not path.exists()
    assert not path.exists()


def test_a_file_that_nobody_listens_on_is_replaced(tmp_path: Path) -> None:
    path = tmp_path / "s"
    with socket.socket(socket.AF_UNIX) as killed:
        killed.bind(str(path))
    assert path.exists()
    place = UnixPlace(str(path), 0o600)
    with place.socket, socket.socket(socket.AF_UNIX) as client:
        client.connect(str(path))
    place.remove()
    assert not path.exists()


def test_a_file_that_somebody_listens_on_stays(tmp_path: Path) -> None:
    first = UnixPlace(str(tmp_path / "s"), 0o600)
    with first.socket, pytest.raises(OSError, match=r"somebody listens on .* already"):
        UnixPlace(str(tmp_path / "s"), 0o600)
    assert (tmp_path / "s").exists()


def test_another_kind_of_file_stays(tmp_path: Path) -> None:
    path = tmp_path / "s"
    path.write_text("precious")
    with pytest.raises(OSError, match="is there, and is no socket"):
        UnixPlace(str(path), 0o600)
    assert path.read_text() == "precious"


def test_a_file_of_a_successor_is_not_removed(tmp_path: Path) -> None:
    path = tmp_path / "s"
    first = UnixPlace(str(path), 0o600)
    first.socket.close()
    os.rename(path, tmp_path / "old")
    second = UnixPlace(str(path), 0o600)
    first.remove()
    with second.socket:
        assert path.exists()


def test_a_place_that_cannot_be_had_is_named(tmp_path: Path) -> None:
    with pytest.raises(OSError, match=r"cannot listen on .*none/s: No such file"):
        UnixPlace(str(tmp_path / "none" / "s"), 0o600)


# -- descriptors -----------------------------------------------------------------------------------------------------------


@on_both_loops
async def test_newcomers_are_turned_away_when_descriptors_run_out_and_let_in_again(caplog: pytest.LogCaptureFixture) -> None:
    async with house() as home:
        first, live = await home.join()
        # The lowest free number is what the next one gets; both ends of a connection are in this process.
        with socket.socket() as probe:
            home.front.ceiling = probe.fileno()
        for _ in range(3):
            assert await (await home.dial()).rest() == b""
        assert len([record for record in caplog.records if "newcomers are turned away" in record.message]) == 1
        assert home.front._telemetry.turned_away == 3
        home.node.offer(live, "still here")
        assert await first.text() == "still here"
        home.front.ceiling += 100
        await home.join()
