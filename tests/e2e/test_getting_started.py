"""docs/getting-started.md, done as it says: its file, its receiver, its page under Node, its publishers."""

from __future__ import annotations

import asyncio
import re
import sys
from asyncio.subprocess import DEVNULL, PIPE, Process
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from tests.e2e.conftest import RunNode
from tests.e2e.gateway_process import ROOT, GatewayProcess, free_port
from tests.page import Page
from tests.patience import LONG_S

PAGE = Page("getting-started.md")

_TELL = 'pusher.channel("orders").bind("pusher:subscription_succeeded", () => console.log("subscribed"));'


class Output:
    """What a process prints."""

    def __init__(self, process: Process) -> None:
        self.process = process

    async def line(self, wanted: str) -> None:
        """Read up to a line."""
        assert self.process.stdout is not None
        seen: list[str] = []
        async with asyncio.timeout(LONG_S):
            while not seen or seen[-1] != wanted:
                line = await self.process.stdout.readline()
                assert line, f"ended after {seen}"
                seen.append(line.decode().rstrip())


@pytest.fixture
async def run() -> AsyncIterator[Callable[..., Awaitable[Output]]]:
    """Run Python with these arguments."""
    started: list[Process] = []

    async def start(*arguments: object) -> Output:
        process = await asyncio.create_subprocess_exec(sys.executable, *map(str, arguments), cwd=ROOT, stdin=DEVNULL, stdout=PIPE)
        started.append(process)
        return Output(process)

    yield start
    for process in started:
        if process.returncode is None:
            process.kill()
        await process.wait()


async def test_the_page_does_what_it_says(tmp_path: Path, run: Callable[..., Awaitable[Output]], run_node: RunNode) -> None:
    port, hooks = free_port(), free_port()
    ports = {"6001": str(port), "8000": str(hooks)}

    def here(code: str) -> str:
        return re.sub("6001|8000", lambda found: ports[found[0]], code)

    (tmp_path / "receiver.py").write_text(here(PAGE.block("python", "import hashlib")))
    config = tmp_path / "config.toml"
    config.write_text(
        f'admin.port = 0\nserver = {{ port = {port}, state_dir = "{tmp_path / "state"}" }}\n' + here(PAGE.block("toml"))
    )
    receiver = await run("-u", tmp_path / "receiver.py")
    gateway = GatewayProcess(config, port)
    await gateway.run()
    try:
        await gateway.wait_for_line(lambda line: "ready" in line.lower())
        page = await run_node("page.mjs")
        (script,) = re.findall(r"<script>(.*?)</script>", PAGE.block("html"), re.DOTALL)
        page.send("run", code=here(script) + _TELL)
        await page.expect("log", value="subscribed")
        await receiver.line("channel.subscribed orders")
        exec(here(PAGE.block("python", "import pusher")), {})
        await page.expect("log", value={"id": 7})
        await receiver.line("message.published orders")
        (command,) = re.findall(r"rawpush publish (.*)", PAGE.block("sh", ".venv/bin/rawpush publish"))
        publish = re.fullmatch(r"-c config.toml (\S+) (\S+) '(.*)'", command)
        assert publish is not None
        await run("-m", "gateway", "publish", "-c", config, *publish.groups())
        await page.expect("log", value={"id": 7})
    finally:
        gateway.signal()
    assert await gateway.ended() == 0
