"""What only a browser does: several pages, reloads, closed tabs, lost networks; with the ledger watching."""

from __future__ import annotations

import json
from pathlib import Path

from tests.device.front_kit import tls_contexts
from tests.e2e.application import Application
from tests.e2e.chromium import Tab
from tests.e2e.client import Backend, departing
from tests.e2e.conftest import Connect, OpenTab, StartGateway
from tests.e2e.gateway_process import KEY, GatewayProcess, app
from tests.e2e.receiver import Receiver

SUCCEEDED = "pusher:subscription_succeeded"
ROOM = "presence-room"


async def enter(tab: Tab, gateway: GatewayProcess, user: str, *channels: str, **options: object) -> str:
    """Connect a page as this user, subscribe to channels, and return its socket id."""
    member = {"user_id": user, "user_info": {"name": user.title()}}
    tab.send("connect", key=KEY, port=gateway.port, member=member, options=options)
    connected = await tab.expect("state", current="connected")
    for channel in channels:
        tab.send("subscribe", channel=channel, events=["client-typing"])
        await tab.expect("event", channel=channel, event=SUCCEEDED)
    socket_id: str = connected["socketId"]
    return socket_id


async def test_the_ledger_sees_what_two_pages_do(
    gateway: GatewayProcess, application: Application, open_tab: OpenTab, receiver: Receiver
) -> None:
    application.use(gateway.port)
    ada, bo = await open_tab(), await open_tab()
    ada_socket = await enter(ada, gateway, "ada", "orders", ROOM)
    bo_socket = await enter(bo, gateway, "bo", "private-chat", ROOM)
    assert application.asked == [ROOM, "private-chat", ROOM]
    assert (await ada.expect("event", event="pusher:member_added"))["data"] == {"id": "bo", "info": {"name": "Bo"}}
    opened = await receiver.one("connection.opened", socket_id=ada_socket)
    assert opened.data["client"] == "js/8.6.0"
    assert opened.data["origin"] == application.url
    assert "HeadlessChrome" in opened.data["user_agent"]
    assert await bo.ask("trigger", channel=ROOM, event="client-typing", data={"on": True})
    assert (await ada.expect("bound", event="client-typing"))["userId"] == "bo"
    said = await receiver.one("client_event", channel=ROOM)
    assert (said.data["user_id"], said.data["socket_id"], said.data["data"]) == ("bo", bo_socket, '{"on":true}')
    await application.publish("orders", "created", {"id": 17})
    assert (await ada.expect("event", event="created"))["data"] == {"id": 17}
    assert (await receiver.one("message.published", channel="orders")).data["recipients"] == 1
    bo.send("unsubscribe", channel="private-chat")
    await receiver.one("channel.vacated", channel="private-chat")
    ada.send("disconnect")
    assert (await bo.expect("event", event="pusher:member_removed"))["data"] == {"id": "ada", "info": {"name": "Ada"}}
    closed = await receiver.one("connection.closed", socket_id=ada_socket)
    assert closed.data["reason"] == "client"
    assert await gateway.stop() == 0
    receiver.check_ledger()


async def test_a_reload_is_no_departure_and_a_closed_tab_is(
    start_gateway: StartGateway, application: Application, open_tab: OpenTab, connect: Connect, receiver: Receiver
) -> None:
    webhooks = [receiver.endpoint(concurrency=1)]
    gateway = await start_gateway(app(webhooks=webhooks, linger="1h"))
    application.use(gateway.port)
    tab = await open_tab()
    first = await enter(tab, gateway, "ada", ROOM, "orders")
    await tab.reload()
    second = await enter(tab, gateway, "ada", ROOM, "orders")
    assert second != first
    await receiver.one("connection.closed", socket_id=first)
    assert await departing(gateway.port) == []
    # However long that has taken, it was within the linger; the end of it is worth waiting for now.
    await gateway.reload([app(webhooks=webhooks, linger="1s")])
    # One lane, so that whatever there was to tell comes before this.
    witness = await connect(gateway)
    await receiver.one("connection.opened", socket_id=witness.socket_id)
    assert receiver.kinds(user_id="ada", channel=ROOM).count("channel.member_added") == 1
    assert "channel.vacated" not in receiver.kinds()
    assert "channel.member_removed" not in receiver.kinds()
    await tab.stop()
    closed = await receiver.one("connection.closed", socket_id=second)
    assert closed.data["reason"] in ("client", "connection_lost")
    removed = await receiver.one("channel.member_removed", channel=ROOM, user_id="ada")
    vacated = [await receiver.one("channel.vacated", channel=channel) for channel in (ROOM, "orders")]
    for late in (removed, *vacated):
        assert late.happened_at - closed.happened_at > 0.99
    await witness.close()
    assert await gateway.stop() == 0
    receiver.check_ledger()


