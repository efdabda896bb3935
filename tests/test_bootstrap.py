"""The composition root: what changes hands at a reload and at a start, also when the outbox fails in between."""

from __future__ import annotations

import asyncio
import socket
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from dataclasses import replace
from functools import partial
from pathlib import Path

import pytest

from gateway.bootstrap import Gateway
from gateway.config import Admin, AppEntry, Config, Log, Server, Tls
from gateway.core.app import App
from gateway.core.delivery import Outcome, Stage, State
from gateway.core.endpoint import Endpoint
from gateway.core.error import RequestError
from gateway.core.lifecycle import Span, SpanOpened
from gateway.core.publication import Publication
from gateway.core.webhook import request
from gateway.outbox.sqlite import SqliteOutbox
from gateway.ports import Commit
from gateway.recorder import Recorder
from tests.certificate import anybody, serial_of, write_pair
from tests.patience import LONG_S

STAYS, GOES = App("1", "key-1", "s"), App("2", "key-2", "s")

#: nobody listens there, so that everything due stays due
NOBODY = "http://127.0.0.1:9/"


def entry(app: App, *endpoints: str) -> AppEntry:
    return AppEntry(app, tuple(Endpoint(app.id, name, NOBODY, ("a secret",), concurrency=1) for name in endpoints))


def configuration(folder: Path, *apps: AppEntry) -> Config:
    return Config(
        server=Server(port=0, node="gw-1", state_dir=str(folder), drain_s=0.0, shutdown_timeout_s=1.0),
        admin=Admin(port=0),
        apps=apps,
    )


@asynccontextmanager
async def running(config: Config) -> AsyncIterator[Gateway]:
    gateway = Gateway(config)
    await gateway.start()
    try:
        yield gateway
    finally:
        await gateway.stop()


async def test_the_admin_port_is_known_and_goes_with_the_gateway(tmp_path: Path) -> None:
    async with running(configuration(tmp_path, entry(STAYS))) as gateway:
        port = gateway.admin_port
        assert port not in (0, gateway.port)
        _, writer = await asyncio.open_connection("127.0.0.1", port)
        writer.close()
    with pytest.raises(ConnectionRefusedError):
        await asyncio.open_connection("127.0.0.1", port)


async def test_a_gateway_without_one(tmp_path: Path) -> None:
    async with running(replace(configuration(tmp_path, entry(STAYS)), admin=Admin(enabled=False))) as gateway:
        assert gateway.admin_port == 0


async def test_a_gateway_whose_admin_port_is_taken_does_not_start(tmp_path: Path) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        gateway = Gateway(replace(configuration(tmp_path, entry(STAYS)), admin=Admin(port=port)))
        with pytest.raises(OSError, match=f"the admin port 127.0.0.1:{port} cannot be opened"):
            await gateway.start()
    assert gateway.port == 0
    async with running(configuration(tmp_path, entry(STAYS))):
        pass  # the first one let go of the store


async def test_a_changed_section_waits_for_the_next_start(tmp_path: Path) -> None:
    before = configuration(tmp_path, entry(STAYS))
    after = replace(before, admin=Admin(port=0, token="new"), log=Log(level="debug"), apps=(entry(STAYS), entry(GOES)))
    gateway = Gateway(before, load=lambda: after)
    await gateway.start()
    answer = await gateway.reloader.reload()
    assert answer == (200, {"reloaded": True, "apps": 2, "endpoints": 0, "at_next_start": ["admin", "log"]})
    await gateway.stop()
    with pytest.raises(RequestError, match="does not run"):
        await gateway.reloader.reload()


async def publish(gateway: Gateway, app: App = STAYS) -> None:
    assert gateway.node is not None
    written = gateway.node.publish([Publication(app.id, "e", ("orders",), "x")])
    if written is not None:
        await written


async def due(gateway: Gateway, key: str) -> int:
    return (await gateway._outbox.backlog(key)).count


