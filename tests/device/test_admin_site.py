"""The operator's site: what can be asked and ordered, page by page, and what everything else is answered."""

from __future__ import annotations

import asyncio
import errno
import logging
import socket
from collections.abc import AsyncIterator
from typing import Any

import orjson
import pytest

from gateway.admin.page import _AT_ONCE
from gateway.admin.site import PortUnusable, Site
from gateway.core.app import App
from gateway.core.delivery import State
from tests.desk_kit import REFUSED_500
from tests.device.admin_kit import House, Served, serve
from tests.patience import LONG_S

APP = "/v1/apps/740213"


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serve() as served:
        yield served


async def walk(served: Served, target: str, key: str) -> list[Any]:
    """Go through all pages."""
    told: list[Any] = []
    after = ""
    while True:
        answer = (await served.get(f"{target}{after}")).json
        told += answer[key]
        if "after" not in answer:
            return told
        assert len(answer[key]) <= 2
        after = f"&after={answer['after']}"


# -- who may


async def test_the_token_is_asked_for_everywhere_but_for_health() -> None:
    async with serve(token="s3cret") as served:
        for target in ("/v1/overview", "/metrics", "/v1/nothing", "/"):
            refused = await served.get(target)
            assert (refused.status, refused.headers["WWW-Authenticate"]) == (401, "Bearer")
            assert refused.json["where"] == "Authorization"
        for target in ("/healthz", "/readyz"):
            assert (await served.get(target)).status == 200
        assert (await served.get("/v1/overview", Authorization="Bearer s3cret")).status == 200
        assert (await served.get("/metrics", Authorization="Bearer s3cret")).status == 200
        assert (await served.post("/v1/reload", Authorization="Bearer no")).status == 401


async def test_a_page_of_another_origin_gets_nowhere(served: Served) -> None:
    assert (await served.get("/v1/overview", Host="evil.example")).status == 403
    assert (await served.send("POST", "/v1/reload", b"{}", Content_Type="text/plain")).status == 415
    assert (await served.send("TRACE", "/v1/reload", Content_Type="text/plain")).status == 405
    asked = await served.send(
        "OPTIONS",
        "/v1/reload",
        Origin="https://evil.example",
        Access_Control_Request_Method="POST",
        Content_Type="application/json",
    )
    assert asked.status == 405
    assert not [name for name in asked.headers if name.startswith("Access-Control")]


# -- questions


async def test_the_overview(served: Served) -> None:
    house = served.house
    live, _ = house.connect()
    house.join(live, "orders")
    await house.recorder.committed()
    house.clock.move(5)
    told = (await served.get("/v1/overview")).json
    assert (told["version"], told["node"], told["ready"], told["connections"], told["channels"]) == ("1.2.3", "gw-1", True, 1, 1)
    assert told["started_at"] == "2025-08-04T09:33:20.000Z"
    assert told["outbox"] == {"writable": True, "readable": True, "used_bytes": 4096, "limit_bytes": 1 << 30}
    assert told["recorder"] == {"queued": 0, "limit": 1000, "failing": False}
    assert [app["id"] for app in told["apps"]] == ["740213", "740214", "740215"]
    assert [app["enabled"] for app in told["apps"]] == [True, True, False]
    first = told["apps"][0]
    assert (first["connections"], first["channels"], first["backlog"], first["oldest_age_ms"]) == (1, 1, 3, 5000)
    assert [(one["name"], one["url"]) for one in first["endpoints"]] == [("backend", "http://127.0.0.1:9/backend?...")]
    assert "oldest_age_ms" not in told["apps"][1]


async def test_apps_come_in_pages(served: Served) -> None:
    for target in ("/v1/overview", "/v1/apps"):
        assert [app["id"] for app in await walk(served, f"{target}?limit=2", "apps")] == ["740213", "740214", "740215"]
    assert (await served.get("/v1/apps?limit=1")).json["apps"][0]["linger_ms"] == 0


async def test_connections_come_in_pages_whoever_leaves_meanwhile(served: Served) -> None:
    house = served.house
    lives = []
    for number in range(7):
        lives.append(house.connect("key-1" if number % 2 else "key-2")[0])
        house.clock.move(0.001)
    told = await walk(served, "/v1/connections?limit=2", "connections")
    assert [one["app_id"] for one in told] == ["740213"] * 3 + ["740214"] * 4
    assert {one["socket_id"] for one in told} == {live.socket_id for live in lives}
    assert [one["socket_id"] for one in await walk(served, "/v1/connections?limit=2&app=740213", "connections")] == [
        live.socket_id for live in lives[1::2]
    ]
    after = (await served.get("/v1/connections?limit=2&app=740214")).json["after"]
    house.node.lost(lives[2], 1000, "client")
    rest = (await served.get(f"/v1/connections?app=740214&after={after}")).json["connections"]
    assert [one["socket_id"] for one in rest] == [lives[4].socket_id, lives[6].socket_id]


