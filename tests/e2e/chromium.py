"""Chromium without a window, and scripts that run in its pages: waiting is for messages, as with scripts under Node.

The browser and what drives it live on an event loop of their own thread, because they outlive the event loop of a test.
"""

from __future__ import annotations

import asyncio
import json
import threading
from collections.abc import Coroutine
from typing import Any, TypeVar
from urllib.parse import urlsplit

from playwright.async_api import Browser, BrowserContext, CDPSession, Page, Playwright, Request, async_playwright, expect

from tests.e2e.script import Script
from tests.patience import LONG_S

T = TypeVar("T")

#: root may not use the sandbox, and the machine that decides about changes is root's
_SWITCHES = ["--no-sandbox", "--disable-dev-shm-usage"]

expect.set_options(timeout=LONG_S * 1000)


class Chromium:
    """One browser process for all tests."""

    def __init__(self, path: str) -> None:
        """Start the browser found at `path`."""
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="chromium", daemon=True)
        self._thread.start()
        self._playwright, self.browser = asyncio.run_coroutine_threadsafe(self._launch(path), self._loop).result(LONG_S)

    async def _launch(self, path: str) -> tuple[Playwright, Browser]:
        playwright = await async_playwright().start()
        return playwright, await playwright.chromium.launch(executable_path=path, args=_SWITCHES)

    async def run(self, work: Coroutine[Any, Any, T]) -> T:
        """Do something on the browser's event loop and wait for it here."""
        async with asyncio.timeout(3 * LONG_S):
            return await asyncio.wrap_future(asyncio.run_coroutine_threadsafe(work, self._loop))

    def spawn(self, work: Coroutine[Any, Any, Any]) -> None:
        """Have something done on the browser's event loop, in the order of these calls."""
        asyncio.run_coroutine_threadsafe(work, self._loop)

    def close(self) -> None:
        """End the browser and the thread."""
        asyncio.run_coroutine_threadsafe(self._end(), self._loop).result(LONG_S)
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join(LONG_S)
        self._loop.close()

    async def _end(self) -> None:
        await self.browser.close()
        await self._playwright.stop()


class Tab(Script):
    """A page of a browser profile of its own, and the script in it. `faults` collects what no page may do."""

    def __init__(self, chromium: Chromium) -> None:
        super().__init__()
        self.faults: list[str] = []
        self._chromium = chromium
        self._test_loop = asyncio.get_running_loop()
        self._context: BrowserContext
        self._page: Page

    @classmethod
    async def open(cls, chromium: Chromium, url: str) -> Tab:
        """Open a page and wait until its script is ready."""
        tab = cls(chromium)
        await chromium.run(tab._open(url))
        await tab.expect("ready")
        return tab

    async def _open(self, url: str) -> None:
        # the certificates of these tests are signed by nobody
        self._context = await self._chromium.browser.new_context(ignore_https_errors=True)
        self._page = page = await self._context.new_page()
        page.on("pageerror", lambda error: self.faults.append(f"uncaught: {error}"))
        page.on("request", self._on_request)
        page.on("websocket", lambda ws: self._on_url(ws.url))
        session: CDPSession = await self._context.new_cdp_session(page)
        session.on("Runtime.bindingCalled", self._on_binding)
        await session.send("Runtime.enable")
        await session.send("Runtime.addBinding", {"name": "sayToTest"})
        await page.goto(url)

    def _on_request(self, request: Request) -> None:
        self._on_url(request.url)

    def _on_url(self, url: str) -> None:
        if urlsplit(url).hostname != "127.0.0.1":
            self.faults.append(f"a request to the outside: {url}")

    def _on_binding(self, call: dict[str, str]) -> None:
        self._test_loop.call_soon_threadsafe(self.hear, json.loads(call["payload"]))

    def send(self, do: str, **command: Any) -> None:
        """Give the script a command."""
        self._chromium.spawn(self._command(json.dumps({"do": do, **command})))

    async def _command(self, line: str) -> None:
        try:
            await self._page.evaluate("line => window.command(line)", line)
        except Exception as error:
            self._test_loop.call_soon_threadsafe(self.hear, {"type": "ended", "because": str(error)})
            raise

    async def reload(self) -> None:
        """Reload the page as its user would, and wait until its script, which knows nothing any more, is ready."""
        await self._chromium.run(self._page.reload())
        await self.expect("ready")

    async def go_offline(self, is_offline: bool = True) -> None:
        """Take the network away from the page, or give it back."""
        await self._chromium.run(self._context.set_offline(is_offline))

    async def stop(self) -> None:
        """Close the page, with its profile; more than once is as good as once."""
        await self._chromium.run(self._context.close())
