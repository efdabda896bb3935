"""`rawpush doctor` beside real gateways: one that is well, and what it says where something is not."""

from __future__ import annotations

import json
from pathlib import Path

from tests.certificate import write_pair
from tests.e2e.command import Command
from tests.e2e.conftest import StartGateway
from tests.e2e.gateway_process import GatewayProcess, app
from tests.e2e.proxy import Proxy
from tests.e2e.receiver import Answer, Receiver

Checks = dict[str, dict[str, str]]


async def doctor(config: Path, *arguments: str, **environ: str) -> tuple[int, Checks]:
    async with Command("doctor", "-c", str(config), "--json", *arguments, environ=environ) as command:
        code = await command.ended()
    assert command.err == []
    answer = json.loads(command.out[0])
    assert answer["ok"] == (code == 0)
    return code, {one["check"]: one for one in answer["checks"]}


async def test_a_gateway_with_tls_and_its_endpoints(start_gateway: StartGateway, receiver: Receiver, tmp_path: Path) -> None:
    cert, key, _ = write_pair(tmp_path, days=20)
    apps = app(webhooks=[receiver.endpoint("good")])
    server = {"tls": {"cert": str(cert), "key": str(key)}}
    gateway = await start_gateway(apps, server=server, outbox={"mode": "disk", "max_size": "1MB"})
    # By number: where the hosts file has no IPv6 for it, even localhost is asked of a name server, which may take its time.
    where = ("--admin-url", gateway.admin, "--url", f"wss://127.0.0.1:{gateway.port}")

    code, checks = await doctor(gateway.config, *where, SSL_CERT_FILE=str(cert))
    assert [one for one in checks.values() if one["state"] != "ok" and one["check"] != "open files"] == []
    assert code == 0
    assert {name: one["state"] for name, one in checks.items() if name != "open files"} == {
        "file": "ok",
        "gateway": "ok",
        "state directory": "ok",
        "free space": "ok",
        "file system": "ok",
        "local address": "ok",
        "certificate": "ok",
        "public address": "ok",
        "HTTP API": "ok",
        "clock": "ok",
        "webhook 740213/good": "ok",
    }
    assert "valid for 19 days" in checks["certificate"]["found"] or "valid for 20 days" in checks["certificate"]["found"]
    assert checks["open files"]["found"].startswith("the gateway may have")

    receiver.rules.append(lambda hook: Answer(status=401))
    code, checks = await doctor(gateway.config, *where)
    assert code == 1
    assert {name for name, one in checks.items() if one["state"] == "failed"} == {
        "certificate",
        "HTTP API",
        "webhook 740213/good",
    }
    assert "self" in checks["certificate"]["found"]
    assert "another secret" in checks["webhook 740213/good"]["remedy"]


async def test_a_gateway_that_does_not_run(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(app(), admin={"port": 0})
    where = ("--admin-url", gateway.admin)
    config = gateway.config
    proxy = ("--url", f"{gateway.admin}")  # it serves no clients, as a proxy that has not been told of /app/
    code, checks = await doctor(config, *where, *proxy)
    assert (code, checks["public address"]["state"]) == (1, "failed")
    assert "status 404" in checks["public address"]["found"]
    assert "/app/" in checks["public address"]["remedy"]
    await gateway.stop()
    async with Command("doctor", "-c", str(config), *where) as command:
        assert await command.ended() == 1
    text = "\n".join(command.out)
    assert "failed   gateway" in text
    assert "-> start it: rawpush serve" in text
    assert "failed   local address" in text
    assert "warning  webhooks" in text


async def silence(gateway: GatewayProcess, folder: Path, cut_after: str, *idle: str) -> tuple[int, dict[str, str]]:
    proxy = await Proxy.start("nginx", folder, gateway.port, {"proxy_read_timeout 180s;": f"proxy_read_timeout {cut_after};"})
    try:
        where = ("--admin-url", gateway.admin, "--url", f"wss://127.0.0.1:{proxy.port}")
        code, checks = await doctor(gateway.config, *where, "--idle", *idle, SSL_CERT_FILE=str(folder / "both.pem"))
    finally:
        await proxy.stop()
    assert checks["public address"]["state"] == "ok"
    return code, checks["silence"]


async def test_a_proxy_that_cuts_what_is_silent(start_gateway: StartGateway, tmp_path: Path) -> None:
    code, found = await silence(await start_gateway(app()), tmp_path, "1s")
    assert (code, found["state"]) == (1, "failed")
    assert "was cut after 1 s; silence can last 120 s" in found["found"]
    assert "proxy_read_timeout" in found["remedy"]


async def test_a_proxy_that_bears_silence(start_gateway: StartGateway, tmp_path: Path) -> None:
    gateway = await start_gateway(app(), server={"activity_timeout": "2s"})
    code, found = await silence(gateway, tmp_path, "180s")
    assert (code, found["state"]) == (0, "ok")
    assert "was silent for 2 s and lived on" in found["found"]
    code, found = await silence(gateway, tmp_path, "180s", "1s")
    assert (code, found["state"]) == (0, "warning")
    assert "silence can last 2 s" in found["found"]