async def dead(gateway: Gateway, key: str) -> list[str]:
    return [letter.settlement.reason for letter in await gateway._outbox.dead_letters(key)]


async def test_books_that_take_longer_to_close_than_a_write_may_take_are_closed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configuration(tmp_path, entry(STAYS, "kept"))
    async with running(config) as gateway:
        lost = [SpanOpened(Span("1", "connection", f"{number}.1", f"spn_{number}", number)) for number in range(10_000)]
        await gateway._outbox.append(Commit(tuple(lost)))
    append, took_s = SqliteOutbox.append, 0.0

    async def slowly(outbox: SqliteOutbox, commit: Commit) -> None:
        nonlocal took_s
        took_s += 0.15
        await asyncio.sleep(0.15)
        await append(outbox, commit)

    monkeypatch.setattr(SqliteOutbox, "append", slowly)
    monkeypatch.setattr("gateway.bootstrap.Recorder", partial(Recorder, patience_s=1.0))
    async with running(config) as gateway:
        assert took_s > 1.0
        assert await due(gateway, "1/kept") == len(lost)
    monkeypatch.undo()
    async with running(config) as gateway:
        assert await due(gateway, "1/kept") == len(lost), "they were closed again"


async def test_nothing_is_sent_before_the_books_are_closed_but_the_operator_is_answered(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = configuration(tmp_path, entry(STAYS, "kept"))
    async with running(config) as gateway:
        await publish(gateway)
        await gateway._outbox.append(Commit((SpanOpened(Span("1", "connection", "1.1", "spn_1", 1)),)))
    append, is_closing, go_on = SqliteOutbox.append, asyncio.Event(), asyncio.Event()

    async def when_told(outbox: SqliteOutbox, commit: Commit) -> None:
        is_closing.set()
        await go_on.wait()
        await append(outbox, commit)

    monkeypatch.setattr(SqliteOutbox, "append", when_told)
    gateway = Gateway(config, load=lambda: config)
    starting = asyncio.create_task(gateway.start())
    try:
        async with asyncio.timeout(LONG_S):
            await is_closing.wait()
            while not gateway.admin_port:  # noqa: ASYNC110 -- it is not announced
                await asyncio.sleep(0)
        reloading = asyncio.create_task(gateway.reloader.reload())
        assert await asked(gateway.admin_port, "/healthz") == 200
        assert await asked(gateway.admin_port, "/readyz") == 503
        state = gateway._pool.states()["1/kept"]
        assert (gateway.port, state.running, state.waiting, state.last) == (0, 0, 1, None)
        assert not reloading.done()
        go_on.set()
        await asyncio.wait_for(starting, LONG_S)
        assert (await reloading)[0] == 200
        assert await asked(gateway.admin_port, "/readyz") == 200
    finally:
        go_on.set()
        await asyncio.wait_for(starting, LONG_S)
        await gateway.stop()


async def asked(port: int, path: str) -> int:
    """Return the status with which the operator's port answers."""
    reader, writer = await asyncio.open_connection("127.0.0.1", port)
    writer.write(f"GET {path} HTTP/1.1\r\nHost: 127.0.0.1:{port}\r\nConnection: close\r\n\r\n".encode())
    status = int((await reader.readline()).split()[1])
    writer.close()
    return status


async def test_what_a_crash_left_open_of_an_app_waits_in_the_store_until_it_is_in_the_file_again(tmp_path: Path) -> None:
    both = configuration(tmp_path, entry(STAYS, "kept"), entry(GOES, "back"))
    async with running(both) as gateway:
        lost = [SpanOpened(Span(app.id, "connection", "1.1", f"spn_{app.id}", 1)) for app in (STAYS, GOES)]
        await gateway._outbox.append(Commit(tuple(lost)))
    async with running(configuration(tmp_path, entry(STAYS, "kept"))) as gateway:
        assert await due(gateway, "1/kept") == 1
    for _ in range(2):
        async with running(both) as gateway:
            assert (await due(gateway, "1/kept"), await due(gateway, "2/back")) == (1, 1)


async def test_an_endpoint_that_was_enabled_stays_so_at_the_next_start_even_if_nothing_was_sent_meanwhile(tmp_path: Path) -> None:
    config = configuration(tmp_path, entry(STAYS, "kept"))
    state = []
    async with running(config) as gateway:
        gateway._pool._lanes["1/kept"].disable("nothing is to be sent by itself")
        await publish(gateway)
        claim = await gateway._outbox.claim("1/kept", 0, 1)
        assert claim is not None
        made = request(config.apps[0].endpoints[0], claim.deliveries)
        gone = Outcome(Stage.ANSWERED, 1.0, 410)
        now_ms = claim.deliveries[0].at_ms
        await gateway._outbox.settle(made.settlement(1, now_ms, now_ms, State.DEAD, gone, reason="gone"))
    for is_enabling in (False, True, False):
        async with running(config) as gateway:
            state.append(gateway._pool.states()["1/kept"].state)
            assert gateway.desk is not None
            if is_enabling:
                await gateway.desk.enable("1", "kept")
            (shown,) = (await gateway.desk.deliveries("1", "kept", before=None, limit=10))["deliveries"]
            assert (await gateway.desk.request("1", "kept", None))["number"] == shown["number"]
            told = await gateway.desk.why("1", claim.deliveries[0].event_id)
            assert [one["state"] for one in told["endpoints"][0]["deliveries"]] == ["dead"]
    assert state == ["disabled", "disabled", "healthy"]


@pytest.mark.parametrize("hangs", ["backlog", "close"])
async def test_an_outbox_that_does_not_answer_holds_up_no_shutdown(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture, hangs: str
) -> None:
    async def never(*_: object) -> None:
        await asyncio.Event().wait()

    monkeypatch.setattr("gateway.bootstrap._LETTING_GO_S", 0.1)
    gateway = Gateway(configuration(tmp_path, entry(STAYS, "kept")))
    await gateway.start()
    with monkeypatch.context() as patch:
        patch.setattr(SqliteOutbox, hangs, never)
        await asyncio.wait_for(gateway.stop(), LONG_S)
    assert "the outbox does not answer" in caplog.text
    await gateway._outbox.close()


async def test_an_endpoint_that_vanished_between_two_starts_leaves_dead_letters(tmp_path: Path) -> None:
    async with running(configuration(tmp_path, entry(STAYS, "kept", "removed"))) as gateway:
        await publish(gateway)
        assert (await due(gateway, "1/kept"), await due(gateway, "1/removed")) == (1, 1)
    async with running(configuration(tmp_path, entry(STAYS, "kept"))) as gateway:
        assert gateway._parting is not None
        await gateway._parting
        assert await dead(gateway, "1/removed") == ["endpoint_removed"]
        assert (await due(gateway, "1/kept"), await due(gateway, "1/removed")) == (1, 0)


async def test_a_reload_that_cannot_record_changes_nothing_and_the_next_one_does(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    before = configuration(tmp_path, entry(STAYS, "kept", "removed"), entry(GOES))
    after = configuration(tmp_path, entry(STAYS, "kept"))
    async with running(before) as gateway:
        assert gateway._recorder is not None
        assert gateway.node is not None
        await publish(gateway)
        written, asked = gateway._recorder.written, 0
        for fails_at in (1, 2, 3):  # before anything, after the farewell to apps, after the change of hands

            def fail(fails_at: int = fails_at) -> object:
                nonlocal asked
                asked += 1
                if asked == fails_at:
                    raise OSError("the outbox cannot be written")
                return written()

            asked = 0
            with monkeypatch.context() as patch:
                patch.setattr(gateway._recorder, "written", fail)
                with pytest.raises(OSError, match="cannot be written"):
                    await gateway.reload(after)
            assert asked == fails_at
            assert await dead(gateway, "1/removed") == []
            assert gateway.config.apps == before.apps
        await gateway.reload(after)
        assert await dead(gateway, "1/removed") == ["endpoint_removed"]
        assert gateway.node.app("2") is None
        assert gateway.config.apps == after.apps
        # The app that is back begins anew.
        await gateway.reload(before)
        assert gateway.node.app("2") == GOES
        await publish(gateway)
        assert await due(gateway, "1/removed") == 1


async def test_a_certificate_is_exchanged_with_all_the_rest_or_not_at_all(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    def served(*apps: AppEntry, stem: str) -> Config:
        cert, key, numbers[stem] = write_pair(tmp_path, stem)
        config = configuration(tmp_path, *apps)
        return replace(config, server=replace(config.server, tls=Tls(str(cert), str(key))))

    numbers: dict[str, int] = {}
    before, after = served(entry(STAYS), stem="before"), served(entry(STAYS), entry(GOES), stem="after")
    async with running(before) as gateway:
        assert gateway._recorder is not None
        written = gateway._recorder.written
        for good in range(3):
            answers: list[Callable[[], object]] = [written] * good

            def fail(answers: list[Callable[[], object]] = answers) -> object:
                if not answers:
                    raise OSError("the outbox cannot be written")
                return answers.pop()()

            with monkeypatch.context() as patch:
                patch.setattr(gateway._recorder, "written", fail)
                with pytest.raises(OSError, match="cannot be written"):
                    await gateway.reload(after)
            assert await shown(gateway) == numbers["before"]
            assert gateway.config.server == before.server
        await gateway.reload(after)
        assert await shown(gateway) == numbers["after"]
        assert gateway.config.server == after.server


async def test_a_certificate_that_was_refused_waits_for_the_next_start(tmp_path: Path) -> None:
    cert, key, number = write_pair(tmp_path)
    _, foreign, _ = write_pair(tmp_path, "other")
    plain = configuration(tmp_path, entry(STAYS))
    before = replace(plain, server=replace(plain.server, tls=Tls(str(cert), str(key))))
    after = replace(plain, server=replace(plain.server, tls=Tls(str(cert), str(foreign))))
    gateway = Gateway(before, load=lambda: after)
    await gateway.start()
    _, answer = await gateway.reloader.reload()
    assert answer["at_next_start"] == ["server"]
    assert gateway.config.server == before.server
    assert await shown(gateway) == number
    await gateway.stop()


async def shown(gateway: Gateway) -> int:
    """Return the number of the certificate that is served."""
    _, writer = await asyncio.open_connection("127.0.0.1", gateway.port, ssl=anybody(), server_hostname="localhost")
    number = serial_of(writer.get_extra_info("ssl_object"))
    writer.transport.abort()
    return number


async def test_what_happens_while_an_endpoint_is_taken_leave_of_is_not_stranded(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    async with running(configuration(tmp_path, entry(STAYS, "kept", "removed"))) as gateway:

        async def publish_meanwhile(timeout_s: float, keys: object) -> int:
            assert gateway.node is not None
            gateway.node.publish([Publication("1", "late", ("orders",), "x")] * 2000)
            await asyncio.sleep(0)  # the recorder has begun with them, and has seen the old endpoints
            await asyncio.sleep(0)
            return 0

        with monkeypatch.context() as patch:
            patch.setattr(gateway._pool, "drain", publish_meanwhile)
            await gateway.reload(configuration(tmp_path, entry(STAYS, "kept")))
        assert gateway._recorder is not None
        await gateway._recorder.committed()
        assert await due(gateway, "1/removed") == 0, "due to an endpoint nobody will ever deliver to"
        assert len(await dead(gateway, "1/removed")) > 0, "the endpoint was there when these happened"
        assert await due(gateway, "1/kept") == 2000
