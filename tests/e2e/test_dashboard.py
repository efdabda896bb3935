"""The dashboard in a real browser: each page opened, each order given and its effect seen where it must be seen."""

from __future__ import annotations

import asyncio
import os
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

import aiohttp
import pytest
from playwright.async_api import Page, Route, expect

from tests.e2e.chromium import Chromium
from tests.e2e.conftest import Connect, StartGateway
from tests.e2e.gateway_process import APP_ID, app, free_port
from tests.e2e.receiver import Answer, Receiver

PAGES = ("overview", "live", "channels", "connections", "webhooks")
SCRIPT = '<img src=x onerror="document.title=1">'

#: by what texts stand out
CONTRAST = Path(__file__).with_name("contrast.js").read_text().partition("\n")[2]

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
            await expect(page.get_by_text("dead letter", exact=False).first).to_be_visible()
            await expect(page.locator("figure").first.locator("output")).to_have_text("1")

        async def publish(page: Page) -> None:
            await page.goto(f"{gateway.admin}/#/live")
            await page.get_by_text("Publish an event").click()
            await page.locator("#publish-channel").fill("orders")
            await page.locator("#publish-event").fill("created")
            await page.locator("#publish-data").fill(SCRIPT)
            await page.get_by_role("button", name="Publish").press("Enter")
            await expect(page.get_by_text("Published, and recorded.")).to_be_visible()
            # what was there before the page, and once only what it sees happen
            await expect(page.locator(".before ~ li").filter(has_text="connection.opened")).to_be_visible()
            await expect(page.locator(".feed").get_by_text("message.published")).to_have_count(1)
            await expect(page.locator(".feed")).to_contain_text(SCRIPT)
            assert await page.locator(".feed img").count() == 0

        async def send_test(page: Page) -> None:
            await page.goto(f"{gateway.admin}/#/webhooks/{APP_ID}/all")
            await page.get_by_role("button", name="Send test").click()
            await expect(page.get_by_text("The test was accepted")).to_be_visible()

        async def see_what_was_sent(page: Page) -> None:
            await page.goto(f"{gateway.admin}/#/webhooks/{APP_ID}/all/deliveries")
            hook = receiver.hooks[0]
            await page.locator("summary").filter(has_text=hook.id).click()
            request = page.locator("details[open] pre").first
            await expect(request).to_contain_text(hook.body.decode())
            for name in ("x-webhook-signature", "webhook-signature", "x-webhook-timestamp", "user-agent"):
                await expect(request).to_contain_text(hook.headers[name])
            await expect(page.locator("main")).not_to_contain_text("secret-of-")
            if pictures:
                await page.screenshot(**picture("sent"))  # type: ignore[arg-type]
            await page.goto(f"{gateway.admin}/#/live")
            await page.locator(".feed summary").filter(has_text="connection.opened").first.click()
            await page.get_by_text("What was sent last").first.click()
            await expect(page.locator(".feed details details pre")).to_contain_text("X-Webhook-Event: connection.opened")
            if pictures:
                await page.screenshot(**picture("live-sent"), full_page=True)  # type: ignore[arg-type]

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
            await expect(page.locator(".facts")).to_contain_text("127.0.0.1")
            await expect(page.locator(".facts")).to_contain_text("test/1.2")
            await page.get_by_role("button", name="Terminate").click()
            await page.get_by_role("dialog").get_by_role("button", name="Terminate for good").click()
            await expect(page.get_by_text("Terminated.")).to_be_visible()

        await step(overview)
        await step(publish)
        assert (await client.expect("created"))["data"] == SCRIPT
        await receiver.one("message.published", channel="orders")
        await step(send_test)
        await receiver.one("webhook.test")
        await step(see_what_was_sent)
        await step(deliver_again)
        await receiver.one("channel.occupied", channel="doomed")
        await step(terminate)
        assert await client.closed() == 4009

    other = await connect(gateway)
    await other.subscribe("room-" + "x" * 100)
    endpoint = f"webhooks/{APP_ID}/all"
    details = (endpoint, f"{endpoint}/dead", f"{endpoint}/settings", f"connections/{APP_ID}/{other.socket_id}")
    # What is too wide is so in every colour, and what is too pale at every width.
    more = ((360, "dark"), (1280, "light")) if pictures else ()
    for width, scheme in ((360, "light"), (1280, "dark"), *more):
        size = {"width": width, "height": 800}
        async with browsing(chromium, gateway.admin, viewport=size, color_scheme=scheme) as step:
            for name in (*PAGES, *details, f"channels/{APP_ID}/room-{'x' * 100}", "nobody"):

                async def look(page: Page, name: str = name, scheme: str = scheme, size: str = f"{width}-{scheme}") -> None:
                    await page.goto("about:blank")  # what is seen must not be the page before
                    await page.goto(f"{gateway.admin}/#/{name}")
                    await expect(page.locator("h1")).to_be_visible()
                    await expect(page.get_by_text("● live")).to_be_visible()
                    outer = page.locator("main details:not(details details)")
                    for place in range(min(2, await outer.count())):
                        await outer.nth(place).locator("summary").first.click()
                        await expect(outer.nth(place)).to_have_attribute("open", "")
                    await expect(page.locator("main details[open] pre").first).to_be_visible() if name == endpoint else None
                    assert await page.evaluate("document.documentElement.scrollWidth <= innerWidth"), f"{name} is too wide"
                    seen = await page.evaluate(CONTRAST)
                    assert seen["found"] == [], f"{name}, {scheme}"
                    assert seen["texts"] > 5
                    assert (seen["behind"] < 0.05 < 0.5 < seen["ink"]) is (scheme == "dark")
                    if pictures:
                        await page.screenshot(**picture(f"{name.replace('/', '-')[:29]}-{size}"), full_page=True)  # type: ignore[arg-type]

                await step(look)


