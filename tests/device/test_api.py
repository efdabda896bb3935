"""The HTTP API's front: routes, signatures, the mount prefix; and the stock SDK against it."""

from __future__ import annotations

import asyncio
import gzip
from collections.abc import AsyncIterator

import orjson
import pusher
import pytest
import uvloop
from pusher.errors import PusherBadAuth, PusherBadRequest

from gateway.clock import SystemClock
from tests.device.served import APP, BATCH, CHANNELS, EVENT, EVENTS, ITEM, OTHER, Served, serve, signed

SIGNED_ROUTES = [
    ("POST", EVENTS),
    ("POST", BATCH),
    ("GET", CHANNELS),
    ("GET", f"{CHANNELS}/presence-a"),
    ("GET", f"{CHANNELS}/presence-a/users"),
]


@pytest.fixture
async def served() -> AsyncIterator[Served]:
    async with serve() as served:
        yield served


# -- health


async def test_health_and_readiness_need_no_signature(served: Served) -> None:
    assert (await served.send("GET", "/healthz")).json == {"ok": True}
    answer = await served.send("GET", "/readyz")
    assert (answer.status, answer.json) == (200, {"ready": True})
    served.node.reasons = ["starting"]
    answer = await served.send("GET", "/readyz")
    assert (answer.status, answer.json) == (503, {"ready": False, "reasons": ["starting"]})
    assert (await served.send("GET", "/healthz")).status == 200
    assert (await served.send("HEAD", "/healthz")).status == 200
    answer = await served.send("POST", "/healthz")
    assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")


# -- what may not pass


@pytest.mark.parametrize(("method", "path"), SIGNED_ROUTES)
async def test_every_route_demands_a_right_signature(served: Served, method: str, path: str) -> None:
    right = served.signed(method, path, b"{}" if method == "POST" else b"")
    body = b"{}" if method == "POST" else b""
    another = served.signed(method, "/apps/1/events", body).partition("?")[2]
    wrong = [
        path,
        f"{path}?",
        right + "0",
        f"{right}&x=1",
        f"{path}?{another}",
        right.replace("auth_version=1.0", "auth_version=2.0"),
    ]
    for target in wrong:
        answer = await served.send(method, target, body)
        assert answer.status == 401
        assert APP.secret not in str(answer.json)
    assert served.node.published == []
    assert served.node.rejected == [(APP.id, "unauthorized", None, None, 2)] * (len(wrong) if method == "POST" else 0)


async def test_what_a_wrong_signature_covers_is_not_looked_at(served: Served) -> None:
    for body in (b"not json", b'{"name":"pusher:x"}'):
        assert (await served.send("POST", EVENTS, body)).status == 401
    target = served.signed("POST", f"/apps/{OTHER.id}/events", b"{}", OTHER)
    assert (await served.send("POST", target + "0", b"{}")).status == 401


async def test_a_disabled_app_is_told_so_after_the_signature(served: Served) -> None:
    answer = await served.ask("POST", f"/apps/{OTHER.id}/events", EVENT, OTHER)
    assert answer.status == 403
    assert "enabled" in answer.json["error"]
    assert served.node.published == []


