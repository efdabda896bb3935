"""Questions about channels and their members, in exactly the shapes that SDKs parse."""

from __future__ import annotations

from collections.abc import AsyncIterator
from typing import Any
from urllib.parse import unquote

import pytest

from gateway.core.auth import sign_request
from gateway.core.error import RequestError
from tests.device.served import CHANNELS, Served, serve


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serve() as served:
        yield served


async def test_nothing_is_an_object_too(served: Served) -> None:
    assert (await served.ask("GET", CHANNELS)).json == {"channels": {}}
    assert (await served.ask("GET", CHANNELS, filter_by_prefix="presence-", info="user_count")).json == {"channels": {}}
    assert (await served.ask("GET", f"{CHANNELS}/orders")).json == {"occupied": False}
    assert (await served.ask("GET", f"{CHANNELS}/presence-a/users")).json == {"users": []}


async def test_channels_of_every_kind_are_listed(served: Served) -> None:
    names = ["orders", "private-a", "presence-a", "private-encrypted-a", "cache-a"]
    for name in names:
        served.node.enter(name, "u-1" if name == "presence-a" else None)
    assert (await served.ask("GET", CHANNELS)).json == {"channels": {name: {} for name in names}}
    assert (await served.ask("GET", CHANNELS, filter_by_prefix="private-")).json == {
        "channels": {"private-a": {}, "private-encrypted-a": {}}
    }
    answer = await served.ask("GET", CHANNELS, filter_by_prefix="presence-", info="user_count")
    assert answer.json == {"channels": {"presence-a": {"user_count": 1}}}
    answer = await served.ask("GET", CHANNELS, filter_by_prefix="o", info="subscription_count")
    assert answer.json == {"channels": {"orders": {"subscription_count": 1}}}


@pytest.mark.parametrize("parameters", [{"info": "user_count"}, {"info": "user_count", "filter_by_prefix": "p"}, {"info": "x"}])
async def test_an_info_that_a_list_cannot_have(served: Served, parameters: dict[str, str]) -> None:
    answer = await served.ask("GET", CHANNELS, **parameters)
    assert (answer.status, answer.json["where"]) == (400, "info")


async def test_one_channel(served: Served) -> None:
    served.node.enter("presence-a", "u-1", "u-1", "u-2")
    served.node.enter("orders", None, None)
    served.node.enter("cache-a", None)

    async def ask(name: str, **parameters: str) -> dict[str, Any]:
        answer = await served.ask("GET", f"{CHANNELS}/{name}", **parameters)
        assert answer.status == 200
        return answer.json  # type: ignore[no-any-return]

    assert await ask("orders") == {"occupied": True}
    assert await ask("orders", info="subscription_count") == {"occupied": True, "subscription_count": 2}
    assert await ask("empty", info="subscription_count") == {"occupied": False, "subscription_count": 0}
    assert await ask("presence-a", info="user_count,subscription_count") == {"occupied": True, "user_count": 2}
    assert await ask("presence-b", info="user_count") == {"occupied": False, "user_count": 0}
    assert await ask("cache-a", info="cache") == {"occupied": True, "cache": None}
    served.node.kept["private-cache-b"] = ('{"eur":3}', 1742)
    answer = await ask("private-cache-b", info="cache,subscription_count")
    assert answer == {"occupied": False, "subscription_count": 0, "cache": {"data": '{"eur":3}', "ttl": 1742}}


@pytest.mark.parametrize(("name", "info"), [("orders", "user_count"), ("orders", "cache"), ("orders", "members")])
async def test_an_info_that_a_channel_cannot_have(served: Served, name: str, info: str) -> None:
    answer = await served.ask("GET", f"{CHANNELS}/{name}", info=info)
    assert (answer.status, answer.json["where"]) == (400, "info")


async def test_a_list_may_come_in_pieces_and_in_whatever_spelling(served: Served) -> None:
    served.node.enter("presence-a", "u-1")
    both = {"occupied": True, "user_count": 1}
    path = f"{CHANNELS}/presence-a"
    for own in (
        "info=subscription_count&info=user_count",
        "info[]=subscription_count&info[]=user_count",
        "INFO=user_count,subscription_count",
        "info=%75ser_count%2Csubscription_count",
        "info=user_count,,user_count,",
        "info=%20user_count",
    ):
        app, stamp = served.node.app("740213"), served.clock.epoch_ms() // 1000
        pairs = [tuple(map(unquote, piece.split("="))) for piece in own.split("&")]
        query = sign_request(app, method="GET", path=path, parameters=[(n.lower(), v) for n, v in pairs], now_s=stamp)
        auth = "&".join(piece for piece in query.split("&") if piece.startswith("auth_"))
        answer = await served.send("GET", f"{path}?{own}&{auth}")
        assert (answer.status, answer.json) == (200, both), own


async def test_users_are_listed_once_as_strings(served: Served) -> None:
    served.node.enter("presence-a", "u-1", "7", "u-1")
    assert (await served.ask("GET", f"{CHANNELS}/presence-a/users")).json == {"users": [{"id": "u-1"}, {"id": "7"}]}
    assert (await served.ask("GET", f"{CHANNELS}/orders/users")).status == 400


@pytest.mark.parametrize("name", ["a%20b", "%FF", "a%2Fb", "%23server-to-user-u", "a" * 165])
async def test_a_path_with_something_else_than_a_channel(served: Served, name: str) -> None:
    for path in (f"{CHANNELS}/{name}", f"{CHANNELS}/{name}/users"):
        answer = await served.ask("GET", path)
        assert (answer.status, answer.json["where"]) == (400, "channel")
        assert "letters, digits and characters of _-=@,.;" in answer.json["error"]


async def test_escaped_and_raw_path_are_the_same_channel(served: Served) -> None:
    name = "private-a@b,c;d=e"
    served.node.enter(name, None)
    raw, escaped = f"{CHANNELS}/{name}", f"{CHANNELS}/private-a%40b%2Cc%3Bd%3De"
    for signed_path, sent_path in ((raw, raw), (raw, escaped), (escaped, raw), (escaped, escaped)):
        _, _, query = served.signed("GET", signed_path).partition("?")
        answer = await served.send("GET", f"{sent_path}?{query}")
        assert (answer.status, answer.json) == (200, {"occupied": True})


async def test_asking_too_fast_is_429_with_the_time_to_come_back(served: Served) -> None:
    served.node.read_refusal = RequestError(429, "this app may ask 1 questions per second; try again later")
    answer = await served.ask("GET", CHANNELS)
    assert answer.status == 429
    assert answer.headers["Retry-After"] == "1"
    assert "questions per second" in answer.json["error"]
