"""`rawpush dev`: what it prints can be pasted and works, its receiver verifies, and nothing that is printed does harm."""

from __future__ import annotations

import asyncio
import json
import os
import re
import signal
import socket
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import aiohttp
import pusher
import pytest
from websockets.asyncio.client import connect

from gateway.core import signing
from gateway.core.app import App
from gateway.core.auth import channel_signature_error
from gateway.core.delivery import Request
from gateway.dev import PORT, Receiver, authorise, instructions, webhook_lines
from tests.e2e.command import Command
from tests.patience import LONG_S

ROOT = Path(__file__).parent.parent
APP = App(id="1001", key="demo-key", secret="demo-secret")


def envelope(kind: str, **data: Any) -> bytes:
    content = {"event": kind, "timestamp": "2026-01-25T10:00:00.123Z", "data": data, "metadata": {"webhook_id": "dev"}}
    return json.dumps(content).encode()


# -- lines


def test_a_webhook_is_one_line_of_aligned_columns() -> None:
    [one] = webhook_lines(envelope("channel.occupied", channel="room-7", subscribers=1, span="spn_1"), None, 140)
    [two] = webhook_lines(envelope("connection.opened", socket_id="1.2", remote_ip="::1", origin=None), None, 140)
    assert re.fullmatch(r"\d\d:00:00\.123 channel\.occupied +room-7 +signature ok  subscribers=1", one)
    assert re.fullmatch(r"\d\d:00:00\.123 connection\.opened +1\.2 +signature ok  remote_ip=::1", two)
    assert one.index("signature") == two.index("signature")


def test_what_was_not_signed_by_us_stands_out() -> None:
    [line] = webhook_lines(envelope("channel.occupied", channel="room-7"), "X-Webhook-Signature does not match the body", 140)
    assert "signature WRONG (X-Webhook-Signature does not match the body)" in line


@pytest.mark.parametrize("text", ["\x1b[2J", "a\nforged line", "\u202egnp", "\x00", "\x9b31m", "x" * 100_000])
def test_no_text_of_a_client_moves_the_cursor_or_makes_a_line(text: str) -> None:
    body = envelope(text, channel=text, data=text, event=text, user_id=text, **{text: text})
    [line] = webhook_lines(body, text[:50], 120)
    assert line.isprintable()
    assert len(line) < 500


@pytest.mark.parametrize(
    "body", [b"", b"\xff\x1b[2J", b"[]", b"5", b"{}", b'{"events": 5}', b'{"data": 5}', b'{"events": [null]}']
)
def test_what_is_no_webhook_is_shown_as_such(body: bytes) -> None:
    [line] = webhook_lines(body, "missing header: webhook-id", 120)
    assert "(not a webhook)" in line
    assert line.isprintable()


# -- authorisation


@pytest.mark.parametrize("channel", ["private-room", "presence-room", "private-cache-x", "presence-cache-x"])
def test_it_lets_everybody_in(channel: str) -> None:
    status, answer = authorise(APP, "12.34", channel)
    assert status == 200
    assert channel_signature_error(APP, "12.34", channel, answer["auth"], answer.get("channel_data")) is None
    assert ("channel_data" in answer) == channel.startswith("presence-")


@pytest.mark.parametrize("socket_id", ["", "1", "1.2:private-x", "1.2\n", "a.b", "١.٢"])
def test_it_signs_nothing_but_subscriptions(socket_id: str) -> None:
    assert authorise(APP, socket_id, "private-room")[0] == 400
    assert authorise(APP, "1.2", "private-room:x")[0] == 400
    assert authorise(APP, "1.2", "private-encrypted-room")[0] == 403


# -- the receiver


async def test_the_receiver_verifies_and_a_page_may_ask_it() -> None:
    said: list[str] = []
    receiver = Receiver(APP, "hook-secret", said.append)
    await receiver.start()
    endpoint = receiver.endpoint()
    body = envelope("channel.occupied", channel="room-7")
    request = Request("1001/dev", 0, "req_1", "channel.occupied", "application/json", body, ())
    headers = signing.headers(endpoint, request, attempt=1, now_s=int(time.time()), user_agent="test")
    try:
        async with aiohttp.ClientSession() as session:
            assert (await session.post(endpoint.url, data=body, headers=headers)).status == 204
            assert (await session.post(endpoint.url, data=body + b" ", headers=headers)).status == 401
            auth = f"http://127.0.0.1:{receiver.port}/pusher/auth"
            asked = await session.options(auth, headers={"Access-Control-Request-Headers": "x-requested-with"})
            assert asked.headers["Access-Control-Allow-Headers"] == "x-requested-with"
            answer = await session.post(auth, data={"socket_id": "1.2", "channel_name": "private-x"})
            assert answer.headers["Access-Control-Allow-Origin"] == "*"
            assert (await answer.json())["auth"].startswith("demo-key:")
            assert (await session.post(auth)).status == 400
    finally:
        await receiver.stop()
        await receiver.stop()
    assert [("signature ok" in line, "signature WRONG" in line) for line in said] == [(True, False), (False, True)]