async def test_connections_and_channels_are_found_by_a_part_of_their_names(served: Served) -> None:
    house = served.house
    lives = [house.connect("key-1" if number % 2 else "key-2")[0] for number in range(6)]
    house.sign_in(lives[3], "Ann-7")
    for live in lives:
        house.join(live, f"Room-{live.socket_id}")
    for search in ("ann-", "ANN", "n-7"):
        assert [one["user_id"] for one in await walk(served, f"/v1/connections?limit=2&search={search}", "connections")] == [
            "Ann-7"
        ]
    part = lives[4].socket_id[-6:]
    found = await walk(served, f"/v1/connections?limit=2&search={part}", "connections")
    assert [one["socket_id"] for one in found] == [lives[4].socket_id]
    found = await walk(served, f"/v1/channels?limit=2&search=oom-{lives[4].socket_id}", "channels")
    assert [one["channel"] for one in found] == [f"Room-{lives[4].socket_id}"]
    assert len(await walk(served, "/v1/channels?limit=2&search=room", "channels")) == 6
    assert await walk(served, "/v1/connections?limit=2&search=nobody", "connections") == []


async def test_among_many_thousand_a_page_costs_little_and_nobody_waits_for_it(served: Served) -> None:
    house = served.house
    many = 3 * _AT_ONCE
    for number in range(many):
        live, _ = house.connect("key-2")
        house.join(live, f"room-{number:06}")
    turns = 0

    async def count() -> None:
        nonlocal turns
        while True:
            turns += 1
            await asyncio.sleep(0)

    counting = asyncio.create_task(count())
    loop = asyncio.get_running_loop()
    for target, key, found in (
        (f"/v1/channels?search={many - 1}", "channels", 1),
        ("/v1/channels?search=none", "channels", 0),
        ("/v1/connections?search=none", "connections", 0),
        (f"/v1/channels?after=740214:room-{many - 3:06}", "channels", 2),
    ):
        turns, began_at = 0, loop.time()
        assert len((await served.get(target)).json[key]) == found
        # some 20 ms of work; a walk that is quadratic takes minutes
        assert (turns >= 3, loop.time() - began_at < LONG_S) == (True, True)
    counting.cancel()


async def test_a_connection_with_its_channels(served: Served) -> None:
    live, connection = served.house.connect()
    served.house.join(live, "a")
    served.house.join(live, "b")
    connection.received_bytes = 12
    served.house.clock.move(2)
    told = (await served.get(f"{APP}/connections/{live.socket_id}")).json
    assert (told["subscribed"], told["channels"], told["received_bytes"], told["duration_ms"]) == (["a", "b"], 2, 12, 2000)
    assert (await served.get(f"/v1/apps/740214/connections/{live.socket_id}")).status == 404


async def test_whose_a_connection_is(served: Served) -> None:
    live, connection = served.house.connect()
    target = f"{APP}/connections/{live.socket_id}"
    facts = {"remote_ip": "203.0.113.9", "user_agent": "test/1", "client": "js/8.6.0", "protocol": 7}
    whole = {"peer": "192.0.2.1", **facts}
    assert whole.items() <= (await served.get(target)).json.items()
    assert whole.items() <= (await served.get("/v1/connections")).json["connections"][0].items()
    # nobody wants to hear of connections any more: what is known then is what the socket says when it is asked
    live.tenant.lifecycle.reconfigure(frozenset(), 0.0)
    told = (await served.get(target)).json
    assert whole.keys() & told.keys() == {"peer"}
    connection.peer = ""
    assert "peer" not in (await served.get(target)).json


async def test_the_channels_of_a_connection_come_in_pages(served: Served) -> None:
    live, _ = served.house.connect()
    for name in "abcde":
        served.house.join(live, name)
    target = f"{APP}/connections/{live.socket_id}"
    assert await walk(served, f"{target}?limit=2", "subscribed") == list("abcde")
    assert (await served.get(f"{target}?after=5")).json["subscribed"] == []
    assert (await served.get(f"{target}?after=x")).json["where"] == "after"


async def test_channels_come_in_pages(served: Served) -> None:
    for name in ("b", "a", "room-2", "room-10", "room-1"):
        served.house.join(served.house.connect()[0], name)
    other, _ = served.house.connect("key-2")
    served.house.join(other, "a")
    told = await walk(served, "/v1/channels?limit=2", "channels")
    assert [(one["app_id"][-1], one["channel"]) for one in told] == [
        ("3", "a"), ("3", "b"), ("3", "room-1"), ("3", "room-10"), ("3", "room-2"), ("4", "a"),
    ]  # fmt: skip
    assert told[0] == {"app_id": "740213", "channel": "a", "type": "public", "subscribers": 1}
    rooms = await walk(served, "/v1/channels?limit=2&prefix=room&app=740213", "channels")
    assert [one["channel"] for one in rooms] == ["room-1", "room-10", "room-2"]


