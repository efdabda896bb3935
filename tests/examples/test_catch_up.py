"""examples/catch_up.py: what a receiver was not there for, it gets from the feed."""

from __future__ import annotations

import asyncio
import os
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.e2e.client import Backend
from tests.e2e.conftest import StartGateway, cleared_away, receiver, start_gateway
from tests.e2e.gateway_process import APP_ID, KEY, SECRET, app
from tests.examples.receiver_process import EXAMPLES, RUNTIMES, ReceiverProcess
from tests.examples.sender import NEW
from tests.patience import LONG_S

__all__ = ["cleared_away", "receiver", "start_gateway"]


@pytest.fixture
def example(tmp_path: Path) -> Iterator[ReceiverProcess]:
    """A receiver that tells of a gap after a second."""
    example = RUNTIMES["aiohttp"].start(tmp_path / "example", HOOK_SECRETS=NEW, GAP_AFTER="1")
    yield example
    example.kill()


async def catch_up(example: ReceiverProcess, port: int, secret: str = SECRET) -> str:
    """Run it on the inbox of a receiver and return what it says."""
    environment = {"GATEWAY": f"http://127.0.0.1:{port}", "APP_ID": APP_ID, "KEY": KEY, "SECRET": secret}
    process = await asyncio.create_subprocess_exec(
        sys.executable,
        EXAMPLES / "catch_up.py",
        env={**os.environ, **environment, "STATE": str(example.state)},
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.STDOUT,
    )
    async with asyncio.timeout(LONG_S):
        output, _ = await process.communicate()
    return output.decode()


async def test_what_was_given_up_is_told_as_a_gap_and_found_in_the_feed(
    example: ReceiverProcess, start_gateway: StartGateway
) -> None:
    endpoint = {
        "name": "backend",
        "url": f"http://127.0.0.1:{example.port}/hooks",
        "secrets": [NEW],
        "events": ["message.published"],
        "retry": {"initial": "20ms", "max_delay": "50ms", "max_attempts": 1},
    }
    gateway = await start_gateway(app(webhooks=[endpoint]))

    def heard() -> list[str]:
        # What was under way at the kill may be done twice.
        return list(dict.fromkeys(line.split()[2] for line in example.lines if line.startswith("evt_")))

    async def hear(*channels: str) -> None:
        await asyncio.to_thread(example.wait_until, lambda: heard() == list(channels), f"{channels}")

    async with Backend(gateway.port) as backend:
        assert await backend.publish("first", "told") == 200
        await hear("first")
        await asyncio.to_thread(example.kill)
        assert await backend.publish("second", "told") == 200
        await gateway.wait_for_line(lambda line: "webhook dead" in line)
        await asyncio.to_thread(example.start)
        assert await backend.publish("third", "told") == 200
        await hear("first", "third")
        await asyncio.to_thread(example.wait_for, f"gap {APP_ID}/backend@gw-1 2 to 2: ask the feed")
        assert "1 events had been missed" in await catch_up(example, gateway.port)
        await hear("first", "third", "second")
        assert "0 events had been missed" in await catch_up(example, gateway.port)
        assert "401" in await catch_up(example, gateway.port, "not-the-secret")