async def test_what_clients_call_themselves_is_text(start_gateway: StartGateway, chromium: Chromium, connect: Connect) -> None:
    gateway = await start_gateway(app(client_events=True), admin={"port": 0})
    client = await connect(gateway)
    await client.sign_in(SCRIPT)
    room = "presence-a;b=c@d,e.f"
    await client.join(room, SCRIPT)
    opened = f"connections/{APP_ID}/{client.socket_id}"

    async with browsing(chromium, gateway.admin) as step:

        async def look(page: Page, where: str) -> None:
            await page.goto(f"{gateway.admin}/#/{where}")
            await expect(page.locator("main")).to_contain_text(SCRIPT)

        async def go_round(page: Page) -> None:
            await look(page, "connections")
            await look(page, opened)
            await page.goto(f"{gateway.admin}/#/channels")
            await page.get_by_role("link", name=room).click()
            await expect(page.locator("h1")).to_have_text(room)
            await expect(page.locator("main")).to_contain_text(SCRIPT)
            await page.get_by_role("link", name="Watch it live").click()
            await expect(page.get_by_label("Channel", exact=True)).to_have_value(room)
            await expect(page.get_by_text("● live")).to_be_visible()

        async def see(page: Page) -> None:
            line = page.locator(".feed li").filter(has_text="client_event")
            await expect(line).to_contain_text(SCRIPT)
            await line.locator("summary").click()
            await expect(line.locator("pre")).to_contain_text("<img src=x onerror=")
            assert await page.locator("main img, main script").count() == 0
            # addresses nobody meant
            for where in (
                "%",
                f"channels/{APP_ID}/%E0%A4%A",
                f"connections/{APP_ID}/{SCRIPT}",
                "webhooks/__proto__/x",
                "constructor",
            ):
                await page.goto(f"{gateway.admin}/#/{where}")
                await expect(page.locator("h1, [role=alert]").first).to_be_visible()
            assert await page.title() != "1"
            assert await page.locator("main img, main script").count() == 0

        await step(go_round)
        await client.send(f"client-{SCRIPT}", {"said": SCRIPT}, room)
        await step(see)


async def test_everything_can_be_done_from_the_keyboard(
    start_gateway: StartGateway, chromium: Chromium, connect: Connect
) -> None:
    gateway = await start_gateway(admin={"port": 0})
    client = await connect(gateway)
    async with browsing(chromium, gateway.admin) as step:

        async def tab_to(page: Page, text: str) -> None:
            for _ in range(40):
                await page.keyboard.press("Tab")
                found, width = await page.evaluate(
                    "[document.activeElement.textContent, parseFloat(getComputedStyle(document.activeElement).outlineWidth)]"
                )
                assert width >= 2, f"the focus on {found!r} cannot be seen"
                if found == text:
                    return
            raise AssertionError(f"Tab does not come to {text}")

        async def terminate(page: Page) -> None:
            await expect(page.locator("h1")).to_have_text("Overview")
            await page.keyboard.press("Tab")
            assert await page.evaluate("document.activeElement.textContent") == "To the content"
            await tab_to(page, "Connections")
            await page.keyboard.press("Enter")
            await expect(page.locator("h1")).to_have_text("Connections")
            await expect(page.locator("nav a[aria-current=page]")).to_have_text("Connections")
            await tab_to(page, client.socket_id)
            await page.keyboard.press("Enter")
            await expect(page.locator("h1")).to_have_text(client.socket_id)
            await tab_to(page, "Terminate")
            await page.keyboard.press("Enter")
            await expect(page.get_by_role("dialog")).to_be_visible()
            await page.keyboard.press("Escape")
            await expect(page.get_by_role("dialog")).to_have_count(0)
            await page.keyboard.press("Enter")
            await tab_to(page, "Have it reconnect")
            await page.keyboard.press("Enter")
            await expect(page.get_by_text("Terminated.")).to_be_visible()

        await step(terminate)
        assert await client.closed() == 4200


