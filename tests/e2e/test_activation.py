"""A restart behind a socket that somebody else holds, as systemd does: nobody is refused, whoever comes meanwhile waits."""

from __future__ import annotations

import asyncio
import socket
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import ClassVar

import pytest

from tests.e2e.client import Backend, Client
from tests.e2e.conftest import RunScript
from tests.e2e.gateway_process import APP_ID, KEY, SECRET, GatewayProcess, app
from tests.e2e.receiver import Receiver

SUCCEEDED = "pusher:subscription_succeeded"

#: what systemd does between fork and exec
HAND_OVER = """
import os, sys
os.dup2(int(sys.argv[1]), 3)
os.environ |= {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": "1"}
os.execv(sys.argv[2], sys.argv[2:])
"""


class Activated(GatewayProcess):
    """A gateway that is handed the socket."""

    listening: ClassVar[socket.socket]

    def command(self) -> list[str]:
        self.descriptors = (self.listening.fileno(),)
        return [sys.executable, "-c", HAND_OVER, str(self.listening.fileno()), *super().command()]


@pytest.fixture
def port() -> Iterator[int]:
    with socket.create_server(("127.0.0.1", 0)) as Activated.listening:
        yield Activated.listening.getsockname()[1]


async def test_a_restart_refuses_nobody(port: int, tmp_path: Path, run_everywhere: list[RunScript], receiver: Receiver) -> None:
    settings = {"apps": [app(webhooks=[receiver.endpoint()])], "outbox": {"mode": "disk"}}
    first = await Activated.start(tmp_path, settings, port)
    scripts = []
    for run_script in run_everywhere:
        scripts.append(await run_script("pusher_js.mjs"))
        scripts[-1].send("server", appId=APP_ID, key=KEY, secret=SECRET, port=port)
        scripts[-1].send("connect", key=KEY, port=port)
        scripts[-1].send("subscribe", channel="private-orders")
        await scripts[-1].expect("event", event=SUCCEEDED)
        await scripts[-1].expect("state", current="connected")
    began_at = time.monotonic()
    assert await first.stop() == 0
    assert not first.is_running
    # While there is no gateway, a client comes and a backend publishes.
    client = asyncio.create_task(Client.connect(port))
    async with Backend(port) as backend:
        published = asyncio.create_task(backend.publish("private-orders", "meanwhile"))
        await asyncio.wait([client, published], timeout=0.2)
        assert not client.done()
        assert not published.done()
        second = await Activated.start(tmp_path, settings, port)
        away_ms = (time.monotonic() - began_at) * 1000
        try:
            await (await client).close()
            assert await published == 200
            for script in scripts:
                left = await script.expect("state", previous="connected")
                back = await script.expect("state", current="connected")
                # pusher-js would have stayed away for 15 s if it had been refused once.
                assert back["at"] - left["at"] < away_ms + 10_000
                await script.expect("event", event=SUCCEEDED)
            assert await backend.publish("private-orders", "created", "7") == 200
            for script in scripts:
                assert (await script.expect("event", event="created"))["data"] == 7
                await script.stop()
        finally:
            assert await second.stop() == 0
    receiver.check_ledger()