async def test_a_channel_with_who_is_on_it(served: Served) -> None:
    lives = [served.house.connect()[0] for _ in range(5)]
    for live in lives:
        served.house.join(live, "orders")
    told = (await served.get(f"{APP}/channels/orders")).json
    assert (told["subscribers"], told["connections"]) == (5, [live.socket_id for live in lives])
    assert await walk(served, f"{APP}/channels/orders?limit=2", "connections") == [live.socket_id for live in lives]
    assert (await served.get(f"{APP}/channels/presence-nobody")).json["members"] == []
    assert (await served.get(f"{APP}/channels/no%20channel")).status == 400


async def test_what_the_desk_is_asked_is_answered_here_too(served: Served) -> None:
    kit = served.house.kit
    [event] = await kit.happen(1)
    assert (await served.get(f"{APP}/webhooks/events")).json["events"][0]["id"] == event.id
    assert (await served.get(f"{APP}/webhooks/events/{event.id}")).json["endpoints"][0]["matches"]
    assert (await served.get(f"{APP}/webhooks/endpoints")).json["endpoints"][0]["backlog"] == 1
    await kit.settle("740213/backend", State.DEAD, REFUSED_500, reason="max_attempts")
    assert (await served.get(f"{APP}/webhooks/endpoints/backend/deliveries?limit=1")).json["deliveries"][0]["status"] == 500
    dead = (await served.get(f"{APP}/webhooks/endpoints/backend/dead_letters")).json["dead_letters"]
    assert [one["event_id"] for one in dead] == [event.id]
    replayed = await served.post(f"{APP}/webhooks/endpoints/backend/replay", {"dead_letters": [dead[0]["number"]]})
    assert replayed.json["replayed"] == 1
    assert (await served.post(f"{APP}/webhooks/endpoints/backend/test")).json["ok"]
    assert (await served.post(f"{APP}/webhooks/endpoints/backend/enable")).status == 200


# -- orders


async def test_publish(served: Served) -> None:
    live, connection = served.house.connect()
    served.house.join(live, "orders")
    connection.frames()
    answer = await served.post(f"{APP}/events", {"name": "created", "channels": ["orders"], "data": "x"})
    assert (answer.status, answer.json) == (200, {})
    assert [frame["event"] for frame in connection.frames()] == ["created"]
    assert (await served.post("/v1/apps/740215/events", {"name": "e", "channel": "c", "data": "x"})).status == 403
    refused = await served.post(f"{APP}/events", {"name": "e", "channel": "no channel", "data": "x"})
    assert (refused.status, refused.json["where"]) == (400, "channel")


async def test_a_publish_hands_its_trace_on(served: Served) -> None:
    parent = "00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01"
    event = {"name": "created", "channels": ["orders"], "data": "x"}
    for headers in ({"traceparent": parent, "tracestate": "a=1"}, {"traceparent": "nonsense"}):
        assert (await served.post(f"{APP}/events", event, **headers)).status == 200
    claims = [await served.house.outbox.claim("740213/backend", lane, 9) for lane in range(8)]
    told = [orjson.loads(one.envelope)["metadata"] for claim in claims if claim is not None for one in claim.deliveries]
    assert [(one.get("traceparent"), one.get("tracestate")) for one in told] == [(parent, "a=1"), (None, None)]


@pytest.mark.parametrize(("body", "code"), [(None, 4009), ({}, 4009), ({"reconnect": False}, 4009), ({"reconnect": True}, 4200)])
async def test_terminate(served: Served, body: object, code: int) -> None:
    live, connection = served.house.connect()
    answer = await served.post(f"{APP}/connections/{live.socket_id}/terminate", body)
    assert (answer.status, answer.json) == (200, {"socket_id": live.socket_id, "code": code})
    assert connection.closed is not None
    assert connection.closed[0] == code
    assert live.ending == (code, "terminated")
    assert (await served.get("/v1/connections")).json["connections"][0]["closing"] == "terminated"
    assert (await served.post(f"{APP}/connections/1.999/terminate", {})).status == 404


