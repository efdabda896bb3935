"""The gateway behind nginx and behind Caddy, with the very configurations that docs/ gives."""

from __future__ import annotations

import re
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path

import pytest

from gateway.config.record import Server
from gateway.desk import LONGEST_WAIT_S
from tests.e2e.application import Application
from tests.e2e.client import Backend, Client
from tests.e2e.conftest import OpenTab, StartGateway
from tests.e2e.gateway_process import KEY, GatewayProcess, app
from tests.e2e.proxy import NGINX, Proxy
from tests.e2e.receiver import Receiver

StartProxy = Callable[[GatewayProcess], Awaitable[Proxy]]

BEHIND = {"trusted_proxies": ["127.0.0.1/32"]}


@pytest.fixture(params=["nginx", "caddy"])
async def start_proxy(request: pytest.FixtureRequest, tmp_path: Path) -> AsyncIterator[StartProxy]:
    """Put a proxy in front of a gateway; at the end it must have found nothing wrong."""
    folder = tmp_path / "proxy"
    folder.mkdir()
    started: list[Proxy] = []

    async def start(gateway: GatewayProcess) -> Proxy:
        started.append(await Proxy.start(request.param, folder, gateway.port))
        return started[-1]

    yield start
    for proxy in started:
        await proxy.stop()
        assert [line for line in proxy.lines if re.search(r'\[(error|crit|alert|emerg)\]|"level":"error"', line)] == []


async def test_the_gateway_sees_through_it(start_gateway: StartGateway, start_proxy: StartProxy, receiver: Receiver) -> None:
    gateway = await start_gateway(app(webhooks=[receiver.endpoint()], needs_tls=True), server=BEHIND)
    proxy = await start_proxy(gateway)
    # Who says what he is not is not believed: the proxy's word comes last.
    lies = {"X-Forwarded-For": "203.0.113.9", "X-Forwarded-Proto": "http"}
    client = await Client.connect(
        proxy.port, ssl=proxy.trust, local_addr=("127.0.0.2", 0), additional_headers=lies, origin="https://shop.example.com"
    )
    opened = await receiver.one("connection.opened")
    assert opened.data["remote_ip"] == "127.0.0.2"
    assert opened.data["origin"] == "https://shop.example.com"
    await client.join("presence-room", "u-1")
    async with Backend(proxy.port, ssl=proxy.trust) as backend:
        assert await backend.publish("presence-room", "created", "x" * 10_000) == 200
        assert len((await client.expect("created"))["data"]) == 10_000
        assert await backend.get("/channels/presence-room/users") == {"users": [{"id": "u-1"}]}
    # Past the proxy there is no TLS, and no trusted proxy to say otherwise.
    plain = await Client.dial(gateway.port, local_addr=("127.0.0.2", 0), additional_headers={"X-Forwarded-Proto": "https"})
    assert await plain.closed() == 4000
    await client.close()
    assert (await receiver.one("connection.closed")).data["reason"] == "client"


async def test_requests_share_lines_to_the_gateway(
    start_gateway: StartGateway, start_proxy: StartProxy, receiver: Receiver
) -> None:
    gateway = await start_gateway(app(), server=BEHIND)
    proxy = await start_proxy(gateway)
    for number in range(1, 6):
        for _ in range(5):
            async with Backend(proxy.port, ssl=proxy.trust) as backend:
                assert await backend.get("/channels") == {"channels": {"orders": {}} if number > 1 else {}}
        # All of them over one line, which is kept. nginx takes it for the WebSocket too, Caddy a new one.
        assert lines_of(gateway) == number
        client = await Client.connect(proxy.port, ssl=proxy.trust)
        await client.subscribe("orders")
        assert lines_of(gateway) == number + (proxy.kind == "caddy")


async def test_a_page_that_is_told_to_use_tls_comes_back_over_tls(
    start_gateway: StartGateway, start_proxy: StartProxy, application: Application, open_tab: OpenTab, receiver: Receiver
) -> None:
    gateway = await start_gateway(app(webhooks=[receiver.endpoint()], needs_tls=True), server=BEHIND)
    proxy = await start_proxy(gateway)
    application.use(gateway.port)
    tab = await open_tab()
    options = {"wssPort": proxy.port, "enabledTransports": ["ws", "wss"]}
    tab.send("connect", key=KEY, port=gateway.port, options=options)
    assert (await tab.expect("error"))["code"] == 4000
    await tab.expect("state", current="connected")
    tab.send("subscribe", channel="private-orders")
    await tab.expect("event", event="pusher:subscription_succeeded")
    async with Backend(proxy.port, ssl=proxy.trust) as backend:
        assert await backend.publish("private-orders", "created", "7") == 200
    assert (await tab.expect("event", event="created"))["data"] == 7
    tab.send("disconnect")
    assert (await receiver.one("connection.closed")).data["reason"] == "client"


def lines_of(gateway: GatewayProcess) -> int:
    """Return how many TCP connections the gateway holds."""
    port = f":{gateway.port:04X}"
    rows = [row.split() for row in Path("/proc/net/tcp").read_text().splitlines()[1:]]
    return sum(row[1].endswith(port) and row[3] == "01" for row in rows)


def test_nginx_waits_longer_than_the_gateway_does() -> None:
    websockets_s, api_s = [int(found) for found in re.findall(r"proxy_read_timeout (\d+)s;", NGINX)]
    assert websockets_s > Server().activity_timeout_s + Server().pong_timeout_s
    assert api_s > LONGEST_WAIT_S
