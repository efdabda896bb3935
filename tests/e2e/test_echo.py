"""Laravel Echo under Node and in Chromium, with both of its broadcasters that speak this protocol, against the real gateway."""

from __future__ import annotations

import secrets
from base64 import b64encode

import pytest

from tests.e2e.application import Application
from tests.e2e.conftest import RunScript
from tests.e2e.gateway_process import KEY, GatewayProcess
from tests.e2e.receiver import Receiver
from tests.e2e.script import Script

#: what Laravel broadcasts a notification as
NOTIFICATION = "Illuminate\\Notifications\\Events\\BroadcastNotificationCreated"


@pytest.fixture(params=["reverb", "pusher"])
def broadcaster(request: pytest.FixtureRequest) -> str:
    name: str = request.param
    return name


@pytest.fixture
async def echo(run_script: RunScript, gateway: GatewayProcess, application: Application, broadcaster: str) -> Script:
    """Two users' Echoes in one script: ada and bo."""
    application.use(gateway.port, master_key=b64encode(secrets.token_bytes(32)).decode())
    script = await run_script("echo.mjs")
    for who in ("ada", "bo"):
        script.send("connect", who=who, broadcaster=broadcaster, key=KEY, port=gateway.port, url=application.url)
        await script.expect("status", who=who, status="connected")
    return script


async def subscribe(script: Script, who: str, kind: str, channel: str, **more: object) -> None:
    script.send("subscribe", who=who, kind=kind, channel=channel, **more)
    await script.expect("heard", who=who, channel=channel, event="subscribed")


async def test_listening_on_every_kind_of_channel(echo: Script, application: Application, receiver: Receiver) -> None:
    names = {"public": "a", "private": "private-a", "encrypted": "private-encrypted-a", "presence": "presence-a"}
    for kind, full in names.items():
        # Without a dot in front Echo takes the name for a class of the application.
        await subscribe(echo, "ada", kind, "a", listen=["OrderShipped", ".order.shipped"])
        await application.publish(full, "App\\Events\\OrderShipped", {"id": kind})
        assert (await echo.expect("heard", event="OrderShipped"))["data"] == {"id": kind}
        await application.publish(full, "order.shipped", {"id": kind})
        assert (await echo.expect("heard", event=".order.shipped"))["data"] == {"id": kind}
    sealed = await receiver.wait_for("message.published", count=2, channel="private-encrypted-a")
    assert all("ciphertext" in event.data["data"] for event in sealed)
    # Leaving leaves the channels of every kind that have this name.
    echo.send("leave", who="ada", channel="a")
    for full in names.values():
        await receiver.one("channel.unsubscribed", channel=full)
        await receiver.one("channel.vacated", channel=full)


async def test_here_joining_leaving_whispers_and_notifications(
    echo: Script, gateway: GatewayProcess, application: Application, receiver: Receiver
) -> None:
    room = {"kind": "presence", "channel": "room"}
    await subscribe(echo, "ada", **room, whispers=["typing"])
    assert (await echo.expect("heard", who="ada", event="here"))["data"] == [{"name": "ada"}]
    await subscribe(echo, "bo", **room, whispers=["typing"])
    here = (await echo.expect("heard", who="bo", event="here"))["data"]
    assert sorted(member["name"] for member in here) == ["ada", "bo"]
    assert (await echo.expect("heard", who="ada", event="joining"))["data"] == {"name": "bo"}
    echo.send("whisper", who="bo", **room, event="typing", data={"on": True})
    assert (await echo.expect("heard", event="typing"))["who"] == "ada"
    said = await receiver.one("client_event", channel="presence-room")
    assert (said.data["event"], said.data["user_id"]) == ("client-typing", "bo")
    for who in ("ada", "bo"):
        await subscribe(echo, who, "private", f"App.Models.User.{who}", whispers=["draft"], notifications=True)
    note = {"id": "n-1", "type": "App\\Notifications\\InvoicePaid", "amount": 12}
    await application.publish("private-App.Models.User.ada", NOTIFICATION, note)
    heard = await echo.expect("heard", event="notification")
    assert (heard["who"], heard["data"]) == ("ada", note)
    echo.send("leave", who="bo", channel="room")
    assert (await echo.expect("heard", who="ada", event="leaving"))["data"] == {"name": "bo"}
    echo.send("disconnect", who="bo")
    await echo.expect("status", who="bo", status="disconnected")
    await receiver.one("channel.vacated", channel="private-App.Models.User.bo")
    await echo.stop()
    assert await gateway.stop() == 0
    receiver.check_ledger()


async def test_what_the_application_forbids_is_an_error(echo: Script, application: Application, receiver: Receiver) -> None:
    application.forbidden.add("private-orders")
    echo.send("subscribe", who="ada", kind="private", channel="orders")
    assert (await echo.expect("heard", who="ada", event="error"))["data"]["status"] == 403
    # And so is what the gateway refuses, here for a signature with another secret.
    application.use(1, secret="not-the-secret")
    echo.send("subscribe", who="bo", kind="private", channel="invoices")
    assert (await echo.expect("heard", who="bo", event="error"))["data"]["status"] == 401
    await receiver.one("connection.auth_failed", channel="private-invoices")
