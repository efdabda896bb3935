"""The ways in, on the real gateway: TLS with a certificate that is renewed, compression, a path prefix, proxies, Unix sockets."""

from __future__ import annotations

import asyncio
import json
import re
import signal
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pytest
from websockets.asyncio.client import connect as dial
from websockets.asyncio.client import unix_connect
from websockets.exceptions import WebSocketException

from tests.certificate import anybody, serial_of, write_pair
from tests.e2e import bare
from tests.e2e.client import QUERY, Backend, Client
from tests.e2e.conftest import Connect, RunNode, StartGateway
from tests.e2e.gateway_process import APP_ID, KEY, SECRET, GatewayProcess, app, free_port
from tests.e2e.receiver import Receiver
from tests.patience import LONG_S

OPTIONS: dict[str, Any] = {"open_timeout": LONG_S, "close_timeout": 20, "ping_interval": None, "proxy": None}


async def let_in(ws: Any) -> Client:
    """Make a client of a connection that was upgraded by hand."""
    client = Client(ws, KEY, SECRET)
    frame = await client.next()
    assert frame["event"] == "pusher:connection_established", frame
    client.socket_id = json.loads(frame["data"])["socket_id"]
    return client


async def shown(gateway: GatewayProcess) -> int:
    """Connect over TLS and return the number of the certificate that is served."""
    client = await Client.connect(gateway.port, ssl=anybody())
    serial = serial_of(client.ws.transport.get_extra_info("ssl_object"))
    await client.close()
    return serial


# -- TLS -------------------------------------------------------------------------------------------------------------------


async def test_a_renewed_certificate_is_served_and_who_is_in_stays(
    start_gateway: StartGateway, connect: Connect, tmp_path: Path
) -> None:
    cert, key, first = write_pair(tmp_path)
    settings = app(webhooks=[])
    gateway = await start_gateway(settings, server={"tls": {"cert": str(cert), "key": str(key)}})
    client = await connect(gateway, ssl=anybody())
    await client.subscribe("orders")
    async with Backend(gateway.port, ssl=anybody()) as backend:

        async def stays(number: int) -> None:
            assert await backend.publish("orders", f"still-here-{number}") == 200
            await client.expect(f"still-here-{number}", "orders")

        assert await shown(gateway) == first
        await stays(0)
        # By the signal.
        *_, second = write_pair(tmp_path)
        await gateway.reload([settings])
        assert await shown(gateway) == second
        await stays(1)
        # By itself.
        heard = len(gateway.lines)
        *_, third = write_pair(tmp_path)
        await gateway.wait_for_line(lambda line: "serving a certificate" in line and line in gateway.lines[heard:])
        assert await shown(gateway) == third
        await stays(2)
        # Broken: by the signal, and then by itself.
        write_pair(tmp_path, "other")[1].replace(key)
        line = await gateway.hang_up("nothing was changed")
        assert f"{key} does not belong to the certificate in {cert}" in line
        await gateway.wait_for_line(lambda line: "the certificate was not renewed" in line and str(key) in line)
        assert await shown(gateway) == third
        await stays(3)
        *_, fourth = write_pair(tmp_path)
        await gateway.hang_up()
        assert await shown(gateway) == fourth
        await stays(4)
    assert serial_of(client.ws.transport.get_extra_info("ssl_object")) == first


