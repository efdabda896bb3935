"""Every limit of an app on the wire: exactly so much passes, one more is refused, in words, and recorded where it must be.

Where bytes are meant, the texts are of characters that take three.
"""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.core.app import Limits
from tests.e2e.client import Client, Frame
from tests.wire.running import Running, running

ROOM = "presence-room"


async def refused(client: Client) -> tuple[int | None, str]:
    """Return code and sentence of the error that comes next."""
    error = (await client.expect("pusher:error"))["data"]
    return error["code"], error["message"]


async def not_subscribed(client: Client, channel: str, member: object = None) -> Frame:
    """Try to subscribe; return what the refusal tells the channel's owner. The connection must have survived it."""
    await client.send("pusher:subscribe", client.subscription(channel, member))
    assert (await refused(client))[0] is None
    told: Frame = json.loads((await client.expect("pusher:subscription_error", channel))["data"])
    assert await client.settle() == []
    return told


async def rejections(house: Running) -> list[tuple[str, str, str | None]]:
    return [(one["source"], one["reason"], one.get("channel")) for one in await house.recorded("message.rejected")]


async def post(house: Running, path: str, body: object) -> tuple[int, str, str | None]:
    """Return status, sentence and place."""
    status, answer, _ = await house.backend.call("POST", path, json.dumps(body).encode())
    return status, answer.get("error", ""), answer.get("where")


# -- connections


@pytest.mark.parametrize(("hard", "code"), [(False, 4100), (True, 4004)])
async def test_connections(tmp_path: Path, hard: bool, code: int) -> None:
    async with running(tmp_path, Limits(connections=2), hard_connection_limit=hard) as house:
        first = await house.connect()
        await house.connect()
        for _ in range(2):
            third = await Client.dial(house.gateway.port)
            error = (await third.next())["data"]
            assert (error["code"], error["message"]) == (code, "this app has no connection left")
            assert await third.closed() == code
        await first.close()
        await house.connect()


async def test_origins(tmp_path: Path) -> None:
    async with running(tmp_path, allowed_origins=("*.example.com", "localhost")) as house:
        for origin in (None, "https://a.example.com", "https://a.EXAMPLE.com:8443", "http://localhost:3000"):
            await house.connect(origin=origin)
        for origin in ("https://example.com", "https://a.example.com.evil.test", "null"):
            stranger = await Client.dial(house.gateway.port, origin=origin)
            assert (await stranger.next())["data"]["code"] == 4009
            assert await stranger.closed() == 4009


async def test_channels_per_connection(tmp_path: Path) -> None:
    async with running(tmp_path, Limits(channels_per_connection=2)) as house:
        client = await house.connect()
        await client.subscribe("a")
        await client.subscribe("b")
        told = await not_subscribed(client, "c")
        assert told == {"type": "LimitReached", "error": "a connection may hold 2 channels", "status": 4100}
        await client.unsubscribe("a")
        await client.subscribe("c")


# -- names


async def test_channel_names(tmp_path: Path) -> None:
    async with running(tmp_path, Limits(channel_name=12)) as house:
        client = await house.connect()
        for name in ("a" * 12, "private-" + "b" * 4):
            await client.subscribe(name)
            assert await house.backend.publish(name, "e") == 200
        told = await not_subscribed(client, "a" * 13)
        assert (told["type"], told["status"]) == ("InvalidChannel", 400)
        assert "1 to 12 characters" in told["error"]
        status, sentence, where = await post(house, "/events", {"name": "e", "data": "", "channel": "a" * 13})
        assert (status, where) == (400, "channel")
        assert "1 to 12 letters" in sentence
        await client.send("client-e", {}, "private-" + "b" * 5)
        assert "1 to 12 characters" in (await refused(client))[1]
        assert await rejections(house) == [
            ("http", "invalid_channel", "a" * 13),
            ("client", "invalid_channel", "private-bbbb…"),
        ]


async def test_event_names(tmp_path: Path) -> None:
    async with running(tmp_path, Limits(event_name=8)) as house:
        client, other = await house.connect(), await house.connect()
        for one in (client, other):
            await one.subscribe("private-a")
        assert await house.backend.publish("private-a", "京" * 8) == 200
        await client.expect("京" * 8)
        await client.send("client-京", {}, "private-a")
        await other.expect("client-京")
        status, sentence, where = await post(house, "/events", {"name": "京" * 9, "data": "", "channel": "private-a"})
        assert (status, sentence, where) == (400, "the event's name has 9 characters, 8 are allowed", "name")
        await client.send("client-京京", {}, "private-a")
        assert await refused(client) == (None, "the name of a client event may have 8 characters")
        assert await rejections(house) == [
            ("http", "invalid_event", "private-a"),
            ("client", "invalid_event", "private-a"),
        ]