async def test_a_gateway_that_is_gone_is_told_and_one_that_is_back_is_found(
    start_gateway: StartGateway, chromium: Chromium
) -> None:
    port = free_port()
    gateway = await start_gateway(admin={"port": port})
    async with browsing(chromium, gateway.admin) as step:

        async def live(page: Page) -> None:
            await expect(page.get_by_text("● live")).to_be_visible()

        async def gone(page: Page) -> None:
            await expect(page.get_by_text("no connection; trying again")).to_be_visible()
            await expect(page.get_by_role("alert")).to_contain_text("The gateway does not answer.")
            await page.get_by_role("link", name="Channels").click()
            await expect(page.get_by_role("alert")).to_contain_text("The gateway does not answer.")

        async def back(page: Page) -> None:
            await expect(page.locator("h1")).to_have_text("Channels", timeout=15_000)
            await expect(page.get_by_text("● live")).to_be_visible()

        await step(live)
        await gateway.stop()
        await step(gone)
        await start_gateway(admin={"port": port}, folder="again")
        await step(back)


async def test_who_is_quicker_than_the_login_page_can_still_log_in(start_gateway: StartGateway, chromium: Chromium) -> None:
    gateway = await start_gateway(admin={"port": 0, "token": "admin-token"})
    async with browsing(chromium, gateway.admin) as step:

        async def hurry(page: Page) -> None:
            may_come = asyncio.Event()

            async def hold(route: Route) -> None:
                await may_come.wait()
                await route.continue_()

            await page.route("**/login.js", hold)
            await page.goto(f"{gateway.admin}/login", wait_until="commit")
            await page.get_by_label("Admin token").fill("admin-token")
            await page.keyboard.press("Enter")
            may_come.set()
            await expect(page.get_by_role("button", name="Log in")).to_be_enabled()
            await page.keyboard.press("Enter")
            await expect(page.locator("h1")).to_have_text("Overview")

        await step(hurry)


async def test_the_token_opens_a_login_and_no_other_page_can_use_it(
    start_gateway: StartGateway, receiver: Receiver, chromium: Chromium
) -> None:
    gateway = await start_gateway(admin={"port": 0, "token": "admin-token"})
    async with browsing(chromium, gateway.admin) as step:

        async def log_in(page: Page) -> None:
            button = page.get_by_role("button", name="Log in")
            await page.get_by_label("Admin token").fill("wrong")
            await expect(button).to_be_enabled()
            await page.keyboard.press("Enter")
            await expect(page.get_by_role("alert")).to_contain_text("not the admin token")
            await page.get_by_label("Admin token").fill("admin-token")
            await page.keyboard.press("Enter")
            await expect(page.locator("h1")).to_have_text("Overview")
            await expect(page.get_by_text("● live")).to_be_visible()
            (cookie,) = await page.context.cookies()
            assert (cookie["httpOnly"], cookie["sameSite"]) == (True, "Strict")
            assert "admin-token" not in cookie["value"]
            await page.goto(f"{gateway.admin}/login")  # as by a link from elsewhere; there is nothing to ask for
            await expect(page.locator("h1")).to_have_text("Overview")
            await page.get_by_role("button", name="Log out").click()
            await expect(page.get_by_label("Admin token")).to_be_visible()
            await page.get_by_label("Admin token").fill("admin-token")
            await expect(button).to_be_enabled()
            await page.keyboard.press("Enter")
            await expect(page.get_by_text("● live")).to_be_visible()
            # the login ends, and the page that shows nothing but Live finds out
            await page.request.post(f"{gateway.admin}/logout", data={}, headers={"Origin": gateway.admin})
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
