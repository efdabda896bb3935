"""Cache channels and subscription counts on the wire: the frames in their order, byte for byte, through the real sockets."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from gateway.core.app import Limits
from gateway.core.tally import FEW, PACE_S
from tests.e2e.client import Client
from tests.wire.running import Running, running

KINDS = ["cache-a", "private-cache-a", "presence-cache-a", "private-encrypted-cache-a"]
SUCCEEDED = "pusher_internal:subscription_succeeded"
COUNT = "pusher_internal:subscription_count"


async def after_joining(house: Running, channel: str, user_id: str = "u") -> tuple[Client, list[str]]:
    """Let somebody new subscribe; return him and the texts of all frames he gets."""
    client = await house.connect()
    member = {"user_id": user_id} if channel.startswith("presence-") else None
    await client.send("pusher:subscribe", client.subscription(channel, member))
    await client.send("pusher:ping", {})
    texts = []
    while '"pusher:pong"' not in (text := str(await client.ws.recv())):
        texts.append(text)
    return client, texts


def counts(frames: list[dict[str, Any]]) -> list[int]:
    return [json.loads(frame["data"])["subscription_count"] for frame in frames if frame["event"] == COUNT]


@pytest.mark.parametrize("channel", KINDS)
async def test_what_a_newcomer_gets(tmp_path: Path, channel: str) -> None:
    async with running(tmp_path, subscription_counts=True) as house:
        _, (succeeded, miss, *count) = await after_joining(house, channel)
        assert json.loads(succeeded)["event"] == SUCCEEDED
        assert miss == f'{{"event":"pusher:cache_miss","channel":"{channel}","data":"{{}}"}}'
        assert [json.loads(text)["event"] for text in count] == ([] if channel.startswith("presence-") else [COUNT])
        # as it stands in the request's body, so shall it stand in every frame
        for data in (
            '{"eur": 3, "of":"\\u6771京👍"}',
            "",
            "plain \u2028 text",
            json.dumps({"nonce": "bm8=", "ciphertext": "Yw=="}),
        ):
            assert await house.backend.publish(channel, "App\\Events\\Price", data) == 200
            client, (_, kept, *count) = await after_joining(house, channel)
            assert json.loads(kept) == {"event": "App\\Events\\Price", "channel": channel, "data": data}
            assert len(count) == (0 if channel.startswith("presence-") else 1)
            await house.backend.publish(channel, "App\\Events\\Price", data)
            assert str(await client.ws.recv()) == kept, "the same bytes as live"
            assert await house.backend.get(f"/channels/{channel}", info="cache") == {
                "occupied": True,
                "cache": {"data": data, "ttl": 1800},
            }
        misses = await house.recorded("channel.cache_miss")
        assert [one["channel"] for one in misses] == [channel]


async def test_client_events_and_member_frames_are_not_kept(tmp_path: Path) -> None:
    async with running(tmp_path) as house:
        first, _ = await after_joining(house, "presence-cache-a", "u-1")
        await first.send("client-typing", {"on": True}, "presence-cache-a")
        _, frames = await after_joining(house, "presence-cache-a", "u-2")
        assert [json.loads(text)["event"] for text in frames] == [SUCCEEDED, "pusher:cache_miss"]
        assert await house.backend.get("/channels/presence-cache-a", info="cache") == {"occupied": True, "cache": None}


async def test_what_is_kept_outlives_its_last_subscriber_and_ends_with_its_age(tmp_path: Path) -> None:
    async with running(tmp_path, cache_lifetime_s=60.0) as house:
        assert await house.backend.publish("cache-a", "e", "7") == 200
        client, (_, kept) = await after_joining(house, "cache-a")
        await client.close()
        house.pass_time(59.5)
        assert await house.backend.get("/channels/cache-a", info="cache") == {
            "occupied": False,
            "cache": {"data": "7", "ttl": 1},
        }
        assert (await after_joining(house, "cache-a"))[1][1] == kept
        house.pass_time(0.5)
        assert '"pusher:cache_miss"' in (await after_joining(house, "cache-a"))[1][1]


async def test_the_room_is_a_number_of_bytes(tmp_path: Path) -> None:
    async with running(tmp_path, Limits(cache=100_000)) as house:
        for number in range(20):
            assert await house.backend.publish(f"cache-{number}", "e", "京" * 3_000) == 200
        kept = [
            number
            for number in range(20)
            if (await house.backend.get(f"/channels/cache-{number}", info="cache"))["cache"] is not None
        ]
        assert kept == list(range(10, 20)), "ten of 9,000 bytes and what they take beside"


async def test_counts_above_a_hundred_wait_and_the_last_one_comes(tmp_path: Path) -> None:
    async with running(tmp_path, subscription_counts=True) as house:
        crowd = [await house.connect() for _ in range(FEW + 1)]
        for client in crowd:
            await client.subscribe("orders")
        witness = crowd[0]
        assert counts(await witness.settle()) == list(range(1, FEW + 2))
        for client in crowd[1:4]:
            await client.unsubscribe("orders")
            await client.settle()
        assert counts(await witness.settle()) == [FEW, FEW - 1, FEW - 2]
        for client in crowd[1:4]:
            await client.subscribe("orders")
        extra = await house.connect()
        await extra.subscribe("orders")
        assert counts(await witness.settle()) == [FEW - 1, FEW, FEW + 1]
        house.pass_time(PACE_S - 0.1)
        assert counts(await witness.settle()) == []
        house.pass_time(0.1)
        assert counts(await witness.settle()) == [FEW + 2]
        told = [one["subscribers"] for one in await house.recorded("channel.subscription_count")]
        assert told == [*range(1, FEW + 2), FEW, FEW - 1, FEW - 2, FEW - 1, FEW, FEW + 1, FEW + 2]
