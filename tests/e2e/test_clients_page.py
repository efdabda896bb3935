"""docs/clients.md: its clients connect through the proxies it gives, with the signatures it makes; its table is what codes do."""

from __future__ import annotations

import asyncio
import json
import re
import time
import tomllib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pysher
import pytest

from gateway.core.error import Code
from tests.e2e.application import Application
from tests.e2e.client import Backend
from tests.e2e.conftest import RunScript, StartGateway
from tests.e2e.gateway_process import GatewayProcess, app
from tests.e2e.node_script import HERE
from tests.e2e.proxy import Proxy
from tests.e2e.receiver import Receiver
from tests.e2e.test_pysher import end
from tests.page import Page
from tests.patience import LONG_S

PAGE = Page("clients.md")

#: the page's app
SHOP = {"app_id": "1001", "key": "my-key", "secret": "my-secret"}


@pytest.fixture
async def shop(start_gateway: StartGateway, receiver: Receiver) -> GatewayProcess:
    """The page's app, with the page's proxies trusted."""
    return await start_gateway(app(**SHOP, webhooks=[receiver.endpoint(app_id="1001")]), **tomllib.loads(PAGE.block("toml")))


@pytest.fixture
def authorize() -> Callable[[dict[str, str], dict[str, str]], str]:
    """The page's signing endpoint."""
    names: dict[str, Any] = {}
    exec(PAGE.block("python", "def authorize"), names)
    signing: Callable[[dict[str, str], dict[str, str]], str] = names["authorize"]
    return signing


def there(code: str, port: int) -> str:
    """Have an example connect to loopback; what it imports is there already."""
    assert "rt.example.com" in code
    code = re.sub(r"^import .*\n", "", code, flags=re.MULTILINE)
    return code.replace("rt.example.com", "127.0.0.1").replace("443", str(port))


@pytest.mark.parametrize("kind", ["nginx", "caddy"])
async def test_its_pages_connect_through_its_proxies(
    kind: str,
    shop: GatewayProcess,
    application: Application,
    authorize: Callable[[dict[str, str], dict[str, str]], str],
    run_tab: RunScript,
    tmp_path: Path,
    receiver: Receiver,
) -> None:
    folder = tmp_path / kind
    folder.mkdir()
    proxy = await Proxy.start(kind, folder, shop.port)
    try:
        application.signs_with(lambda form: authorize({"id": "u-1", "name": "Ada"}, form))
        page = await run_tab("page.mjs")
        page.send("run", code=there(PAGE.block("js", "new Pusher"), proxy.port))
        page.send("run", code=there(PAGE.block("js", "new Echo"), proxy.port))
        assert (await page.expect("log"))["value"] == [{"name": "Ada"}]
        await receiver.wait_for("channel.subscribed", count=2, channel="private-orders")
        async with Backend(proxy.port, *SHOP.values(), ssl=proxy.trust) as backend:
            assert await backend.publish("private-orders", "created", '{"id":7}') == 200
            assert (await page.expect("log"))["value"] == {"id": 7}
            assert await backend.publish("private-orders", "App\\Events\\OrderShipped", '{"id":8}') == 200
            assert (await page.expect("log"))["value"] == {"id": 8}
        await page.stop()
    finally:
        await proxy.stop()


async def test_its_python_client(shop: GatewayProcess, receiver: Receiver, monkeypatch: pytest.MonkeyPatch) -> None:
    # Its timer thread sleeps up to 30 s at a stretch and would keep the test run from ending.
    monkeypatch.setattr("pysher.connection.sleep_max_n", lambda _: lambda span_s: time.sleep(min(span_s, 0.02)))
    heard: asyncio.Queue[Any] = asyncio.Queue()
    loop = asyncio.get_running_loop()
    names: dict[str, Any] = {"pysher": pysher, "print": lambda data: loop.call_soon_threadsafe(heard.put_nowait, data)}
    exec(there(PAGE.block("python", "pysher"), shop.port).replace("secure=True", "secure=False"), names)
    try:
        await receiver.one("channel.subscribed", channel="private-orders")
        async with Backend(shop.port, *SHOP.values()) as backend:
            assert await backend.publish("private-orders", "created", '{"id":7}') == 200
        async with asyncio.timeout(LONG_S):
            assert json.loads(await heard.get()) == {"id": 7}
    finally:
        await end(names["client"].connection)


def test_its_versions_are_those_that_run() -> None:
    versions = json.loads((HERE / "package.json").read_text())["dependencies"]
    for name, package in (("pusher-js", "pusher-js"), ("Echo", "laravel-echo")):
        assert f"{name} {versions[package].rpartition('.')[0]} " in PAGE.text.replace("\n", " ")


def test_its_codes_are_those_of_the_protocol() -> None:
    rows = [int(code) for code in re.findall(r"^\| (4\d\d\d) \|", PAGE.text, re.MULTILINE)]
    assert rows == sorted(rows)
    assert set(rows) <= {int(code) for code in Code}
