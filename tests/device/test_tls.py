"""The certificate while it is renewed: who is in stays, who comes gets the new one, and a broken pair changes nothing."""

from __future__ import annotations

import asyncio
import logging
import os
import socket
import ssl
from collections.abc import AsyncIterator, Iterator
from contextlib import asynccontextmanager, contextmanager
from datetime import UTC, datetime
from pathlib import Path

import pytest

from gateway.config import check_pair, expiry
from gateway.transport import tls
from gateway.transport.tls import Certificate
from tests.certificate import anybody, serial_of, write_pair
from tests.device.front_kit import GREETING, TEXT, House, Peer, house, on_both_loops, request
from tests.patience import LONG_S


class Notes(list[tuple[int, str, dict[str, object]]]):
    """What is logged, instead of a log."""

    certificate_expires_at: float | None = None

    def note(self, level: int, sentence: str, **fields: object) -> None:
        self.append((level, sentence, fields))

    def why(self) -> list[str]:
        return [str(fields["why"]) for _, _, fields in self if "why" in fields]


def check(cert: str, key: str) -> list[str]:
    return [sentence for _, sentence in check_pair(cert, key, datetime.now(UTC))]


def certificate(cert: Path, key: Path, notes: Notes | None = None) -> Certificate:
    return Certificate(str(cert), str(key), check=check, expiry=expiry, telemetry=Notes() if notes is None else notes)  # type: ignore[arg-type]


async def shown(home: House) -> int:
    """Connect anew, and return the number of the certificate shown."""
    peer, _ = await home.join(tls=anybody())
    return serial_of(peer.writer.get_extra_info("ssl_object"))


async def stays(home: House, peer: Peer) -> None:
    peer.send(TEXT, "still here")
    assert (await home.node.received.get())[1] == "still here"


@on_both_loops
async def test_new_handshakes_get_the_new_one_and_who_is_in_stays(tmp_path: Path) -> None:
    cert, key, first = write_pair(tmp_path)
    served = certificate(cert, key)
    async with house(tls=served.context) as home:
        assert await shown(home) == first
        peer, _ = await home.join(tls=anybody())
        for _ in range(2):
            *_, serial = write_pair(tmp_path)
            assert served.renew(str(cert), str(key))
            assert await shown(home) == serial
        await stays(home, peer)
        assert serial_of(peer.writer.get_extra_info("ssl_object")) == first


@on_both_loops
async def test_from_other_files_without_a_server_name_and_with_a_wrong_one(tmp_path: Path) -> None:
    served = certificate(*write_pair(tmp_path)[:2])
    cert, key, serial = write_pair(tmp_path, "other")
    async with house(tls=served.context) as home:
        assert served.renew(str(cert), str(key))
        for name in ("", "nobody.example"):
            _, writer = await asyncio.open_connection("127.0.0.1", home.port, ssl=anybody(), server_hostname=name)
            assert serial_of(writer.get_extra_info("ssl_object")) == serial
            writer.transport.abort()


BROKEN = {
    "another key": lambda cert, key: write_pair(key.parent, "new")[1].replace(key),
    "another certificate": lambda cert, key: write_pair(key.parent, "new")[0].replace(cert),
    "empty": lambda cert, key: cert.write_text(""),
    "half": lambda cert, key: cert.write_text(cert.read_text()[:200]),
    "gone": lambda cert, key: key.unlink(),
    "expired": lambda cert, key: write_pair(cert.parent, days=-1),
}


@pytest.mark.parametrize("damage", BROKEN.values(), ids=BROKEN)
@on_both_loops
async def test_a_broken_pair_changes_nothing_and_the_log_says_why(damage: object, tmp_path: Path) -> None:
    cert, key, first = write_pair(tmp_path)
    notes = Notes()
    served = certificate(cert, key, notes)
    async with house(tls=served.context) as home:
        peer, _ = await home.join(tls=anybody())
        damage(cert, key)  # type: ignore[operator]
        assert not served.renew(str(cert), str(key))
        assert await shown(home) == first
        [why] = notes.why()
        assert str(cert) in why or str(key) in why
        *_, second = write_pair(tmp_path)
        assert served.renew(str(cert), str(key))
        assert await shown(home) == second
        await stays(home, peer)


def test_files_that_change_between_the_check_and_the_reading_change_nothing(tmp_path: Path) -> None:
    cert, key, _ = write_pair(tmp_path)
    notes = Notes()
    served = Certificate(str(cert), str(key), check=lambda *_: [], expiry=expiry, telemetry=notes)  # type: ignore[arg-type]
    key.write_text("half-written")
    assert not served.renew(str(cert), str(key))
    assert len(notes.why()) == 1


# -- by itself -------------------------------------------------------------------------------------------------------------


@contextmanager
def looked_at(folder: Path) -> Iterator[tuple[Certificate, Notes, Path, Path]]:
    cert, key, _ = write_pair(folder)
    notes = Notes()
    served = certificate(cert, key, notes)
    notes.clear()
    yield served, notes, cert, key


def test_a_change_is_taken_over_when_it_has_come_to_rest(tmp_path: Path) -> None:
    with looked_at(tmp_path) as (served, notes, cert, key):
        served.look()
        served.look()
        assert notes == []
        new_cert, new_key, _ = write_pair(tmp_path, "new")
        new_cert.replace(cert)
        served.look()  # only half of the pair has been replaced yet
        new_key.replace(key)
        served.look()
        assert notes == []
        served.look()
        assert [sentence for _, sentence, _ in notes] == ["serving a certificate"]
        served.look()
        served.look()
        assert len(notes) == 1