# -- data


async def test_event_data_is_counted_in_bytes(tmp_path: Path) -> None:
    async with running(tmp_path, Limits(event_data=9)) as house:
        client, other = await house.connect(), await house.connect()
        for one in (client, other):
            await one.subscribe("private-a")
        for data in ("東京都", '"\\"\\"\\"', "\x01" * 9, "x" * 9):
            assert await house.backend.publish("private-a", "e", data) == 200
            assert (await client.expect("e"))["data"] == data
            await client.send("client-e", data, "private-a")
            assert (await other.expect("client-e"))["data"] == data
        for data in ("東京都x", "x" * 10, "東京都市"):
            size = len(data.encode())
            status, sentence, where = await post(house, "/events", {"name": "e", "data": data, "channel": "private-a"})
            assert (status, sentence, where) == (413, f"data has {size} bytes of UTF-8, 9 are allowed", "data")
            await client.send("client-e", data, "private-a")
            assert await refused(client) == (4301, "the data of a client event may have 9 bytes")
        assert await other.settle() == [], "nothing of what was refused"
        too_large = [("http", "payload_too_large", "private-a"), ("client", "payload_too_large", "private-a")]
        assert await rejections(house) == too_large * 3
        sizes = [one["size"] for one in await house.recorded("message.rejected")]
        assert sizes == [10, 10, 10, 10, 12, 12]


async def test_channels_of_a_publish_and_events_of_a_batch(tmp_path: Path) -> None:
    async with running(tmp_path, Limits(channels_per_publish=3, batch=3)) as house:
        names = ["a", "b", "c", "d"]
        items = [{"channel": name, "name": "e", "data": ""} for name in names]
        assert await house.backend.publish(names[:3], "e") == 200
        assert (await post(house, "/batch_events", {"batch": items[:3]}))[0] == 200
        status, sentence, where = await post(house, "/events", {"name": "e", "data": "", "channels": names})
        assert (status, sentence, where) == (400, "1 to 3 channels can be published to at once, not 4", "channels")
        status, sentence, where = await post(house, "/batch_events", {"batch": items})
        assert (status, sentence, where) == (400, "a batch holds 1 to 3 events, this one has 4", "batch")
        assert [(source, reason) for source, reason, _ in await rejections(house)] == [
            ("http", "invalid_channel"),
            ("http", "invalid_event"),
        ]


async def test_the_body_of_a_request(tmp_path: Path) -> None:
    async with running(tmp_path, Limits(request=2_000)) as house:
        body = {"name": "e", "channel": "a", "data": ""}
        body["data"] = "x" * (2_000 - len(json.dumps(body)))
        assert (await post(house, "/events", body))[0] == 200
        body["data"] += "x"
        status, sentence, _ = await post(house, "/events", body)
        assert (status, sentence) == (413, "the body is too large: 2000 bytes are allowed (the app's limits.request)")
        assert await rejections(house) == [("http", "payload_too_large", None)]


async def test_a_message_of_a_client(tmp_path: Path) -> None:
    async with running(tmp_path, Limits(message=2_000)) as house:
        client, other = await house.connect(), await house.connect()
        frame = json.dumps({"event": "pusher:ping", "data": ""})
        await client.ws.send(frame[:-2] + "x" * (2_000 - len(frame)) + frame[-2:])
        await client.expect("pusher:pong")
        await client.ws.send(frame[:-2] + "x" * (2_001 - len(frame)) + frame[-2:])
        assert await client.closed() == 1009
        assert await other.settle() == []


# -- rates


async def test_client_events_per_second(tmp_path: Path) -> None:
    async with running(tmp_path, Limits(client_events=3)) as house:
        client, other = await house.connect(), await house.connect()
        for one in (client, other):
            await one.subscribe("private-a")
        for _ in range(2):
            for number in range(4):
                await client.send("client-e", number, "private-a")
            assert await refused(client) == (4301, "a connection may send 3 client events per second")
            assert [frame["data"] for frame in await other.settle()] == ["0", "1", "2"]
            house.pass_time(1.0)
        assert await rejections(house) == [("client", "rate_limited", "private-a")] * 2