@pytest.mark.parametrize(
    "path",
    [
        "/",
        "",
        "/x",
        "/apps",
        f"/apps/{APP.id}",
        f"/apps/{APP.id}/",
        f"{EVENTS}/",
        f"/apps//{APP.id}/events",
        f"/{EVENTS}",
        f"{CHANNELS}/",
        f"{CHANNELS}//users",
        f"{CHANNELS}/a/users/b",
        "/apps//events",
        "/%FF",
        "/healthz/",
        "/rt/healthz",
        "/apps/999999/events",
        "/apps/%FF/events",
        "/apps/1%0A/events",
    ],
)
async def test_unknown_paths_and_apps(served: Served, path: str) -> None:
    target = signed("POST", path, b"{}", app=APP, now_s=served.clock.epoch_ms() // 1000)
    assert (await served.send("POST", target, b"{}")).status == 404


async def test_who_asks_for_something_else_is_told_what_there_is(served: Served) -> None:
    for path, remedy in (("/apps/1/event", "GET /openapi.json"), ("/apps/9/channels", "[[apps]]")):
        answer = await served.ask("GET", path)
        assert (answer.status, answer.json["where"], remedy in answer.json["error"]) == (404, "path", True)
    answer = await served.ask("DELETE", EVENTS)
    assert answer.json == {"error": "this path takes POST", "where": "method"}


async def test_no_page_is_let_in(served: Served) -> None:
    preflight = {"Origin": "https://example.com", "Access-Control-Request-Method": "POST"}
    answer = await served.send("OPTIONS", EVENTS, **preflight)
    assert answer.status == 405
    assert not [name for name in answer.headers if name.lower().startswith("access-control-")]


@pytest.mark.parametrize("method", ["PUT", "DELETE", "PATCH", "OPTIONS", "GET", "HEAD"])
async def test_a_method_that_publishing_does_not_take(served: Served, method: str) -> None:
    answer = await served.ask(method, EVENTS)
    assert (answer.status, answer.headers["Allow"]) == (405, "POST")


@pytest.mark.parametrize("method", ["PUT", "DELETE", "OPTIONS", "POST"])
async def test_a_method_that_questions_do_not_take(served: Served, method: str) -> None:
    answer = await served.ask(method, CHANNELS)
    assert (answer.status, answer.headers["Allow"]) == (405, "GET, HEAD")


async def test_head_answers_like_get_without_a_body(served: Served) -> None:
    answer = await served.ask("HEAD", CHANNELS)
    assert (answer.status, answer.headers["Content-Length"]) == (200, str(len('{"channels":{}}')))
    assert (await served.send("HEAD", CHANNELS)).status == 401


@pytest.mark.parametrize("coding", ["gzip", "br", "x"])
async def test_an_encoded_body_is_refused(served: Served, coding: str) -> None:
    body = gzip.compress(orjson.dumps(EVENT))
    target = served.signed("POST", EVENTS, body)
    assert (await served.send("POST", target, body, **{"Content-Encoding": coding})).status == 415
    assert (await served.send("POST", served.signed("POST", EVENTS, b"{}"), body, **{"Content-Encoding": coding})).status == 401


@pytest.mark.parametrize(
    "content_type", ["text/plain", "application/json; charset=latin-1", "application/json; charset=test", "é"]
)
async def test_the_content_type_does_not_matter(served: Served, content_type: str) -> None:
    body = orjson.dumps(EVENT)
    answer = await served.send("POST", served.signed("POST", EVENTS, body), body, **{"Content-Type": content_type})
    assert answer.status == 200


# -- the mount prefix


@pytest.mark.parametrize("prefix", ["/rt", "/rt/", "/a/b"])
async def test_everything_is_there_under_the_prefix_and_without(prefix: str) -> None:
    async with serve(path_prefix=prefix) as served:
        mount = prefix.rstrip("/")
        for sent in (EVENTS, mount + EVENTS):
            for signed_path in (EVENTS, mount + EVENTS):
                body = orjson.dumps(EVENT)
                _, _, query = served.signed("POST", signed_path, body).partition("?")
                assert (await served.send("POST", f"{sent}?{query}", body)).status == 200
        assert (await served.send("GET", f"{mount}/healthz")).status == 200
        assert (await served.send("GET", f"{mount}x/healthz")).status == 404
        assert (await served.ask("GET", f"{mount}{mount}/apps/{APP.id}/channels")).status == 404


# -- the stock SDK, and the other event loop


def sdk(served: Served, secret: str = APP.secret) -> pusher.Pusher:
    return pusher.Pusher(APP.id, APP.key, secret, ssl=False, host="127.0.0.1", port=served.port)


async def test_the_python_sdk() -> None:
    async with serve(clock=SystemClock()) as served:
        served.node.enter("presence-a", "u-1", "u-2")
        served.node.enter("orders", None)
        client = sdk(served)
        assert await asyncio.to_thread(client.trigger, "orders", "created", {"id": "é"}, "1.2") == {}
        assert served.node.published[0].except_socket_id == "1.2"
        assert orjson.loads(served.node.published[0].data) == {"id": "é"}
        assert await asyncio.to_thread(client.trigger_batch, [ITEM, ITEM]) == {}
        assert len(served.node.published) == 3
        answer = await asyncio.to_thread(client.channels_info, "presence-", ["user_count"])
        assert answer == {"channels": {"presence-a": {"user_count": 2}}}
        answer = await asyncio.to_thread(client.channel_info, "orders", ["subscription_count"])
        assert answer == {"occupied": True, "subscription_count": 1}
        assert await asyncio.to_thread(client.users_info, "presence-a") == {"users": [{"id": "u-1"}, {"id": "u-2"}]}
        with pytest.raises(PusherBadRequest):
            await asyncio.to_thread(client.channels_info, None, ["user_count"])
        with pytest.raises(PusherBadAuth):
            await asyncio.to_thread(sdk(served, "wrong").trigger, "orders", "created", "x")


def test_it_works_on_uvloop() -> None:
    async def publish() -> None:
        async with serve() as served:
            assert (await served.ask("POST", EVENTS, EVENT)).status == 200
            reader, writer = await asyncio.open_connection("127.0.0.1", served.port)
            writer.write(b"GET /healthz HTTP/1.1\r\nHost: x\r\n\r\n")
            await reader.readuntil(b"}")
            await served.site.stop(5)
            assert await reader.read() == b""
            writer.close()

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(publish())
