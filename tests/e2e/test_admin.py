"""The operator's port of a real gateway: reload over HTTP, metrics, and a command that asks."""

from __future__ import annotations

import asyncio
import sys

from tests.e2e.conftest import Connect, StartGateway
from tests.e2e.gateway_process import APP_ID, ROOT, GatewayProcess, app
from tests.e2e.operator import ask, metrics
from tests.e2e.receiver import Answer, Receiver
from tests.patience import LONG_S


async def rawpush(gateway: GatewayProcess, *arguments: str) -> tuple[int | None, str]:
    process = await asyncio.create_subprocess_exec(
        sys.executable, "-m", "gateway", arguments[0], "-c", str(gateway.config), "--url", gateway.admin, *arguments[1:],
        cwd=ROOT, stdout=asyncio.subprocess.PIPE, stderr=asyncio.subprocess.STDOUT,
    )  # fmt: skip
    async with asyncio.timeout(LONG_S):
        output, _ = await process.communicate()
    return process.returncode, output.decode()


async def test_a_reload_over_http_first_with_a_broken_file_and_nobody_is_dropped(
    start_gateway: StartGateway, receiver: Receiver, connect: Connect
) -> None:
    apps = [app(webhooks=[receiver.endpoint()])]
    gateway = await start_gateway(*apps, admin={"port": 0, "token": "admin-token"})
    clients = [await connect(gateway) for _ in range(3)]
    whole = gateway.config.read_text()
    gateway.config.write_text(whole.replace('"linger"', '"lingre"').replace('"client_events"', '"client_evnts"'))
    status, answer = await ask(gateway, "POST", "/v1/reload")
    assert status == 422
    assert [mistake["place"] for mistake in answer["mistakes"]] == ["apps[0].lingre"]
    assert 'did you mean "linger"?' in answer["mistakes"][0]["error"]
    await gateway.wait_for_line(lambda line: "mistake" in line and "lingre" in line)
    code, said = await rawpush(gateway, "reload")
    assert code == 1
    assert 'apps[0].lingre: unknown setting; did you mean "linger"?' in said

    gateway.config.write_text(whole.replace('"demo-secret"', '"another"'))
    answers = await asyncio.gather(*(ask(gateway, "POST", "/v1/reload") for _ in range(4)))
    assert answers == [(200, {"reloaded": True, "apps": 1, "endpoints": 1, "at_next_start": []})] * 4
    assert await rawpush(gateway, "reload") == (0, "reloaded: 1 app, 1 endpoint\n")
    for client in clients:
        client.secret = "another"
        await client.subscribe("private-a")
        assert await client.settle() == []
    _, told = await ask(gateway, "GET", "/v1/connections")
    assert [one["socket_id"] for one in told["connections"]] == [client.socket_id for client in clients]


async def test_metrics_follow_what_happens(start_gateway: StartGateway, receiver: Receiver, connect: Connect) -> None:
    receiver.rules.append(lambda hook: Answer(status=500) if hook.attempt == 1 else None)
    gateway = await start_gateway(app(webhooks=[receiver.endpoint(concurrency=1)]), admin={"port": 0, "token": "admin-token"})
    client = await connect(gateway)
    await client.subscribe("orders")
    publication = {"name": "created", "channel": "orders", "data": "{}"}
    assert await ask(gateway, "POST", f"/v1/apps/{APP_ID}/events", json=publication) == (200, {})
    await client.expect("created")
    await receiver.one("message.published")
    found = await metrics(gateway)
    assert found["rawpush_connections", APP_ID] == found["rawpush_channels", APP_ID] == 1
    assert found["rawpush_publications_total", "http"] == found["rawpush_deliveries_total",] == 1
    # Established, subscribed, created.
    assert found["rawpush_frames_sent_total",] == 3
    assert found["rawpush_sent_bytes_total",] > 100
    assert found["rawpush_events_total", "channel.occupied"] == 1
    assert found["rawpush_webhook_attempts_total", APP_ID, "all", "5xx"] >= 1
    assert found["rawpush_webhook_attempts_total", APP_ID, "all", "2xx"] >= 1
    assert found["rawpush_outbox_writable",] == found["rawpush_ready",] == 1
    status, told = await ask(
        gateway, "POST", f"/v1/apps/{APP_ID}/connections/{client.socket_id}/terminate", json={"reconnect": True}
    )
    assert (status, told["code"]) == (200, 4200)
    assert await client.closed() == 4200
    closed = await receiver.one("connection.closed")
    assert closed.data["reason"] == "terminated"
    after = await metrics(gateway)
    assert after["rawpush_connections", APP_ID] == 0
    assert after["rawpush_sent_bytes_total",] >= found["rawpush_sent_bytes_total",]


async def test_who_may_ask(start_gateway: StartGateway, receiver: Receiver) -> None:
    gateway = await start_gateway(admin={"port": 0, "token": "admin-token"})
    for headers in ({}, {"Authorization": "Bearer other"}):
        assert (await ask(gateway, "GET", "/metrics", headers=headers))[0] == 401
        assert (await ask(gateway, "GET", "/healthz", headers=headers)) == (200, {"ok": True})
        assert (await ask(gateway, "GET", "/readyz", headers=headers)) == (200, {"ready": True})
    assert "admin-token" not in "\n".join(gateway.lines)
    open_to_us = await start_gateway(folder="second")
    assert (await ask(open_to_us, "GET", "/v1/overview", headers={}))[0] == 200
    assert (await ask(open_to_us, "GET", "/v1/overview", headers={"Host": "evil.example"}))[0] == 403
    assert (await ask(open_to_us, "POST", "/v1/reload", headers={"Content-Type": "text/plain"}))[0] == 415


async def test_a_second_gateway_on_the_same_admin_port_says_what_helps(start_gateway: StartGateway, receiver: Receiver) -> None:
    first = await start_gateway()
    port = int(first.admin.rpartition(":")[2])
    second = GatewayProcess(first.config.parent / "second.toml", 0)
    second.config.write_text(
        f'admin.port = {port}\nserver.state_dir = "{first.config.parent}/other"\n[[apps]]\nid = "1"\nkey = "k"\nsecret = "s"\n'
    )
    await second.run()
    line = await second.wait_for_line(lambda line: "cannot start" in line)
    assert line == (
        f"rawpush: cannot start: the admin port 127.0.0.1:{port} cannot be opened (Address already in use); set another port in "
        "[admin] (0: any free one), or enabled = false"
    )
    assert await second.ended() == 1


async def test_status_for_people(start_gateway: StartGateway, receiver: Receiver, connect: Connect) -> None:
    gateway = await start_gateway()
    await connect(gateway)
    code, said = await rawpush(gateway, "status")
    assert code == 0
    assert said.startswith("ready\nRawPush ")
    assert f"{APP_ID}/all" in said
