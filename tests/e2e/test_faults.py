"""Nonsense, hostility and bad luck: each costs at most the one who caused it."""

from __future__ import annotations

import asyncio
import json
import re
import socket
import time

from tests.e2e import bare
from tests.e2e.client import QUERY, Backend, Client
from tests.e2e.conftest import Connect, StartGateway
from tests.e2e.gateway_process import KEY, GatewayProcess, app
from tests.e2e.outside import descriptors, memory_mb
from tests.e2e.receiver import Receiver
from tests.patience import LONG_S


async def test_half_a_character_reaches_everybody_as_valid_text(
    gateway: GatewayProcess, connect: Connect, backend: Backend, receiver: Receiver
) -> None:
    clients = [await connect(gateway) for _ in range(3)]
    for client in clients:
        await client.subscribe("private-u")
    await clients[0].ws.send('{"event":"client-x","channel":"private-u","data":{"t":"a\\ud83db"}}')
    await clients[0].send("client-y", {"t": "good"}, "private-u")
    for client in clients[1:]:
        await client.expect("client-y")

    async def publish(name: bytes, channel: bytes, data: bytes) -> int:
        status, _, _ = await backend.call("POST", "/events", b'{"name":%b,"channels":[%b],"data":%b}' % (name, channel, data))
        return status

    # Within a text it is so many letters, and goes on to everybody; by itself it is no text.
    assert await publish(b'"e"', b'"private-u"', b'"{\\"t\\":\\"\\\\ud83d\\"}"') == 200
    for client in clients:
        assert (await client.expect("e"))["data"] == '{"t":"\\ud83d"}'
    assert await publish(b'"e"', b'"private-u"', b'"\\ud83d"') == 400
    assert await publish(b'"\\ud83d"', b'"private-u"', b'"x"') == 400
    assert await publish(b'"e"', b'"a\\ud83d"', b'"x"') == 400
    assert await backend.publish("private-u", "last") == 200
    for client in clients:
        await client.expect("last")
    await receiver.one("message.published", event="last")


async def test_bytes_that_are_no_text_in_a_handshake(gateway: GatewayProcess, connect: Connect, receiver: Receiver) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
    writer.write(
        f"GET /app/{KEY}?{QUERY}&other=%FF%00%ED%A0%80 HTTP/1.1\r\nHost: a\r\nConnection: keep-alive, Upgrade\r\n".encode()
        + b"Upgrade: websocket\r\nSec-WebSocket-Version: 13\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n"
        + b"User-Agent: caf\xe9\xff\xc3\x28\r\n\r\n"
    )
    assert b"101" in await reader.readline()
    writer.close()
    odd = await receiver.one("connection.closed")
    client = await connect(gateway)
    await client.close()
    await receiver.wait_for("connection.closed", count=2)
    assert odd.data["reason"] == "connection_lost"
    assert await gateway.stop() == 0
    receiver.check_ledger()


NONSENSE_DATA: list[object] = [
    "",
    None,
    [],
    "x",
    {},
    0,
    True,
    {"channel": None},
    {"channel": 7},
    {"channel": ["a"]},
    {"channel": {"a": 1}},
]
NONSENSE_TEXT = [
    "[]",
    "null",
    "7",
    '"x"',
    "{}",
    '{"event":null}',
    '{"event":[]}',
    '{"event":1}',
    "",
    "   ",
    '{"event":"pusher:ping"}{"event":"pusher:ping"}',
    '{"event":"client-x","channel":"private-a","data":NaN}',
    '{"event":"x","data":' + "9" * 5_000 + "}",
    '{"event":"x","event":"y"}',
    '{"event":"pusher:subscribe"}',
    '{"event":"x","data":' + "[" * 5_000 + "]" * 5_000 + "}",
]