# -- the whole command


def test_what_is_printed_for_python_is_python() -> None:
    text = "\n".join(instructions(APP, 6001, 6002, 6003))
    snippet = re.search(r"  import pusher\n  client = .*\n  client.trigger.*", text)
    assert snippet is not None
    compile("\n".join(line.strip() for line in snippet[0].split("\n")), "snippet", "exec")


async def test_the_first_five_minutes() -> None:
    command = await _dev("--port", "0")
    assert command.stdout is not None
    try:
        async with asyncio.timeout(LONG_S):
            text = await _until(command.stdout, "Webhooks, as they arrive")
            url, key = _found(r"ws://\S+/app/(\S+)", text)
            auth = _found(r'endpoint: "(\S+)"', text)[1]
            snippet = re.search(r"pusher\.Pusher\(.*\)", text)
            assert snippet is not None
            async with connect(f"{url}?protocol=7&client=test&version=1") as line, aiohttp.ClientSession() as session:
                socket_id = json.loads(json.loads(await line.recv())["data"])["socket_id"]
                answer = await (await session.post(auth, data={"socket_id": socket_id, "channel_name": "presence-x"})).json()
                await line.send(json.dumps({"event": "pusher:subscribe", "data": {"channel": "presence-x", **answer}}))
                assert json.loads(await line.recv())["event"] == "pusher_internal:subscription_succeeded"
                sdk = eval(snippet[0], {"pusher": pusher})
                await asyncio.to_thread(sdk.trigger, "presence-x", "greeting", {"hello": "\x1b[2J"})
                assert json.loads(await line.recv())["event"] == "greeting"
                seen = await _until(command.stdout, "message.published")
            command.send_signal(signal.SIGINT)
            seen += (await command.stdout.read()).decode()
            assert await command.wait() == 0
    finally:
        if command.returncode is None:
            command.kill()
            await command.wait()
    assert key in text
    rows = [row for row in seen.splitlines() if "signature" in row]
    assert all("signature ok" in row for row in rows)
    kinds = [row.split()[1] for row in rows]
    # A channel's events may come before or after them.
    assert [kind for kind in kinds if kind.startswith("connection.")][:2] == ["connection.opened", "connection.authenticated"]
    assert {"channel.occupied", "channel.member_added", "message.published", "connection.closed", "channel.vacated"} <= set(kinds)
    assert "\x1b" not in seen


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
async def test_whoever_presses_ctrl_c_to_the_last_moment_changes_nothing(number: signal.Signals) -> None:
    async with Command("dev", "--port", "0") as command:
        await command.line("Webhooks, as they arrive")
        assert await command.interrupt_to_the_last(number) == 0
    assert command.err == []


@contextmanager
def _taken(port: int) -> Iterator[int]:
    """A port that is taken: by this test, or by somebody else already."""
    with socket.socket() as server:
        # Connections of a former life of the port must not keep this test, alone, from taking it.
        server.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            server.bind(("127.0.0.1", port))
            server.listen()
            port = server.getsockname()[1]
        except OSError:
            pass  # somebody else has it, which serves as well
        yield port


async def test_the_usual_port_may_be_taken() -> None:
    with _taken(PORT):
        command = await _dev()
        assert command.stdout is not None
        try:
            async with asyncio.timeout(LONG_S):
                text = await _until(command.stdout, "Webhooks, as they arrive")
                command.send_signal(signal.SIGTERM)
                await command.stdout.read()
                assert await command.wait() == 0
        finally:
            if command.returncode is None:
                command.kill()
                await command.wait()
    assert text.startswith(f"port {PORT} is taken; using a free one\n")
    assert f":{PORT}/" not in text


async def test_a_port_that_was_asked_for_is_not_exchanged_for_another() -> None:
    with _taken(0) as port:
        command = await _dev("--port", str(port))
        async with asyncio.timeout(LONG_S):
            said, complained = await command.communicate()
    assert command.returncode == 1
    assert complained.decode().startswith(f"rawpush: cannot listen on port {port}: ")
    assert len(complained.decode().splitlines()) == 1
    assert said == b""


async def _dev(*arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        sys.executable,
        "-m",
        "gateway",
        "dev",
        *arguments,
        cwd=ROOT,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
        env={**os.environ, "COLUMNS": "300"},
    )


async def _until(stream: asyncio.StreamReader, mark: str) -> str:
    text = ""
    async for line in stream:
        text += line.decode()
        if mark in text:
            return text
    raise AssertionError(f"ended before {mark!r}:\n{text}")


def _found(pattern: str, text: str) -> tuple[str, str]:
    found = re.search(pattern, text)
    assert found is not None
    return found[0], found[1]