async def test_a_user_is_shown_and_sent_away_with_all_his_connections(served: Served) -> None:
    house = served.house
    (live, connection), (_, other) = house.connect(), house.connect()
    house.sign_in(live, "u-7")
    [first, second] = (await served.get("/v1/connections")).json["connections"]
    assert (first["user_id"], "user_id" in second) == ("u-7", False)
    assert (await served.get("/v1/channels")).json == {"channels": []}, "the user's own channel is the gateway's business"
    assert (await served.post(f"{APP}/users/u-7/terminate_connections")).json == {}
    house.node.tick()
    assert connection.closed is not None
    assert connection.closed[0] == 4009
    assert other.closed is None


async def test_reload_is_answered_with_what_came_of_it(served: Served) -> None:
    mistake = {"file": "config.toml", "line": 3, "place": "x", "error": "no"}
    served.reloads.append((422, {"error": "the file has 1 mistake; nothing was changed", "mistakes": [mistake]}))
    answer = await served.post("/v1/reload")
    assert (answer.status, answer.json["mistakes"]) == (422, [mistake])
    assert (await served.get("/v1/reload")).status == 405


# -- what is wrong


@pytest.mark.parametrize(
    ("method", "target", "body", "status", "where"),
    [
        ("GET", "/v2", b"", 404, "path"),
        ("GET", "/v1/apps/999/webhooks/events", b"", 404, "path"),
        ("POST", "/v1/overview", b"", 405, "method"),
        ("GET", "/v1/connections?limit=0", b"", 400, "limit"),
        ("GET", "/v1/connections?limit=501", b"", 400, "limit"),
        ("GET", "/v1/connections?limit=x", b"", 400, "limit"),
        ("GET", "/v1/connections?after=x", b"", 400, "after"),
        ("GET", "/v1/connections?after=1:1e.:1.1", b"", 400, "after"),
        ("GET", "/v1/channels?after=x", b"", 400, "after"),
        ("GET", "/v1/connections?app=999", b"", 404, "app"),
        ("GET", "/v1/channels?prefx=a", b"", 400, "prefx"),
        ("GET", f"{APP}/webhooks/endpoints/nobody/deliveries", b"", 404, None),
        ("POST", f"{APP}/events", b"{", 400, "body"),
        ("POST", f"{APP}/events", b"x" * 1_100_000, 413, "body"),
        ("POST", f"{APP}/connections/1.1/terminate", b"[]", 400, "body"),
        ("POST", f"{APP}/connections/1.1/terminate", b'{"reconnect": 1}', 400, "reconnect"),
        ("POST", f"{APP}/connections/1.1/terminate", b'{"recnnect": true}', 400, "recnnect"),
    ],
)
async def test_mistakes_are_told_with_their_place(
    served: Served, method: str, target: str, body: bytes, status: int, where: str | None
) -> None:
    answer = await served.send(method, target, body, Content_Type="application/json")
    assert answer.status == status
    if where is not None:
        assert answer.json["where"] == where


@pytest.mark.parametrize(
    "sent",
    [b"GET / HTTP/1.1\r\nno field\r\n\r\n", b"\x16\x03\x01\r\n\r\n", b"GET /%s HTTP/1.1\r\n\r\n" % (b"x" * 9000)],
    ids=["no field", "TLS", "too long"],
)
async def test_what_cannot_be_read_is_answered_in_json_too(served: Served, sent: bytes, caplog: pytest.LogCaptureFixture) -> None:
    reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
    writer.write(sent)
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    writer.close()
    assert head.startswith(b"HTTP/1.0 400 ")
    assert b"Content-Type: application/json\r\n" in head + b"\r\n"
    assert b"aiohttp" not in head
    assert orjson.loads(body) == {"error": "the request is not well-formed HTTP, or its head is too large"}
    assert not [record for record in caplog.records if record.levelno > logging.INFO]


async def test_a_disk_that_cannot_be_read_is_no_fault_of_the_asker(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    served.house.outbox.refuses_reads = True
    with caplog.at_level(logging.ERROR):
        answer = await served.get(f"{APP}/webhooks/endpoints")
    assert answer.status == 503
    assert caplog.records[0].getMessage() == "the outbox cannot be used"


async def test_a_mistake_of_ours_is_logged_and_not_told(served: Served, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level(logging.ERROR):
        answer = await served.post("/v1/reload")  # none is prepared
    assert (answer.status, answer.json) == (500, {"error": "the gateway could not answer; its log says why"})
    assert caplog.records[0].exc_info is not None


async def test_a_port_that_is_taken_names_the_settings_that_help() -> None:
    house = House(App("1", "k", "s"))
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        site = Site(sources=house.sources, token="", host="127.0.0.1", reload=lambda: None)  # type: ignore[arg-type, return-value]
        with pytest.raises(PortUnusable) as caught:
            await site.listen(port)
        await site.stop()
    assert caught.value.errno == errno.EADDRINUSE
    assert str(caught.value).startswith(f"the admin port 127.0.0.1:{port} cannot be opened (Address already in use); set another")
