"""The operator's `openapi.json` and the code say the same: routes, parameters, bodies, answers; and its examples work.

That every answer is one that is described is seen to by `admin_kit`, whatever a test asks.
"""

from __future__ import annotations

import asyncio
import json
import re
import tomllib
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import openapi_spec_validator
import orjson
import pytest

import gateway
from gateway.admin import description, site
from gateway.admin.page import MOST, USUAL
from gateway.core.delivery import Outcome, State
from gateway.core.error import RequestError
from tests.contract import ADMIN, API
from tests.desk_kit import REFUSED_500
from tests.device.admin_kit import Answer, House, Served, serve

OPERATIONS = dict(ADMIN.operations())
#: those that come through the two tables of routes
BY_TABLE = [one for one in OPERATIONS if one[1] not in ("/healthz", "/readyz", "/metrics", "/v1/openapi.json", "/v1/reload")]
APP = "740213"


class Scene:
    """A house with a connection, and an endpoint that has been given one dead letter and one event that is due."""

    def __init__(self, served: Served) -> None:
        self.served = served
        self.names = {"app_id": APP, "channel": "presence-a", "endpoint": "backend", "user_id": "u-42"}
        served.reloads += [(200, {"reloaded": True, "apps": 1, "endpoints": 1, "at_next_start": []})] * 9

    async def fill(self) -> None:
        """Let it all happen."""
        house = self.served.house
        (event,) = await house.kit.happen(1)
        await house.kit.settle(f"{APP}/backend", State.DEAD, REFUSED_500, reason="max_attempts")
        (due,) = await house.kit.happen(1)
        live, _ = house.connect()
        house.join(live, "orders")
        self.due_id = due.id
        self.names |= {"event_id": event.id, "socket_id": live.socket_id}

    def target(self, path: str, **names: str) -> str:
        return re.sub(r"{(\w+)}", lambda match: {**self.names, **names}[match[1]], path)

    async def ask(self, operation: tuple[str, str], body: object = None, query: str = "", **names: str) -> Answer:
        method, path = operation
        if method == "GET":
            return await self.served.get(self.target(path, **names) + query)
        return await self.served.post(self.target(path, **names) + query, usual_body(operation) if body is None else body)


def usual_body(operation: tuple[str, str]) -> object:
    """Return a body that the operation can do something with."""
    bodies = {"publish": {"name": "e", "channels": ["a"], "data": ""}, "replay": {"dead_letters": "all"}}
    return bodies.get(OPERATIONS[operation]["operationId"])


@pytest.fixture
async def scene() -> AsyncIterator[Scene]:
    async with serve() as served:
        scene = Scene(served)
        await scene.fill()
        yield scene


# -- the document


def test_it_is_a_description_by_the_rules_of_openapi() -> None:
    openapi_spec_validator.validate(ADMIN.document)
    names = [described["operationId"] for described in OPERATIONS.values()]
    assert len(names) == len(set(names))
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    assert "admin/openapi.json" in project["tool"]["setuptools"]["package-data"]["gateway"]
    assert ADMIN.document["info"]["version"] == gateway.__version__


def test_what_both_ports_say_is_said_once() -> None:
    own = json.loads(Path(description.__file__).with_name("openapi.json").read_text())["components"]
    for kind, components in own.items():
        for name, component in components.items():
            assert f'"#/components/{kind}/{name}"' in json.dumps(ADMIN.document) or kind == "securitySchemes", (
                f"left over: {name}"
            )
            assert component not in API.document["components"].get(kind, {}).values(), f"{kind}/{name} is described twice"


async def test_it_is_served(scene: Scene) -> None:
    assert (await scene.served.get("/v1/openapi.json")).json == ADMIN.document


def test_its_numbers_are_those_of_the_code() -> None:
    limit = ADMIN.document["components"]["parameters"]["page_limit"]["schema"]
    assert (limit["minimum"], limit["maximum"], limit["default"]) == (1, MOST, USUAL)


# -- routes and what can be asked


