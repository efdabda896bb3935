"""`rawpush tail` beside a real gateway: what it prints, how it comes back, and how it ends."""

from __future__ import annotations

import base64
import json
import signal

import pusher
import pytest

from tests.e2e.client import Backend
from tests.e2e.command import Command
from tests.e2e.conftest import Connect, StartGateway
from tests.e2e.gateway_process import APP_ID, KEY, SECRET, GatewayProcess, app
from tests.patience import LONG_S


async def test_it_prints_what_arrives_on_channels_of_every_kind_and_ends_with_ctrl_c(
    gateway: GatewayProcess, backend: Backend, connect: Connect
) -> None:
    channels = ("room-7", "private-orders", "presence-lobby")
    async with Command("tail", "-c", str(gateway.config), "--json", "--user", "tailor", *channels) as tail:
        for channel in channels:
            await tail.line(f"following {channel}")
        await backend.publish("room-7", "created", '{"id":17}')
        await backend.publish("private-orders", "paid", "as it \x1b is")
        guest = await connect(gateway)
        await guest.join("presence-lobby", "guest")
        await guest.send("client-wave", {"to": "all"}, "presence-lobby")
        await tail.line("client-wave")
        assert await tail.interrupt() == 0
    told = [json.loads(line) for line in tail.out]
    assert all(one.pop("at").endswith("Z") for one in told)
    assert told == [
        {"channel": "room-7", "event": "created", "data": {"id": 17}},
        {"channel": "private-orders", "event": "paid", "data": "as it \x1b is"},
        {
            "channel": "presence-lobby",
            "event": "pusher:member_added",
            "data": {"user_id": "guest", "user_info": {"name": "guest"}},
        },
        {"channel": "presence-lobby", "event": "client-wave", "data": {"to": "all"}, "user_id": "guest"},
    ]
    assert any("with 1 member: tailor" in line for line in tail.err)


async def test_it_opens_what_was_encrypted_with_its_key(gateway: GatewayProcess) -> None:
    keys = [base64.b64encode(bytes([number] * 32)).decode() for number in (1, 2)]
    async with Command("tail", "-c", str(gateway.config), "--master-key", keys[0], "private-encrypted-chat") as tail:
        await tail.line("following")
        for key, text in zip(reversed(keys), ("other", "secret"), strict=True):
            sdk = pusher.Pusher(
                APP_ID,
                KEY,
                SECRET,
                host="127.0.0.1",
                port=gateway.port,
                ssl=False,
                timeout=LONG_S,
                encryption_master_key_base64=key,
            )
            sdk.trigger("private-encrypted-chat", "said", text)
        assert (await tail.line("secret")).endswith("said  secret")
        assert "another master key" in await tail.line("cannot be decrypted")
        assert await tail.interrupt() == 0


async def test_it_comes_back_when_the_gateway_does_and_stays_away_when_told_to(start_gateway: StartGateway) -> None:
    gateway = await start_gateway(app())
    async with Command("tail", "-c", str(gateway.config), "room-7") as tail:
        await tail.line("following")
        await gateway.stop()
        await tail.line("connecting again")
        tail.err.clear()  # while there is nobody to follow
        again = await start_gateway(app(), port=gateway.port, folder="again")
        await tail.line("following")
        await again.reload([app("1002", key="other")])
        assert await tail.ended() == 1
    assert "wants no more" in tail.err[-1]


async def test_without_a_file_and_what_can_never_work(gateway: GatewayProcess, backend: Backend) -> None:
    where = ("--key", KEY, "--secret", SECRET, "--url", f"ws://127.0.0.1:{gateway.port}")
    async with Command("tail", *where, "--count", "1", "private-orders") as tail:
        await tail.line("following")
        await backend.publish("private-orders", "paid", "as it \x1b is")
        assert await tail.ended() == 0
    (line,) = tail.out
    assert line.split("  ")[1:] == ["private-orders", "paid", "as it \\x1b is"]

    config = str(gateway.config)
    async with Command("tail", "-c", config, "no channel") as tail:
        assert await tail.ended() == 2
    async with Command("tail", "-c", config, "--url", "http://127.0.0.1:1", "room") as tail:
        assert await tail.ended() == 1
        assert "is it running?" in tail.err[-1]
    where = ("--key", KEY, "--secret", "wrong", "--url", f"http://127.0.0.1:{gateway.port}")
    async with Command("tail", *where, "private-orders") as tail:
        assert await tail.ended() == 1
        assert "all channels were refused" in tail.err[-1]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_signals_to_the_last_moment_change_nothing(gateway: GatewayProcess, number: signal.Signals) -> None:
    async with Command("tail", "-c", str(gateway.config), "orders") as command:
        await command.line("following orders")
        assert await command.interrupt_to_the_last(number) == 0