async def test_nonsense_leaves_a_connection_usable(gateway: GatewayProcess, connect: Connect, receiver: Receiver) -> None:
    for ping in NONSENSE_DATA[:7]:
        client = await connect(gateway)
        await client.send("pusher:ping", ping)
        await client.expect("pusher:pong")
    for event in ("pusher:subscribe", "pusher:unsubscribe", "pusher:signin"):
        for data in NONSENSE_DATA:
            client = await connect(gateway)
            await client.send(event, data)
            errors = await client.settle()
            assert [frame["event"] for frame in errors] in ([], ["pusher:error"])
            assert all(isinstance(frame["data"], dict) for frame in errors)
            await client.subscribe("orders")
            await client.close()
    for text in NONSENSE_TEXT:
        client = await connect(gateway)
        await client.ws.send(text)
        assert [frame["event"] for frame in await client.settle()] in ([], ["pusher:error"]), text
        await client.subscribe("orders")
        await client.close()
    half_signed: list[dict[str, object]] = [
        {"channel": "private-a", "auth": 7},
        {"channel": "presence-a", "auth": "K:x", "channel_data": {"user_id": 1}},
    ]
    for signed in half_signed:
        client = await connect(gateway)
        await client.send("pusher:subscribe", signed)
        assert "pusher_internal:subscription_succeeded" not in [frame["event"] for frame in await client.settle()]


async def test_nonsense_does_not_fill_the_log(start_gateway: StartGateway, connect: Connect) -> None:
    gateway = await start_gateway(app(webhooks=[]))
    client = await connect(gateway)
    heard = len(gateway.lines)
    texts = [
        json.dumps({"event": event, "data": data})
        for event in ("pusher:ping", "pusher:subscribe", "pusher:unsubscribe", "pusher:signin", "client-x", "x")
        for data in NONSENSE_DATA
    ]
    for text in [*texts, *NONSENSE_TEXT]:
        await client.ws.send(text)
    await client.settle()
    await client.close()
    # What was logged before its end has come before it.
    await gateway.wait_for_line(lambda line: "connection ended" in line and client.socket_id in line)
    assert [line for line in gateway.lines[heard:] if "connection ended" not in line] == []


async def test_data_written_as_a_string_is_understood(gateway: GatewayProcess, connect: Connect) -> None:
    client = await connect(gateway)
    await client.send("pusher:subscribe", json.dumps({"channel": "orders"}))
    await client.expect("pusher_internal:subscription_succeeded", "orders")


GARBAGE = [
    b"",
    b"x",
    b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + b"\0" * 200,
    b"GET /app/K\n\n",
    b"GET /" + b"a" * 100_000 + b" HTTP/1.1\r\n\r\n",
    b"GET /app/demo-key HTTP/1.1\r\nno colon\r\n\r\n",
    b"GET /app/demo-key HTTP/1.1\r\n" + b"A: b\r\n" * 10_000 + b"\r\n",
    b"GET /app/demo-key HTTP/1.1\r\nA: " + b"b" * 1_000_000 + b"\r\n\r\n",
    b"GET  /app/demo-key HTTP/1.1\r\n\r\n",
    b"GET /app/demo-key HTTP/9.9\r\n\r\n",
    b"get /app/demo-key HTTP/1.1\r\n\r\n",
    b"\0\0\0\0\r\n\r\n",
    b"GET /apps HTTP/1.1\r\nHost: a\r\n\x80\xff: \xff\r\n\r\n",
    b"POST /apps/740213/events HTTP/1.1\r\nHost: a\r\nContent-Length: -1\r\n\r\n",
    b"POST /apps/740213/events HTTP/1.1\r\nHost: a\r\nContent-Length: abc\r\n\r\n",
    b"POST /apps/740213/events HTTP/1.1\r\nHost: a\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\n",
    b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    b"PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\n",
    b"\r\n\r\n\0\r\nQUIT\n",
]


async def test_garbage_costs_the_sender_his_connection(gateway: GatewayProcess, connect: Connect, receiver: Receiver) -> None:
    before = descriptors(gateway)
    for garbage in GARBAGE:
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        try:
            writer.write(garbage)
            writer.write_eof()
            async with asyncio.timeout(LONG_S):
                answer = await reader.read(100)
            assert answer == b"" or re.match(rb"HTTP/1\.[01] 4\d\d ", answer), (garbage[:40], answer)
        except ConnectionError:
            pass  # cut off while still writing: a plain close is an answer too
        finally:
            writer.close()
    for upgrade in (
        b"Sec-WebSocket-Version: 13\r\n",
        b"Sec-WebSocket-Version: 13\r\nSec-WebSocket-Key: short\r\n",
        b"Sec-WebSocket-Version: 8\r\nSec-WebSocket-Key: dGhlIHNhbXBsZSBub25jZQ==\r\n",
    ):
        reader, writer = await asyncio.open_connection("127.0.0.1", gateway.port)
        head = f"GET /app/{KEY}?{QUERY} HTTP/1.1\r\nHost: a\r\nConnection: Upgrade\r\nUpgrade: websocket\r\n".encode()
        writer.write(head + upgrade + b"\r\n")
        async with asyncio.timeout(LONG_S):
            assert re.match(rb"HTTP/1\.1 4\d\d ", await reader.readline())
        writer.close()
    for _ in range(200):
        bare.reset(bare.dial(gateway.port))
    client = await connect(gateway)
    await client.close()
    await receiver.one("connection.closed")
    assert receiver.kinds() == ["connection.opened", "connection.closed"]
    # Two more: the line to the receiver, and the one on which it is asked until it has dealt with the probes.
    async with Backend(gateway.port) as backend:
        async with asyncio.timeout(LONG_S):
            while descriptors(gateway) > before + 2:
                assert await backend.get("/channels") == {"channels": {}}
    assert len(gateway.lines) < 200


