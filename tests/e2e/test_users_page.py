"""docs/users.md: its page signs in with what its backend signs, hears what its backend sends, and is sent away by it."""

from __future__ import annotations

import asyncio
import re
import tomllib
from collections.abc import AsyncIterator, Callable
from typing import Any

import pytest
from aiohttp import web

from gateway.config.schema import APP
from tests.e2e.conftest import RunNode, StartGateway
from tests.e2e.gateway_process import GatewayProcess, app
from tests.e2e.receiver import Receiver
from tests.e2e.script import Script
from tests.page import Page

PAGE = Page("users.md")

#: the page's app
SHOP = {"app_id": "1001", "key": "my-key", "secret": "my-secret"}


def there(code: str, port: int) -> str:
    """Have an example connect to loopback, without TLS."""
    assert "rt.example.com" in code
    return (
        re.sub(r"(forceTLS: |useTLS: |ssl=)([Tt])rue", _without, code)
        .replace("rt.example.com", "127.0.0.1")
        .replace("443", str(port))
    )


def _without(match: re.Match[str]) -> str:
    return match[1] + ("False" if match[2] == "T" else "false")


class Shop:
    """The page's application: its endpoints, for a user whose name the page's requests carry."""

    def __init__(self, backend: dict[str, Any]) -> None:
        self.backend = backend
        self.port = 0

    async def answer(self, request: web.Request) -> web.Response:
        form = {name: str(value) for name, value in (await request.post()).items()}
        name = request.match_info["name"]
        user = {"id": name, "name": name.title(), "friends": ["ada", "bob"]}
        sign = self.backend["sign_in" if request.path.endswith("user-auth") else "authorize"]
        return web.Response(text=sign(user, form), content_type="application/json")


@pytest.fixture
async def gateway(start_gateway: StartGateway, receiver: Receiver) -> GatewayProcess:
    return await start_gateway(app(**SHOP, webhooks=[receiver.endpoint(app_id="1001")]))


@pytest.fixture
async def shop(gateway: GatewayProcess) -> AsyncIterator[Shop]:
    names: dict[str, Any] = {}
    exec("\n".join(there(code, gateway.port) if "Pusher(" in code else code for code in PAGE.all("python")), names)
    shop = Shop(names)
    application = web.Application()
    application.router.add_post("/{name}/pusher/{which:auth|user-auth}", shop.answer)
    runner = web.AppRunner(application, shutdown_timeout=0.5)
    await runner.setup()
    await web.TCPSite(runner, "127.0.0.1", 0).start()
    shop.port = runner.addresses[0][1]
    yield shop
    await runner.cleanup()


@pytest.fixture
def visit(run_node: RunNode, gateway: GatewayProcess, shop: Shop) -> Callable[[str], Any]:
    """Run the page's script for a user of this name."""

    async def visit(name: str) -> Script:
        code = re.sub(r"^import .*\n", "", there(PAGE.block("js", "signin()"), gateway.port), flags=re.MULTILINE)
        page = await run_node("page.mjs")
        page.send("run", code=code.replace('"/pusher/', f'"http://127.0.0.1:{shop.port}/{name}/pusher/'))
        return page

    return visit


async def said(page: Script, what: str) -> Any:
    return (await page.expect("log", value=what))["more"]


async def test_its_pages_and_its_backends(
    visit: Callable[[str], Any], shop: Shop, gateway: GatewayProcess, run_node: RunNode, receiver: Receiver
) -> None:
    ada = await visit("ada")
    assert await said(ada, "me") == [{"id": "ada", "info": {"name": "Ada"}}]
    assert await said(ada, "online") == [["ada"]]
    assert await said(ada, "offline") == [["bob"]]
    bob = await visit("bob")
    assert await said(bob, "online") == [["ada", "bob"]]
    assert await said(ada, "online") == [["bob"]]
    await receiver.wait_for("connection.authenticated", count=2, signin=True)
    await asyncio.to_thread(shop.backend["remind"], "ada")
    assert await said(ada, "note") == [{"text": "Lunch?"}]
    backend = await run_node("backend.mjs")
    assert await backend.ask(
        "run", code=re.sub(r"^import .*\n", "", there(PAGE.block("js", "sendToUser"), gateway.port), flags=re.MULTILINE)
    )
    assert await said(ada, "note") == [{"text": "Lunch?"}]
    assert await said(ada, "offline") == [["bob"]]
    await receiver.one("connection.closed", reason="terminated", user_id="bob")
    await asyncio.to_thread(shop.backend["ban"], "ada")
    await receiver.one("connection.closed", reason="terminated", user_id="ada")


def test_its_settings_exist() -> None:
    assert tomllib.loads(PAGE.block("toml")).keys() <= APP.settings.keys()