async def test_a_page_that_loses_the_network_comes_back(
    gateway: GatewayProcess, application: Application, open_tab: OpenTab, receiver: Receiver
) -> None:
    application.use(gateway.port)
    tab = await open_tab()
    # Only the ping that it sends when it is told that there is no network may remain without an answer.
    first = await enter(tab, gateway, "ada", "private-orders", pongTimeout=1000)
    await tab.go_offline()
    await tab.expect("state", previous="connected")
    await tab.go_offline(False)
    second = (await tab.expect("state", current="connected"))["socketId"]
    await tab.expect("event", channel="private-orders", event=SUCCEEDED)
    await application.publish("private-orders", "created", 7)
    assert (await tab.expect("event", event="created"))["data"] == 7
    await receiver.one("connection.closed", socket_id=first)
    assert second != first


async def test_a_thousand_messages_in_order(
    gateway: GatewayProcess, backend: Backend, application: Application, open_tab: OpenTab
) -> None:
    application.use(gateway.port)
    tabs = [await open_tab(), await open_tab()]
    for tab in tabs:
        await enter(tab, gateway, "ada", "orders")
    for number in range(100):
        batch = [{"channel": "orders", "name": "created", "data": str(10 * number + step)} for step in range(10)]
        status, _, _ = await backend.call("POST", "/batch_events", json.dumps({"batch": batch}).encode())
        assert status == 200
    for tab in tabs:
        heard = [(await tab.expect("event", event="created"))["data"] for _ in range(1000)]
        assert heard == list(range(1000))


async def test_a_page_that_may_not_subscribe_never_asks_the_gateway(
    gateway: GatewayProcess, application: Application, open_tab: OpenTab, receiver: Receiver
) -> None:
    application.use(gateway.port)
    application.forbidden.add("private-orders")
    tab = await open_tab()
    socket_id = await enter(tab, gateway, "ada")
    tab.send("subscribe", channel="private-orders")
    error = await tab.expect("event", channel="private-orders", event="pusher:subscription_error")
    assert error["data"]["status"] == 403
    tab.send("disconnect")
    await receiver.one("connection.closed", socket_id=socket_id)
    assert receiver.kinds() == ["connection.opened", "connection.closed"]


async def test_over_the_gateways_own_tls(
    start_gateway: StartGateway, application: Application, open_tab: OpenTab, tmp_path: Path, receiver: Receiver
) -> None:
    _, trust = tls_contexts(tmp_path)
    both = str(tmp_path / "both.pem")
    gateway = await start_gateway(
        app(webhooks=[receiver.endpoint()], needs_tls=True), server={"tls": {"cert": both, "key": both}}
    )
    application.use(gateway.port)
    tab = await open_tab()
    options = {"forceTLS": True, "wssPort": gateway.port, "enabledTransports": ["ws", "wss"]}
    await enter(tab, gateway, "ada", ROOM, **options)
    async with Backend(gateway.port, ssl=trust) as backend:
        for number in range(10):
            assert await backend.publish(ROOM, "created", json.dumps([number, "x" * 10_000])) == 200
    for number in range(10):
        assert (await tab.expect("event", event="created"))["data"] == [number, "x" * 10_000]
    await tab.reload()
    await enter(tab, gateway, "ada", ROOM, **options)
    await tab.stop()
    await receiver.wait_for("connection.closed", count=2)
    assert await gateway.stop() == 0
    receiver.check_ledger()
