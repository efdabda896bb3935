"""Publishing over HTTP: one event, a batch, what is answered, and what is recorded of a refusal."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import AsyncIterator

import orjson
import pytest

from gateway.core.error import RequestError
from tests.device.served import APP, BATCH, EVENT, EVENTS, ITEM, Served, serve


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serve() as served:
        yield served


async def test_publish(served: Served) -> None:
    answer = await served.ask("POST", EVENTS, EVENT | {"socket_id": "1.2"})
    assert (answer.status, answer.json) == (200, {})
    [publication] = served.node.published
    assert (publication.event, publication.channels, publication.data) == ("created", ("orders",), '{"id":17}')
    assert publication.except_socket_id == "1.2"


async def test_an_answer_waits_until_the_publication_is_recorded(served: Served) -> None:
    recorded: asyncio.Future[None] = asyncio.get_running_loop().create_future()
    served.node.outcome = recorded
    asked = asyncio.ensure_future(served.ask("POST", EVENTS, EVENT))
    # answered after the publish was received, on another connection
    while not served.node.published:
        await served.send("GET", "/healthz")
    await served.send("GET", "/healthz")
    assert not asked.done()
    recorded.set_result(None)
    assert (await asked).status == 200


async def test_publish_with_info_answers_for_every_channel_once(served: Served) -> None:
    served.node.enter("presence-a", "u-1", "u-1", "u-2")
    served.node.enter("orders", None, None, None)
    channels = ["presence-a", "orders", "presence-a", "empty", "#server-to-user-u-1"]
    answer = await served.ask("POST", EVENTS, EVENT | {"channels": channels, "info": "user_count,subscription_count,cache"})
    assert answer.json == {
        "channels": {
            "presence-a": {"user_count": 2},
            "orders": {"subscription_count": 3},
            "empty": {"subscription_count": 0},
            "#server-to-user-u-1": {},
        }
    }


async def test_batch(served: Served) -> None:
    batch = [ITEM | {"name": "a"}, ITEM | {"name": "b", "channel": "other"}]
    answer = await served.ask("POST", BATCH, {"batch": batch})
    assert (answer.status, answer.json) == (200, {})
    assert [(publication.event, publication.channels) for publication in served.node.published] == [
        ("a", ("orders",)),
        ("b", ("other",)),
    ]


async def test_batch_with_info_answers_by_index(served: Served) -> None:
    served.node.enter("orders", None)
    answer = await served.ask("POST", BATCH, {"batch": [ITEM, ITEM | {"info": "subscription_count"}]})
    assert answer.json == {"batch": [{}, {"subscription_count": 1}]}


async def test_a_batch_is_all_or_nothing(served: Served) -> None:
    answer = await served.ask("POST", BATCH, {"batch": [ITEM, ITEM | {"data": "x" * 10_241}]})
    assert (answer.status, answer.json["where"]) == (413, "batch[1].data")
    assert served.node.published == []
    assert served.node.rejected == [(APP.id, "payload_too_large", "orders", "created", 10_241)]


async def test_parameters_of_a_publish_may_stand_in_the_query(served: Served) -> None:
    answer = await served.ask("POST", EVENTS, name="e", data="a+b c", channel="orders", info="subscription_count")
    assert answer.json == {"channels": {"orders": {"subscription_count": 0}}}
    assert served.node.published[0].data == "a+b c"


@pytest.mark.parametrize("path", [EVENTS, BATCH])
@pytest.mark.parametrize(
    "body",
    [
        b"{",
        b"[]",
        b"null",
        b"7",
        b"\xef\xbb\xbf" + orjson.dumps(EVENT),
        orjson.dumps(EVENT).decode().encode("utf-16"),
        orjson.dumps(EVENT).replace(b"17", b"\xff"),
        orjson.dumps(EVENT).replace(b"created", b"\xc0\x80"),
        orjson.dumps(EVENT).replace(b"created", b"\\ud83d"),
        b'{"name":"e","channels":["orders"],"data":"\\ud83d"}',
        b"[" * 100_000,
    ],
)
async def test_a_body_that_is_not_what_it_should_be(served: Served, path: str, body: bytes) -> None:
    answer = await served.ask("POST", path, body)
    assert answer.status == 400
    assert served.node.published == []
    assert [(reason, size) for _, reason, _, _, size in served.node.rejected] in (
        [("invalid_data", len(body))],
        [("invalid_event", len(body))],
    )


async def test_no_body_at_all(served: Served) -> None:
    assert (await served.ask("POST", EVENTS)).json["where"] == "channels"
    assert (await served.ask("POST", BATCH)).json["where"] == "batch"


async def test_an_escaped_surrogate_inside_the_data_is_only_text(served: Served) -> None:
    body = b'{"name":"e","channels":["a"],"data":"{\\"t\\":\\"\\\\ud83d\\"}"}\n'
    assert (await served.ask("POST", EVENTS, body)).status == 200
    assert served.node.published[0].data == '{"t":"\\ud83d"}'


async def test_no_room_to_record_is_come_back_later(served: Served) -> None:
    served.node.outcome = RequestError(503, "the event queue is full", reason="overloaded")
    answer = await served.ask("POST", EVENTS, EVENT)
    assert (answer.status, answer.headers["Retry-After"]) == (503, "1")
    assert served.node.rejected == [(APP.id, "overloaded", "orders", "created", 9)]


async def test_the_unexpected_is_logged_and_answered(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    served.node.outcome = ValueError("a bug")
    with caplog.at_level(logging.ERROR, logger="rawpush.api"):
        answer = await served.ask("POST", EVENTS, EVENT)
    assert answer.status == 500
    assert "a bug" not in answer.json["error"]
    assert "a bug" in caplog.text
    served.node.outcome = None
    assert (await served.ask("POST", EVENTS, EVENT)).status == 200
