"""The dashboard in a real browser: each page opened, each order given and its effect seen where it must be seen."""

from __future__ import annotations

import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from playwright.async_api import Page, expect

from tests.e2e.chromium import Chromium
from tests.e2e.conftest import Connect, StartGateway
from tests.e2e.gateway_process import APP_ID, app
from tests.e2e.receiver import Answer, Receiver

PAGES = ("overview", "live", "channels", "connections", "webhooks")
SCRIPT = '<img src=x onerror="document.title=1">'

Visit = Callable[[Page], Awaitable[None]]


@asynccontextmanager
async def browsing(chromium: Chromium, url: str, **options: object) -> AsyncIterator[Callable[[Visit], Awaitable[None]]]:
    """Open a page, on which steps are taken on the browser's own loop; at the end nothing may have gone wrong in it."""
    faults: list[str] = []

    async def open_page() -> Page:
        context = await chromium.browser.new_context(**options)  # type: ignore[arg-type]
        page = await context.new_page()
        page.on("pageerror", lambda error: faults.append(f"uncaught: {error}"))
        page.on("console", lambda said: faults.append(said.text) if "Content Security Policy" in said.text else None)
        page.on("request", lambda one: None if one.url.startswith((url, "data:")) else faults.append(f"outside: {one.url}"))
        await page.goto(url)
        return page

    page = await chromium.run(open_page())

    async def step(visit: Visit) -> None:
        await chromium.run(visit(page))  # type: ignore[arg-type]

    yield step
    await chromium.run(page.context.close())
    assert faults == []


def picture(name: str) -> dict[str, str]:
    """Where a screenshot goes, if somebody wants to look at them."""
    return {"path": str(Path(os.environ["DASHBOARD_PICTURES"]) / f"{name}.png")}


async def test_every_page_and_every_order(
    start_gateway: StartGateway, receiver: Receiver, chromium: Chromium, connect: Connect
) -> None:
    receiver.rules.append(lambda hook: Answer(status=400) if hook.mentions("doomed") and not hook.is_replay else None)
    gateway = await start_gateway(
        app(webhooks=[receiver.endpoint(retry={"initial": "20ms", "max_attempts": 1})]), admin={"port": 0}
    )
    client = await connect(gateway)
    await client.subscribe("orders")
    await client.subscribe("doomed")
    await receiver.wait_for_hooks(lambda hook: hook.mentions("doomed"), 2)
    pictures = "DASHBOARD_PICTURES" in os.environ

    async with browsing(chromium, gateway.admin, color_scheme="dark") as step:

        async def overview(page: Page) -> None:
            await expect(page.get_by_text("dead letters", exact=False).first).to_be_visible()
            await expect(page.locator("figure").first.locator("output")).to_have_text("1")

        async def publish(page: Page) -> None:
            await page.goto(f"{gateway.admin}/#/live")
            await page.get_by_text("Publish an event").click()
            await page.locator("#publish-channel").fill("orders")
            await page.locator("#publish-event").fill("created")
            await page.locator("#publish-data").fill(SCRIPT)
            await page.get_by_role("button", name="Publish").press("Enter")
            await expect(page.get_by_text("Published, and recorded.")).to_be_visible()
            await expect(page.locator(".feed").get_by_text("message.published")).to_be_visible()
            await expect(page.locator(".feed")).to_contain_text(SCRIPT)
            assert await page.locator(".feed img").count() == 0

        async def send_test(page: Page) -> None:
            await page.goto(f"{gateway.admin}/#/webhooks/{APP_ID}/all")
            await page.get_by_role("button", name="Send test").click()
            await expect(page.get_by_text("The test was accepted")).to_be_visible()

        async def deliver_again(page: Page) -> None:
            await page.goto(f"{gateway.admin}/#/webhooks/{APP_ID}/all/dead")
            await page.get_by_role("button", name="Re-deliver", exact=True).first.click()
            await expect(page.get_by_text("1 sent again.")).to_be_visible()
            await page.get_by_role("button", name="Re-deliver all").click()
            await page.get_by_role("dialog").get_by_role("button", name="Re-deliver").click()
            await expect(page.get_by_text("No dead letter.")).to_be_visible()

        async def terminate(page: Page) -> None:
            await page.goto(f"{gateway.admin}/#/connections/{APP_ID}/{client.socket_id}")
            await expect(page.locator(".feed").get_by_text("connection.opened")).to_be_visible()
            await page.get_by_role("button", name="Terminate").click()
            await page.get_by_role("dialog").get_by_role("button", name="Terminate for good").click()
            await expect(page.get_by_text("Terminated.")).to_be_visible()

        await step(overview)
        await step(publish)
        assert (await client.expect("created"))["data"] == SCRIPT
        await receiver.one("message.published", channel="orders")
        await step(send_test)
        await receiver.one("webhook.test")
        await step(deliver_again)
        await receiver.one("channel.occupied", channel="doomed")
        await step(terminate)
        assert await client.closed() == 4009

    other = await connect(gateway)
    await other.subscribe("room-" + "x" * 100)
    for width, scheme in ((360, "light"), (1280, "light"), (1280, "dark")):
        size = {"width": width, "height": 800}
        async with browsing(chromium, gateway.admin, viewport=size, color_scheme=scheme) as step:
            for name in (*PAGES, f"webhooks/{APP_ID}/all", f"connections/{APP_ID}/{other.socket_id}"):

                async def look(page: Page, name: str = name, size: str = f"{width}-{scheme}") -> None:
                    await page.goto(f"{gateway.admin}/#/{name}")
                    await expect(page.locator("h1")).to_be_visible()
                    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{name} is too wide"
                    if pictures:
                        await page.screenshot(**picture(f"{name.replace('/', '-')[:22]}-{size}"))  # type: ignore[arg-type]

                await step(look)