async def test_clients_that_never_read_cost_bounded_memory_and_nobodys_time(
    start_gateway: StartGateway, connect: Connect, receiver: Receiver
) -> None:
    gateway = await start_gateway(app(webhooks=[receiver.endpoint(events=["connection.*"])]))
    good = await connect(gateway)
    feeds = [f"feed-{number}" for number in range(100)]
    await good.subscribe("feed-0")
    slow = []
    for _ in range(5):
        narrow = socket.socket()
        narrow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        narrow.connect(("127.0.0.1", gateway.port))
        narrow.setblocking(False)
        slow.append(await Client.connect(gateway.port, sock=narrow, max_queue=4))
        for feed in feeds:
            await slow[-1].subscribe(feed)
    before = memory_mb(gateway)
    most = 0.0
    async with Backend(gateway.port) as backend:
        for number in range(60):
            assert await backend.publish(feeds, f"n{number}", "x" * 10_000) == 200
            assert (await good.expect(f"n{number}"))["channel"] == "feed-0"
            most = max(most, memory_mb(gateway) - before)
    assert good.passed == []
    ends = await receiver.wait_for("connection.closed", count=5)
    assert [event.data["reason"] for event in ends] == ["slow_consumer"] * 5
    # Five peers were sent 60 MB each.
    assert most < 100
    for client in slow:
        client.reset()


async def test_one_who_floods_is_answered_at_his_own_pace(gateway: GatewayProcess, connect: Connect, receiver: Receiver) -> None:
    flooder, good, other = [await connect(gateway) for _ in range(3)]
    for client in (flooder, good, other):
        await client.subscribe("private-chat")
    began_at = time.monotonic()
    await flooder.write_frames([{"event": "client-x", "channel": "private-chat", "data": "f"}] * 2_000)
    for number in range(10):
        await good.send(f"client-{number}", {}, "private-chat")
        await other.expect(f"client-{number}")
    heard = list(other.passed)
    await flooder.settle()
    took_s = time.monotonic() - began_at
    await other.settle()
    # Ten at once, and ten a second.
    passed = [frame for frame in heard + other.passed if frame["event"] == "client-x"]
    assert 10 <= len(passed) <= 10 + 10 * took_s + 1
    refused = await receiver.wait_for("message.rejected", reason="rate_limited", socket_id=flooder.socket_id)
    assert refused
    assert len(gateway.lines) < 200


async def test_client_events_come_from_subscribers_only_and_cannot_be_forged(
    start_gateway: StartGateway, connect: Connect, receiver: Receiver
) -> None:
    gateway = await start_gateway(app(webhooks=[receiver.endpoint()], limits={"client_events": 1000}))
    sender, other = await connect(gateway), await connect(gateway)
    await other.join("presence-c", "u-2")
    for channel in ("private-c", "orders", "private-encrypted-c", "cache-c"):
        await other.subscribe(channel)
    for channel in ("private-c", "presence-c", "#server-to-user-u-2"):
        await sender.send("client-x", {}, channel)
        await sender.expect("pusher:error")
    for channel in ("orders", "cache-c", "private-encrypted-c"):
        await sender.subscribe(channel)
        await sender.send("client-x", {}, channel)
        await sender.expect("pusher:error")
    await sender.subscribe("private-c")
    await sender.unsubscribe("private-c")
    await sender.send("client-x", {}, "private-c")
    await sender.expect("pusher:error")
    await sender.join("presence-c", "u-1")
    await other.expect("pusher_internal:member_added")
    for event in ("client", "Client-x", "xclient-x", "pusher:client-x", "pusher_internal:member_added", "client-" + "x" * 194):
        await sender.send(event, {}, "presence-c")
    await sender.settle()
    assert [frame for frame in await other.settle() if not frame["event"].startswith("pusher_internal:")] == []
    relayed = [("text", "text"), ('{"a": 1}', '{"a": 1}'), ({"a": 1}, '{"a":1}'), ([1], "[1]"), (7, "7")]
    for data, text in relayed:
        await sender.send("client-x", data, "presence-c", user_id="u-2", socket_id="1.1", other=True)
        frame = await other.expect("client-x")
        assert frame == {"event": "client-x", "channel": "presence-c", "data": text, "user_id": "u-1"}
    assert [frame for frame in await sender.settle() if frame["event"].startswith("client-")] == []
    said = await receiver.wait_for("client_event", count=len(relayed))
    assert [event.data["user_id"] for event in said] == ["u-1"] * len(relayed)