def test_a_pair_that_stays_broken_is_complained_about_once_and_its_repair_is_seen(tmp_path: Path) -> None:
    with looked_at(tmp_path) as (served, notes, cert, key):
        held = key.read_text()
        key.unlink()
        for _ in range(5):
            served.look()
        assert len(notes.why()) == 1
        key.write_text(held)
        served.look()
        served.look()
        assert notes[-1][1] == "serving a certificate"
        cert.write_text("another mistake")
        served.look()
        served.look()
        assert len(notes.why()) == 2


def test_a_link_that_is_bent_to_another_folder_is_seen(tmp_path: Path) -> None:
    for name in ("1", "2"):
        (tmp_path / name).mkdir()
        write_pair(tmp_path / name)
    live = tmp_path / "live"
    live.symlink_to("1")
    served = certificate(live / "server.pem", live / "server.key")
    before = served._current
    (tmp_path / "next").symlink_to("2")
    os.replace(tmp_path / "next", live)
    served.look()
    served.look()
    assert served._current is not before


@on_both_loops
async def test_it_is_looked_at_until_it_is_stopped(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(tls, "LOOK_S", 0.005)
    cert, key, _ = write_pair(tmp_path)
    changed = asyncio.Event()
    notes = Notes()
    served = certificate(cert, key, notes)
    monkeypatch.setattr(notes, "note", lambda *_, **__: changed.set())
    served.watch()
    write_pair(tmp_path)
    await changed.wait()
    served.stop()
    served.stop()
    assert served._timer is None


@pytest.mark.parametrize(("days", "level"), [(6, logging.WARNING), (8, logging.INFO)])
def test_a_certificate_that_ends_soon_is_a_warning(days: int, level: int, tmp_path: Path) -> None:
    notes = Notes()
    certificate(*write_pair(tmp_path, days=days)[:2], notes)
    [(noted, _, fields)] = notes
    assert noted == level
    assert notes.certificate_expires_at is not None
    end = datetime.fromtimestamp(notes.certificate_expires_at, UTC)
    assert fields["expires"] == f"{end:%Y-%m-%dT%H:%M:%SZ}"
    assert abs((end - datetime.now(UTC)).total_seconds() - days * 86_400) < 60


# -- handshakes of all kinds -----------------------------------------------------------------------------------------------


@asynccontextmanager
async def renewed(folder: Path) -> AsyncIterator[tuple[House, int]]:
    cert, key, _ = write_pair(folder)
    served = certificate(cert, key)
    async with house(tls=served.context) as home:
        *_, serial = write_pair(folder)
        assert served.renew(str(cert), str(key))
        yield home, serial


@on_both_loops
async def test_old_versions_are_refused_and_others_not_disturbed(tmp_path: Path) -> None:
    old = anybody()
    with pytest.warns(DeprecationWarning, match="TLS"):
        old.minimum_version, old.maximum_version = ssl.TLSVersion.TLSv1, ssl.TLSVersion.TLSv1_1
    old.set_ciphers("ALL:@SECLEVEL=0")
    async with renewed(tmp_path) as (home, serial):
        with pytest.raises((ssl.SSLError, ConnectionError)):
            await asyncio.open_connection("127.0.0.1", home.port, ssl=old, server_hostname="localhost")
        assert await shown(home) == serial


def greeted(port: int, client: ssl.SSLContext, session: ssl.SSLSession | None) -> tuple[ssl.SSLSession | None, bool | None]:
    """Connect as a client that blocks, up to the greeting; return its session, and whether that is the one it came with."""
    with (
        socket.create_connection(("127.0.0.1", port), timeout=LONG_S) as raw,
        client.wrap_socket(raw, server_hostname="localhost", session=session) as line,
    ):
        line.sendall(request())
        said = b""
        while not said.endswith(GREETING.encode()):
            said += line.recv(4096)
        return line.session, line.session_reused


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
@on_both_loops
async def test_a_session_from_before_the_renewal_is_resumed(version: ssl.TLSVersion, tmp_path: Path) -> None:
    cert, key, _ = write_pair(tmp_path)
    served = certificate(cert, key)
    client = anybody()
    client.minimum_version = client.maximum_version = version
    async with house(tls=served.context) as home:
        session, reused = await asyncio.to_thread(greeted, home.port, client, None)
        assert not reused
        write_pair(tmp_path)
        assert served.renew(str(cert), str(key))
        _, reused = await asyncio.to_thread(greeted, home.port, client, session)
        assert reused


@pytest.mark.parametrize(("offered", "chosen"), [(["h2"], None), (["h2", "http/1.1"], "http/1.1"), ([], None)])
@on_both_loops
async def test_protocols_that_are_offered(offered: list[str], chosen: str | None, tmp_path: Path) -> None:
    client = anybody()
    if offered:
        client.set_alpn_protocols(offered)
    async with renewed(tmp_path) as (home, _):
        peer, _ = await home.join(tls=client)
        assert peer.writer.get_extra_info("ssl_object").selected_alpn_protocol() == chosen


@on_both_loops
async def test_plain_http_and_half_a_hello_on_the_tls_port(tmp_path: Path, caplog: pytest.LogCaptureFixture) -> None:
    async with renewed(tmp_path) as (home, serial):
        for said in (b"", b"\x16\x03\x01\x02", b"GET / HTTP/1.1\r\n\r\n", b"\xff" * 300):
            peer = await home.dial()
            peer.writer.write(said)
            peer.writer.write_eof()
            await peer.rest()
        assert await shown(home) == serial
    assert caplog.records == []