def test_every_route_is_described_and_every_description_is_of_a_route() -> None:
    routes = {(method, path) for method, path, _ in site.GENERAL}
    routes |= {(method, f"/v1/apps/*{path.replace('{name}', '*')}") for method, path, _ in site.OF_APP}
    assert {(method, re.sub(r"{\w+}", "*", path)) for method, path in BY_TABLE} == routes
    for _, path in OPERATIONS:
        named = {one["name"] for one in ADMIN.parameters(("GET" if ("GET", path) in OPERATIONS else "POST", path))}
        assert set(re.findall(r"{(\w+)}", path)) <= named


@pytest.mark.parametrize("operation", OPERATIONS, ids=" ".join)
async def test_what_is_described_can_be_asked(scene: Scene, operation: tuple[str, str]) -> None:
    answer = await scene.ask(operation)
    assert answer.status == 200, answer.json


@pytest.mark.parametrize("operation", BY_TABLE, ids=" ".join)
async def test_a_handler_looks_for_just_the_parameters_that_are_described(
    scene: Scene, operation: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    looked_for: set[str] = set()

    class Noted(dict[str, list[str]]):
        def get(self, name: str, default: Any = None) -> Any:
            looked_for.add(name)
            return super().get(name, default)

    monkeypatch.setattr(site, "_parameters", lambda request: Noted())
    assert (await scene.ask(operation)).status == 200
    described = {one["name"] for one in ADMIN.parameters(operation) if one["in"] == "query"}
    assert {name for name in looked_for if not name.endswith("[]")} == described


# -- answers


async def provoke(status: int, scene: Scene, operation: tuple[str, str], patch: pytest.MonkeyPatch) -> int:
    """Do what is answered with this status."""
    (method, path), served = operation, scene.served

    def fails(error: Exception) -> Callable[..., Any]:
        def fail(*arguments: object, **named: object) -> Any:
            raise error

        return fail

    match status:
        case 200:
            return (await scene.ask(operation)).status
        case 400:
            return (await scene.ask(operation, *([[]] if "replay" in path else []), query="?nothing=1")).status
        case 401:
            async with serve(token="s3cret") as guarded:
                return (await guarded.send(method, scene.target(path), Content_Type="application/json")).status
        case 403:
            return (await served.send(method, scene.target(path), Host="evil.example", Content_Type="application/json")).status
        case 404 if "{app_id}" in path:
            return (await scene.ask(operation, app_id="9")).status
        case 404:
            return (await scene.ask(operation, query="?app=9")).status
        case 408:
            patch.setattr(site, "_BODY_S", 0.01)
            return await unfinished(scene, operation)
        case 409 if path == "/v1/reload":
            patch.setattr(served.site, "_reload", fails(RequestError(409, "there is no file")))
            return (await scene.ask(operation)).status
        case 409:
            return (await scene.ask(operation, {"event_id": scene.due_id})).status
        case 413:
            return (await served.send(method, scene.target(path), b"x" * 1_100_000, Content_Type="application/json")).status
        case 415:
            return (await served.send(method, scene.target(path), Content_Type="text/plain")).status
        case 422:
            mistakes = [{"file": "x.toml", "line": 1, "place": "apps", "error": "no"}]
            served.reloads.append((422, {"error": "no", "mistakes": mistakes}))
            return (await scene.ask(operation)).status
        case 429 if "test" in path:
            return await ask_for_two_tests(scene, operation, patch)
        case 429:
            patch.setattr(served.house.node, "publish", fails(RequestError(429, "slower")))
            return (await scene.ask(operation)).status
        case 500:
            for look in ("app", "publish", "why_not_ready"):
                patch.setattr(served.house.node, look, fails(ValueError("a bug")))
            patch.setattr(served.site, "_reload", fails(ValueError("a bug")))
            served.house.node._tenants = None  # type: ignore[assignment]
            patch.setattr(site, "description", fails(ValueError("a bug")))
            return (await scene.ask(operation)).status
        case 503 if path == "/readyz":
            served.house.node._is_draining = True
            return (await scene.ask(operation)).status
        case 503:
            for look in ("app", "publish"):
                patch.setattr(served.house.node, look, fails(OSError("no space left")))
            patch.setattr(served.site, "_reload", fails(OSError("no space left")))
            return (await scene.ask(operation)).status
    raise AssertionError(f"nobody knows how {status} comes about")


async def unfinished(scene: Scene, operation: tuple[str, str]) -> int:
    """Announce a body, send half of it, and return the status of the answer."""
    reader, writer = await asyncio.open_connection("127.0.0.1", scene.served.port)
    target = scene.target(operation[1])
    lines = f"{operation[0]} {target} HTTP/1.1", "Host: 127.0.0.1", "Content-Type: application/json", "Content-Length: 2"
    writer.write("\r\n".join([*lines, "", "{"]).encode())
    head, _, rest = (await reader.readuntil(b"\r\n\r\n")).decode().partition("\r\n")
    status, headers = int(head.split()[1]), dict(line.split(": ", 1) for line in rest.strip().splitlines())
    answer = orjson.loads(await reader.readexactly(int(headers["Content-Length"])))
    writer.close()
    await writer.wait_closed()
    ADMIN.check(operation[0], target, status, headers, answer)
    return status


async def ask_for_two_tests(scene: Scene, operation: tuple[str, str], patch: pytest.MonkeyPatch) -> int:
    done: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
    asked = asyncio.Event()

    async def test(delivery: object) -> Outcome:
        asked.set()
        return await done

    deliverer = scene.served.house.kit.deliverer
    patch.setattr(deliverer, "test", test)
    first = asyncio.ensure_future(scene.ask(operation))
    await asked.wait()
    status = (await scene.ask(operation)).status
    done.set_result(deliverer.outcome)
    assert (await first).status == 200
    return status


@pytest.mark.parametrize("operation", OPERATIONS, ids=" ".join)
async def test_every_answer_that_is_described_can_be_had(operation: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> None:
    for status in map(int, OPERATIONS[operation]["responses"]):
        house = House()
        async with serve(house) as served:
            scene = Scene(served)
            await scene.fill()
            tenants = house.node._tenants
            with monkeypatch.context() as patch:
                assert await provoke(status, scene, operation, patch) == status
            house.node._tenants = tenants


# -- examples


@pytest.mark.parametrize("operation", OPERATIONS, ids=" ".join)
async def test_its_examples_fit_and_can_be_sent(scene: Scene, operation: tuple[str, str]) -> None:
    described = OPERATIONS[operation]
    contents = [ADMIN.resolved(one)["content"] for one in described["responses"].values()]
    bodies = described.get("requestBody", {}).get("content", {})
    for media in [*(one["application/json"] for one in contents if "application/json" in one), *bodies.values()]:
        schema = ADMIN.resolved(media["schema"])
        for example in [*([media["example"]] if "example" in media else []), *schema.get("examples", [])]:
            ADMIN.fits(example, media["schema"])
    for media in bodies.values():
        schema = ADMIN.resolved(media["schema"])
        for example in [*([media["example"]] if "example" in media else []), *schema.get("examples", [])]:
            answer = await scene.ask(operation, example)
            # what an example names need not be there
            assert answer.status == 200 or answer.json.get("where") in ("event_id", "dead_letters", "after"), answer.json
    for parameter in ADMIN.parameters(operation):
        if "example" in parameter:
            ADMIN.fits(parameter["example"], parameter["schema"])


def test_a_component_nobody_has_is_noticed() -> None:
    document = {"x": {"$ref": "#/components/schemas/Nothing"}, "components": {}}
    with pytest.raises(KeyError, match="Nothing"):
        description.complete(document, {"schemas": {}})
    shared = {"schemas": {"Nothing": {"$ref": "#/components/schemas/Something"}, "Something": orjson.loads(b"true")}}
    description.complete(document, shared)
    assert document["components"] == shared
