"""Users in Chromium: pages that sign in over the application's endpoint, watch each other, are reloaded and sent away."""

from __future__ import annotations

import json
import time
from typing import Any

from tests.e2e.application import Application
from tests.e2e.chromium import Tab
from tests.e2e.conftest import OpenTab, StartGateway
from tests.e2e.gateway_process import KEY, GatewayProcess, app
from tests.e2e.receiver import Receiver
from tests.patience import LONG_S

SUCCEEDED = "pusher:subscription_succeeded"


async def sign_in(tab: Tab, gateway: GatewayProcess, user: str, **more: Any) -> str:
    """Connect a page, sign in as this user, and return the socket id."""
    known = {"id": user, "user_info": {"name": user.title()}, **more}
    endpoint = {"endpoint": "/pusher/user-auth", "transport": "ajax", "params": {"user": json.dumps(known)}}
    options = {"userAuthentication": endpoint, "pongTimeout": 1000}
    tab.send("connect", key=KEY, port=gateway.port, options=options)
    connected = await tab.expect("state", current="connected")
    assert await tab.ask("signIn") == known
    socket_id: str = connected["socketId"]
    return socket_id


async def test_watched_sent_to_and_sent_away(
    gateway: GatewayProcess, application: Application, open_tab: OpenTab, receiver: Receiver
) -> None:
    application.use(gateway.port)
    ada, bo = await open_tab(), await open_tab()
    await sign_in(bo, gateway, "bo", watchlist=["ada"])
    assert (await bo.expect("watchlist", name="offline"))["ids"] == ["ada"]
    ada_socket = await sign_in(ada, gateway, "ada")
    assert (await bo.expect("watchlist", name="online"))["ids"] == ["ada"]
    # Who has signed in needs no other word of who he is.
    ada.send("subscribe", channel="presence-room")
    assert (await ada.expect("event", event=SUCCEEDED))["data"]["me"] == {"id": "ada", "info": {"name": "Ada"}}
    await application.send_to_user("ada", "note", {"hi": 1})
    assert (await ada.expect("user", event="note"))["data"] == {"hi": 1}
    await application.terminate("ada")
    assert (await ada.expect("error"))["code"] == 4009
    await ada.expect("state", current="disconnected")
    closed = await receiver.one("connection.closed", socket_id=ada_socket)
    assert (closed.data["reason"], closed.data["user_id"]) == ("terminated", "ada")
    assert (await bo.expect("watchlist", name="offline"))["ids"] == ["ada"]
    assert [message for message in bo.messages if message["type"] in ("error", "user")] == []
    await bo.stop()
    assert await gateway.stop() == 0
    receiver.check_ledger()


async def test_to_those_who_watch_a_reload_is_no_departure(
    start_gateway: StartGateway, application: Application, open_tab: OpenTab, receiver: Receiver
) -> None:
    for linger_s in LINGERS_S:
        if await reload_before_a_watcher(start_gateway, application, open_tab, receiver, linger_s):
            return
    raise AssertionError(f"no page was reloaded within {LINGERS_S[-1]:g} s")


#: a reload must not take longer than the linger, the end of which is waited for: so first one that is short, and then others
LINGERS_S = (3.0, 12.0, LONG_S)


async def reload_before_a_watcher(
    start_gateway: StartGateway, application: Application, open_tab: OpenTab, receiver: Receiver, linger_s: float
) -> bool:
    """Have a page reloaded and another one closed; False if the first took longer than the linger, so that it proves nothing."""
    one = app(webhooks=[receiver.endpoint()], linger=f"{linger_s:g}s")
    gateway = await start_gateway(one, folder=f"linger-{linger_s:g}")
    application.use(gateway.port)
    watcher, ada, bo = await open_tab(), await open_tab(), await open_tab()
    await sign_in(ada, gateway, "ada")
    await sign_in(bo, gateway, "bo")
    await sign_in(watcher, gateway, "eve", watchlist=["ada", "bo"])
    assert sorted((await watcher.expect("watchlist", name="online"))["ids"]) == ["ada", "bo"]
    began = time.monotonic()
    await ada.reload()
    await sign_in(ada, gateway, "ada")
    if time.monotonic() - began >= linger_s:
        return False
    # Whose departure is noticed leaves later than the other's page was reloaded.
    await bo.stop()
    assert (await watcher.expect("watchlist", name="offline"))["ids"] == ["bo"]
    assert [message for message in watcher.messages if message["type"] == "watchlist"] == []
    return True


async def test_a_page_signs_in_again_by_itself(
    gateway: GatewayProcess, application: Application, open_tab: OpenTab, receiver: Receiver
) -> None:
    application.use(gateway.port)
    tab = await open_tab()
    first = await sign_in(tab, gateway, "ada")
    await tab.go_offline()
    await tab.expect("state", previous="connected")
    await tab.go_offline(False)
    second = (await tab.expect("state", current="connected"))["socketId"]
    assert second != first
    assert (await receiver.one("connection.authenticated", socket_id=second)).data["user_id"] == "ada"
    await application.send_to_user("ada", "note", 7)
    assert (await tab.expect("user", event="note"))["data"] == 7