async def test_the_token_opens_a_login_and_no_other_page_can_use_it(
    start_gateway: StartGateway, receiver: Receiver, chromium: Chromium
) -> None:
    gateway = await start_gateway(admin={"port": 0, "token": "admin-token"})
    async with browsing(chromium, gateway.admin) as step:

        async def log_in(page: Page) -> None:
            await page.get_by_label("Admin token").fill("wrong")
            await page.keyboard.press("Enter")
            await expect(page.get_by_role("alert")).to_contain_text("not the admin token")
            await page.get_by_label("Admin token").fill("admin-token")
            await page.keyboard.press("Enter")
            await expect(page.locator("h1")).to_have_text("Overview")
            await expect(page.get_by_text("● live")).to_be_visible()
            (cookie,) = await page.context.cookies()
            assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
            assert "admin-token" not in cookie["value"]
            await page.get_by_role("button", name="Log out").click()
            await expect(page.get_by_label("Admin token")).to_be_visible()

        await step(log_in)
    async with aiohttp.ClientSession(cookie_jar=aiohttp.DummyCookieJar()) as http:
        async with http.post(f"{gateway.admin}/login", json={"token": "admin-token"}) as answer:
            (cookie,) = answer.cookies.values()
        by_cookie = {"Cookie": f"{cookie.key}={cookie.value}"}
        target = f"{gateway.admin}/v1/apps/{APP_ID}/webhooks/endpoints/all/test"
        for headers, status in (
            ({}, 403),
            ({"Origin": "http://evil.example"}, 403),
            ({"Sec-Fetch-Site": "same-site", "Origin": gateway.admin}, 403),
            ({"Origin": gateway.admin}, 200),
        ):
            async with http.post(target, json={}, headers=by_cookie | headers) as answer:
                assert answer.status == status, headers
        live = f"{gateway.admin}/v1/live"
        async with http.ws_connect(live, headers=by_cookie, origin=gateway.admin) as ws:
            assert (await ws.receive_json())["type"] == "hello"
        with pytest.raises(aiohttp.WSServerHandshakeError) as refused:
            await http.ws_connect(live, headers=by_cookie, origin="http://evil.example")
        assert refused.value.status == 403
