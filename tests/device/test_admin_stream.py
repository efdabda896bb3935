"""The live feed: what a browser is sent and may say, who may have it, and that it holds nobody up."""

from __future__ import annotations

import asyncio
from typing import Any

import aiohttp
import orjson
import pytest

from gateway.admin import stream, watch
from gateway.admin.history import FIELDS
from gateway.admin.login import LASTS_S
from tests.device.admin_kit import Served, serve


def live(served: Served, **headers: str) -> Any:
    return served.http.ws_connect(f"http://127.0.0.1:{served.port}/v1/live", headers=headers)


async def until(ws: aiohttp.ClientWebSocketResponse, type_: str) -> dict[str, Any]:
    while True:
        told: dict[str, Any] = await ws.receive_json()
        if told["type"] == type_:
            return told


async def test_it_begins_with_the_past_and_goes_on_with_what_is_asked_for() -> None:
    async with serve() as served, live(served) as ws:
        hello = await until(ws, "hello")
        assert (hello["node"], hello["fields"], hello["samples"]) == ("gw-1", list(FIELDS), [])
        served.site._history.sample()
        assert len((await until(ws, "samples"))["samples"]) == 1
        house = served.house
        await ws.send_json({"watch": {"event": "connection.opened"}})
        await until(ws, "watching")
        opened, _ = house.connect("key-2")
        house.join(opened, "orders")
        told = await until(ws, "events")
        assert [(one["event"], one["data"]["socket_id"]) for one in told["events"]] == [("connection.opened", opened.socket_id)]
        await ws.send_json({"watch": None})
        await ws.send_str("?")  # answered in turn, so that the line before it has been read
        await until(ws, "error")
        assert (house.telemetry.onlooker, house.sources.desk.listener) == (None, None)


@pytest.mark.parametrize(
    "said", ["", "{", "[]", '{"watch": 1}', '{"watch": {"app": 1}}', '{"watch": {"x": ""}}', '{"more": null}']
)
async def test_what_it_does_not_understand_it_says_and_goes_on(said: str) -> None:
    async with serve() as served, live(served) as ws:
        await ws.send_str(said)
        assert (await until(ws, "error"))["error"]
        await ws.send_json({"watch": {}})
        await until(ws, "watching")


async def test_who_goes_away_leaves_nothing_behind() -> None:
    async with serve() as served:
        async with live(served) as ws:
            await ws.send_json({"watch": {}})
            await until(ws, "watching")
            assert served.site._history.onlookers == 1
        async with live(served) as ws:
            await until(ws, "hello")
        site = served.site
        while site._history.onlookers:  # noqa: ASYNC110 -- the server notices when it does
            await asyncio.sleep(0)
        assert served.house.telemetry.onlooker is None


async def test_there_is_an_end_to_how_many_there_can_be(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "MOST", 1)
    async with serve() as served, live(served) as ws:
        await until(ws, "hello")
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await live(served)
        assert refused.value.status == 503
        await ws.close()


async def test_a_request_that_is_no_websocket_is_told_so() -> None:
    async with serve() as served:
        assert (await served.get("/v1/live")).status == 426


async def test_it_ends_with_the_login_it_came_with() -> None:
    async with serve(token="s3cret") as served:
        origin = f"http://127.0.0.1:{served.port}"
        login = await served.post("/login", {"token": "s3cret"})
        cookie = login.headers["Set-Cookie"].partition(";")[0]
        async with (
            live(served, Origin=origin, Cookie=cookie) as by_cookie,
            live(served, Authorization="Bearer s3cret") as by_token,
        ):
            await until(by_cookie, "hello")
            await until(by_token, "hello")
            served.house.clock.move(LASTS_S)
            assert (await by_cookie.receive()).type is aiohttp.WSMsgType.CLOSE
            assert by_cookie.close_code == stream.LOGGED_OUT
            served.site._history.sample()
            await until(by_token, "samples")


async def test_a_fault_of_its_own_is_logged_and_closes_it(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(event: object) -> Any:
        raise ValueError("a bug")

    monkeypatch.setattr(watch, "shown", fail)
    async with serve() as served, live(served) as ws:
        await ws.send_json({"watch": {}})
        await until(ws, "watching")
        served.house.connect("key-2")
        while (message := await ws.receive()).type is aiohttp.WSMsgType.TEXT:
            assert orjson.loads(message.data)["type"] != "events"
        assert ws.close_code == 1011
    assert "the live feed of a dashboard broke" in caplog.text


async def test_who_does_not_read_does_not_hold_up_the_end(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(stream, "_GOODBYE_S", 0.05)
    async with serve() as served:
        # more than all buffers on the way hold
        served.site._history.samples.append(("x" * 20_000_000,))  # type: ignore[arg-type]
        reader, writer = await asyncio.open_connection("127.0.0.1", served.port, limit=1024)
        writer.write(
            b"GET /v1/live HTTP/1.1\r\nHost: 127.0.0.1\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
            b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n\r\n"
        )
        assert b"101" in await reader.readline()
        async with asyncio.timeout(20):
            await served.site.stop()
        writer.close()


async def test_what_is_recorded_is_told_once_with_its_id() -> None:
    async with serve() as served, live(served) as ws:
        await ws.send_json({"watch": {"channel": "orders"}})
        await until(ws, "watching")
        (event,) = await served.house.kit.happen(1)
        told = await until(ws, "events")
        assert [one["id"] for one in told["events"]] == [event.id]
        assert told["events"][0]["data"]["channel"] == "orders"