#: what ends a line, a text or a field somewhere, or would steer a terminal
ODD_ENDS = [
    "\n",
    "\r\nX-Webhook-Event: forged",
    "\0",
    "\t",
    "\x1b[2J",
    "\x7f",
    "\x85",
    "\u2028",
    "\u202e",
    '"',
    "\\",
    "</script>",
    " ",
]


async def test_the_name_of_an_event_means_nothing_to_what_it_passes_through(
    start_gateway: StartGateway, connect: Connect, receiver: Receiver
) -> None:
    gateway = await start_gateway(app(webhooks=[receiver.endpoint()], limits={"client_events": 1000}))
    sender, other = await connect(gateway), await connect(gateway)
    for client in (sender, other):
        await client.subscribe("private-c")
    names = [f"client-x{end}" for end in ODD_ENDS]
    async with Backend(gateway.port) as backend:
        for name in names:
            await sender.send(name, "from a client", "private-c")
            assert await backend.publish("private-c", name, "from a backend") == 200
    await sender.settle()
    heard = [(frame["event"], frame["data"]) for frame in await other.settle()]
    assert sorted(heard) == sorted((name, data) for name in names for data in ("from a client", "from a backend"))
    for name in names:
        assert (await receiver.one("client_event", event=name)).data["data"] == "from a client"
        assert (await receiver.one("message.published", event=name)).data["data"] == "from a backend"
    # One that is refused is named in the record of that, whole.
    await sender.send("client-y\n", {}, "private-d")
    await receiver.one("message.rejected", event="client-y\n", reason="not_subscribed")
    assert [line for line in gateway.lines if not line.isprintable()] == []


LET_IN = [
    *(f"protocol={number}&client=x&version=1" for number in (4, 5, 6, 7)),
    "protocol=7",
    "protocol=7&client=" + "x" * 3_000 + "&version=%C3%A9&unknown=1",
]
SENT_AWAY = [
    *((f"protocol={text}", 4007) for text in ("8", "3", "0", "-1", "7.0", "7abc")),
    ("client=x&version=1", 4008),
    ("", 4008),
]


async def test_who_is_let_in(gateway: GatewayProcess) -> None:
    for query in LET_IN:
        client = await Client.dial(gateway.port, query=query)
        frame = await client.next()
        assert frame["event"] == "pusher:connection_established"
        data = json.loads(frame["data"])
        assert re.fullmatch(r"[0-9]+\.[0-9]+", data["socket_id"])
        assert data["activity_timeout"] > 0
        await client.close()


async def test_who_is_sent_away(gateway: GatewayProcess, receiver: Receiver) -> None:
    for query, code in SENT_AWAY:
        client = await Client.dial(gateway.port, query=query)
        frame = await client.next()
        assert (frame["event"], frame["data"]["code"]) == ("pusher:error", code), query
        assert await client.closed() == code
    assert await gateway.stop() == 0
    assert receiver.of() == []


async def test_odd_handshakes_are_let_in(gateway: GatewayProcess) -> None:
    for options in ({"subprotocols": ["pusher-channels-protocol-7"]}, {"origin": "null"}, {"origin": "capacitor://localhost"}):
        client = await Client.connect(gateway.port, **options)
        assert client.ws.subprotocol is None
        await client.close()
    for key in ("DEMO-KEY", "no-such-key", "demo-key%20"):
        client = await Client.dial(gateway.port, key=key)
        assert (await client.next())["data"]["code"] == 4001
        assert await client.closed() == 4001