async def test_subscriptions_and_sign_ins_per_second(tmp_path: Path) -> None:
    sentence = "a connection may subscribe 3 times per second, and 3 times at once: try again later"
    async with running(tmp_path, Limits(subscriptions=3, channels_per_connection=2)) as house:
        client = await house.connect()
        await client.sign_in("u-1")
        await client.subscribe("kept")
        for _ in range(2):
            await client.sign_in("u-1")
            for _ in range(2):
                await client.subscribe("orders")
                await client.unsubscribe("orders")
            told = await not_subscribed(client, "orders")
            assert told == {"type": "LimitReached", "error": sentence, "status": 429}
            await client.send("pusher:signin", client.signature("u-1"))
            assert await refused(client) == (None, sentence)
            house.pass_time(1.0)
        assert await house.backend.publish("kept", "still-here") == 200
        await client.expect("still-here", "kept")
        turns = await house.recorded("channel.subscribed", "channel.unsubscribed")
        assert [one["channel"] for one in turns] == ["kept", *["orders"] * 8]
        assert len(await house.recorded("connection.authenticated")) == 3
        assert await rejections(house) == []
        assert house.gateway.telemetry.subscriptions_throttled == 4


async def test_publishes_and_questions_per_second(tmp_path: Path) -> None:
    # the burst is that of a second, but a whole batch always passes
    async with running(tmp_path, Limits(publishes=2, batch=2, reads=2)) as house:
        assert [await house.backend.publish("a", "e") for _ in range(3)] == [200, 200, 429]
        asked = [(await house.backend.call("GET", "/channels"))[0] for _ in range(3)]
        assert asked == [200, 200, 429]
        house.pass_time(1.0)
        assert await rejections(house) == [("http", "rate_limited", "a")]


# -- presence


async def test_members_of_a_channel(tmp_path: Path) -> None:
    async with running(tmp_path, Limits(presence_members=2)) as house:
        clients = [await house.connect() for _ in range(4)]
        await clients[0].join(ROOM, "u-1")
        await clients[1].join(ROOM, "u-2")
        told = await not_subscribed(clients[2], ROOM, {"user_id": "u-3"})
        assert told == {"type": "LimitReached", "error": "the channel is full: 2 members", "status": 4100}
        await clients[3].join(ROOM, "u-2")  # somebody who is there already


def member(user_id: object, info: object = None) -> dict[str, Any]:
    return {"user_id": user_id} if info is None else {"user_id": user_id, "user_info": info}


async def test_what_a_member_may_be_called_and_tell(tmp_path: Path) -> None:
    # {"n":"京"} has 11 bytes
    async with running(tmp_path, Limits(presence_user_id=4, presence_user_info=11)) as house:
        client = await house.connect()
        for fits in (member("京" * 4), member(1453), member("u", {"n": "京"}), member("u", {"n": "abc"})):
            await client.subscribe(ROOM, fits)
            await client.unsubscribe(ROOM)
        for one in (member("京" * 5), member(14530)):
            told = await not_subscribed(client, ROOM, one)
            sentence = "channel_data.user_id may have 4 characters on a presence channel"
            assert told == {"type": "InvalidData", "error": sentence, "status": 400}
        for one in (member("u", {"n": "京a"}), member("u", {"n": "abcd"})):
            told = await not_subscribed(client, ROOM, one)
            assert told == {"type": "InvalidData", "error": "channel_data.user_info may have 11 bytes", "status": 400}


# -- what else is refused


async def test_all_other_reasons_of_the_catalogue(tmp_path: Path) -> None:
    async with running(tmp_path) as house:
        client = await house.connect()
        await client.subscribe("orders")
        for channel in ("private-a", "orders"):
            await client.send("client-e", {}, channel)
            await refused(client)
        await client.send("client-e", {})
        await client.ws.send('{"event":"client-e","channel":"private-a","data":' + "[" * 1000 + "]" * 1000 + "}")
        for place in ("channel", "data"):
            assert (await refused(client))[1].startswith(f"{place} of a client event ")
        assert (await post(house, "/events", {"name": "e", "channel": "a"}))[0] == 400
        house.backend.secret = "wrong"
        assert (await post(house, "/events", {"name": "e", "channel": "a", "data": ""}))[0] == 401
        house.backend.secret = client.secret
        assert [reason for _, reason, _ in await rejections(house)] == [
            "not_subscribed",
            "not_allowed",
            "invalid_channel",
            "invalid_data",
            "invalid_data",
            "unauthorized",
        ]
    async with running(tmp_path, client_events=False) as house:
        client = await house.connect()
        await client.subscribe("private-a")
        await client.send("client-e", {}, "private-a")
        assert (await refused(client))[0] is None
        assert [reason for _, reason, _ in await rejections(house)] == ["client_events_disabled"]