async def test_pusher_js_over_tls(
    start_gateway: StartGateway, run_node: RunNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    cert, key, _ = write_pair(tmp_path)
    monkeypatch.setenv("NODE_EXTRA_CA_CERTS", str(cert))
    gateway = await start_gateway(app(webhooks=[], needs_tls=True), server={"tls": {"cert": str(cert), "key": str(key)}})
    script = await run_node("pusher_js.mjs")
    script.send("server", appId=APP_ID, key=KEY, secret=SECRET, port=gateway.port)
    options = {"wssPort": gateway.port, "forceTLS": True, "enabledTransports": ["ws", "wss"]}
    script.send("connect", key=KEY, port=gateway.port, options=options)
    await script.expect("state", current="connected")
    script.send("subscribe", channel="private-orders")
    await script.expect("event", channel="private-orders", event="pusher:subscription_succeeded")
    async with Backend(gateway.port, ssl=anybody()) as backend:
        assert await backend.publish("private-orders", "created", '{"id":17}') == 200
    assert (await script.expect("event", channel="private-orders", event="created"))["data"] == {"id": 17}


# -- compression -----------------------------------------------------------------------------------------------------------


async def test_compression_on_and_off(start_gateway: StartGateway) -> None:
    text = json.dumps([{"id": number} for number in range(500)])
    for is_on in (True, False):
        gateway = await start_gateway(app(webhooks=[]), server={"compression": is_on}, folder=f"on-{is_on}")
        url = f"ws://127.0.0.1:{gateway.port}/app/{KEY}?{QUERY}"
        client = await let_in(await dial(url, compression="deflate", **OPTIONS))
        assert [extension.name for extension in client.ws.protocol.extensions] == ["permessage-deflate"] * is_on
        await client.subscribe("orders")
        async with Backend(gateway.port) as backend:
            assert await backend.publish("orders", "many", text) == 200
        assert (await client.expect("many", "orders"))["data"] == text
        # The client compresses too.
        await client.send("pusher:ping", {"padding": text})
        await client.expect("pusher:pong")


# -- the path prefix -------------------------------------------------------------------------------------------------------


async def test_sockets_and_the_api_under_a_prefix_and_without(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(app(webhooks=[]), server={"path_prefix": "/realtime"})
    for prefix in ("/realtime", ""):
        url = f"ws://127.0.0.1:{gateway.port}{prefix}/app/{KEY}?{QUERY}"
        client = await let_in(await dial(url, **OPTIONS))
        await client.subscribe("orders")
        async with Backend(gateway.port, prefix=prefix) as backend:
            assert await backend.publish("orders", "created") == 200
        await client.expect("created", "orders")


# -- proxies ---------------------------------------------------------------------------------------------------------------


async def told(receiver: Receiver, client: Client) -> str:
    """Return the address that the webhook about a connection has."""
    event = await receiver.one("connection.opened", socket_id=client.socket_id)
    address: str = event.data["remote_ip"]
    return address


async def test_the_client_s_address_behind_the_proxy_protocol(start_gateway: StartGateway, receiver: Receiver) -> None:
    gateway = await start_gateway(server={"trusted_proxies": ["127.0.0.0/8"], "proxy_protocol": True})
    raw = bare.dial(gateway.port)
    raw.sendall(b"PROXY TCP4 203.0.113.9 192.0.2.1 56324 443\r\n")
    url = f"ws://127.0.0.1:{gateway.port}/app/{KEY}?{QUERY}"
    client = await let_in(await dial(url, sock=raw, **OPTIONS))
    assert await told(receiver, client) == "203.0.113.9"


async def test_a_unix_socket_beside_the_port(start_gateway: StartGateway, receiver: Receiver, tmp_path: Path) -> None:
    path = tmp_path / "rawpush.sock"
    gateway = await start_gateway(server={"unix_socket": str(path), "unix_socket_mode": "600"})
    assert path.stat().st_mode & 0o777 == 0o600
    forwarded = {"X-Forwarded-For": "203.0.113.9"}
    client = await let_in(
        await unix_connect(str(path), f"ws://localhost/app/{KEY}?{QUERY}", additional_headers=forwarded, **OPTIONS)
    )
    assert await told(receiver, client) == "203.0.113.9"
    await client.subscribe("orders")
    async with Backend(gateway.port) as backend:
        assert await backend.publish("orders", "created") == 200
    await client.expect("created", "orders")
    # Another one that would have the same path does not start, and does not take it away.
    config = tmp_path / "other.toml"
    said = gateway.config.read_text()
    for old, new in ((str(gateway.port), str(free_port())), ('/state"', '/other"')):
        assert old in said
        said = said.replace(old, new)
    config.write_text(said)
    other = GatewayProcess(config, 0)
    await other.run()
    assert await other.ended() == 1
    assert "somebody listens on" in "\n".join(other.lines)
    await client.settle()
    # After a kill the file is left, and the next one takes it over.
    gateway.kill()
    await gateway.ended()
    assert path.exists()
    again = await start_gateway(app(webhooks=[]), server={"unix_socket": str(path)}, folder="again")
    await let_in(await unix_connect(str(path), f"ws://localhost/app/{KEY}?{QUERY}", **OPTIONS))
    assert await again.stop() == 0
    assert not path.exists()


# -- descriptors -----------------------------------------------------------------------------------------------------------

FILES = 160


@asynccontextmanager
async def short_of_files(folder: Path, receiver: Receiver) -> AsyncIterator[GatewayProcess]:
    gateway = await GatewayProcess.start(folder, {"apps": [app(webhooks=[receiver.endpoint()])]}, files=(FILES // 2, FILES))
    try:
        yield gateway
    finally:
        assert await gateway.stop() == 0
        assert gateway.tracebacks == []


async def test_when_files_run_out_newcomers_are_turned_away_and_all_else_goes_on(
    receiver: Receiver, connect: Connect, tmp_path: Path
) -> None:
    async with short_of_files(tmp_path, receiver) as gateway, Backend(gateway.port) as backend:
        await gateway.wait_for_line(lambda line: f'"limit":{FILES}' in line and f'"raised_from":{FILES // 2}' in line)
        client = await connect(gateway)
        await client.subscribe("orders")
        await receiver.one("channel.occupied", channel="orders")
        # The back end's connection is there before it gets crowded, and is kept alive.
        assert await backend.publish("orders", "e") == 200
        idle = [bare.dial(gateway.port) for _ in range(2 * FILES)]
        await gateway.wait_for_line(lambda line: "newcomers are turned away" in line)
        # Nothing spins: what comes next costs no more than it always does.
        before = processor_ticks(gateway)
        for number in range(3):
            assert await backend.publish("orders", f"e{number}") == 200
            await client.expect(f"e{number}", "orders")
        # Webhooks still find a descriptor.
        await client.subscribe("later")
        await receiver.one("channel.occupied", channel="later")
        assert processor_ticks(gateway) - before < 100
        for one in idle:
            one.close()
        # Whoever comes when there is room again is let in.
        async with asyncio.timeout(LONG_S):
            while True:
                try:
                    newcomer = await connect(gateway)
                    break
                except (OSError, EOFError, WebSocketException):
                    await asyncio.sleep(0)
        await newcomer.subscribe("orders")
        async with aiohttp.ClientSession() as http, http.get(f"{gateway.admin}/metrics") as answer:
            (turned_away,) = re.findall(r"^rawpush_newcomers_turned_away_total (\S+)", await answer.text(), re.MULTILINE)
        assert float(turned_away) > FILES
        gateway.signal(signal.SIGHUP)
        assert len([line for line in gateway.lines if "turned away" in line]) == 1


def processor_ticks(gateway: GatewayProcess) -> int:
    """Return how many hundredths of a second of processor time the process has taken."""
    fields = Path(f"/proc/{gateway.pid}/stat").read_text().rpartition(")")[2].split()
    return int(fields[11]) + int(fields[12])
