"""`openapi.json` and the code say the same: routes, parameters, members of bodies, answers, limits; and its examples work."""

from __future__ import annotations

import asyncio
import errno
import json
import re
import tomllib
from collections.abc import AsyncIterator, Awaitable, Callable
from fnmatch import fnmatch
from pathlib import Path
from typing import Any

import openapi_spec_validator
import orjson
import pytest

import gateway
from gateway.api import call, site
from gateway.core.app import App, Limits
from gateway.core.auth import GRACE_S, sign_request
from gateway.core.delivery import Outcome, Stage, State
from gateway.core.error import RequestError
from gateway.core.format import FORMATS
from gateway.core.span import CATALOGUE
from gateway.core.trace import PARENT, STATE
from tests import contract
from tests.desk_kit import REFUSED_500, DeskKit, endpoint
from tests.device.served import APP, OTHER, Line, Served, serve

SCHEMAS: dict[str, Any] = contract.DOCUMENT["components"]["schemas"]
OPERATIONS = dict(contract.operations())
SIGNED = [operation for operation, described in OPERATIONS.items() if described["security"]]
KEY = f"{APP.id}/backend"

#: what the paths of SIGNED name, in a served kit; the event's id is put in when it is known
NAMES = {"app_id": APP.id, "channel": "presence-a", "endpoint": "backend", "user_id": "u-42"}


class Kit(DeskKit):
    """A desk with an endpoint that has been given one dead letter and one event that is due."""

    async def fill(self) -> None:
        """Let it all happen."""
        (event,) = await self.happen(1)
        await self.settle(KEY, State.DEAD, REFUSED_500, reason="max_attempts")
        (due,) = await self.happen(1)
        self.event_id, self.due_id = event.id, due.id


@pytest.fixture
async def kit() -> Kit:
    kit = Kit(endpoint())
    await kit.fill()
    return kit


@pytest.fixture
async def served(kit: Kit) -> AsyncIterator[Served]:
    async with serve(desk=kit.desk) as served:
        yield served


def target(operation: tuple[str, str], kit: Kit, **names: str) -> str:
    names = {**NAMES, "event_id": kit.event_id, **names}
    return re.sub(r"{(\w+)}", lambda match: names[match[1]], operation[1])


def body(operation: tuple[str, str]) -> bytes:
    """Return a body that the operation can do something with."""
    if operation[0] != "POST":
        return b""
    bodies: dict[str, object] = {
        "publish": {"name": "e", "channels": ["a"], "data": ""},
        "publishBatch": {"batch": [{"name": "e", "channel": "a", "data": ""}]},
        "replay": {"dead_letters": "all"},
    }
    return orjson.dumps(bodies.get(OPERATIONS[operation]["operationId"], {}))


# -- the document


def test_it_is_a_description_by_the_rules_of_openapi() -> None:
    openapi_spec_validator.validate(contract.DOCUMENT)
    names = [described["operationId"] for described in OPERATIONS.values()]
    assert len(names) == len(set(names))


async def test_it_is_served_to_everybody(served: Served) -> None:
    answer = await served.send("GET", "/openapi.json")
    assert (answer.status, answer.json) == (200, contract.DOCUMENT)


def test_it_is_in_the_package() -> None:
    project = tomllib.loads((Path(__file__).parents[2] / "pyproject.toml").read_text())
    globs = project["tool"]["setuptools"]["package-data"]["gateway"]
    assert any(fnmatch("api/openapi.json", glob) for glob in globs)
    assert contract.DOCUMENT["info"]["version"] == gateway.__version__


def test_nothing_in_it_is_left_over() -> None:
    text = json.dumps(contract.DOCUMENT)
    for kind, components in contract.DOCUMENT["components"].items():
        for name in components:
            assert kind == "securitySchemes" or f'"#/components/{kind}/{name}"' in text, f"nothing refers to {kind}/{name}"


def test_its_worked_signature_is_right() -> None:
    told = contract.DOCUMENT["info"]["description"]
    seconds = int(re.search(r"at (\d+):", told)[1])  # type: ignore[index]
    app = App(id="1001", key="demo-key", secret="demo-secret")
    query = sign_request(app, method="POST", path="/apps/1001/events", body=b"{}", now_s=seconds)
    signed, _, signature = query.partition("&auth_signature=")
    assert f"    POST\n    /apps/1001/events\n    {signed}\n" in told
    assert f"has the signature `{signature}`" in told
    assert f"good for {GRACE_S} seconds" in told


def test_its_numbers_and_names_are_those_of_the_code() -> None:
    limits = Limits()
    assert SCHEMAS["EventKind"]["enum"] == list(CATALOGUE)
    assert SCHEMAS["Stage"]["enum"] == [stage.value for stage in Stage]
    assert SCHEMAS["Endpoint"]["properties"]["format"]["enum"] == list(FORMATS)
    for schema in ("Attempt", "Trace"):
        assert SCHEMAS[schema]["properties"]["state"]["enum"] == [state.value for state in State]
    assert SCHEMAS["EventName"]["maxLength"] == limits.event_name
    assert f"{{1,{limits.channel_name}}}" in SCHEMAS["ChannelName"]["pattern"]
    assert f"at most {limits.event_data} bytes" in SCHEMAS["EventData"]["description"]
    assert SCHEMAS["Publication"]["properties"]["channels"]["maxItems"] == limits.channels_per_publish
    batch = OPERATIONS["POST", "/apps/{app_id}/batch_events"]["requestBody"]["content"]["application/json"]["schema"]
    assert batch["properties"]["batch"]["maxItems"] == limits.batch


# -- routes


def test_every_route_is_described_and_every_description_is_of_a_route() -> None:
    routes = {(route.method, "/".join(segment or "*" for segment in route.path)) for route in site.SIGNED}
    assert {(method, re.sub(r"{\w+}", "*", path)[1:]) for method, path in SIGNED} == routes
    assert {path for (_, path), described in OPERATIONS.items() if not described["security"]} == set(site.OPEN)
    assert all(method == "GET" for (method, path), _ in OPERATIONS.items() if path in site.OPEN)


@pytest.mark.parametrize("operation", OPERATIONS, ids=" ".join)
def test_what_a_path_names_is_described(operation: tuple[str, str]) -> None:
    named = {one["name"] for one in contract.parameters(operation) if one["in"] == "path"}
    assert named == set(re.findall(r"{(\w+)}", operation[1]))


def test_what_publishes_takes_the_headers_of_a_trace() -> None:
    publishing = {"/".join(segment or "*" for segment in route.path) for route in site.SIGNED if route.publishes}
    for operation in OPERATIONS:
        taken = {one["name"] for one in contract.parameters(operation) if one["in"] == "header"}
        assert taken == ({PARENT, STATE} if re.sub(r"{\w+}", "*", operation[1])[1:] in publishing else set())


# -- parameters and bodies


class Noted(dict[str, Any]):
    """A dictionary that knows what was looked for in it."""

    def __init__(self, values: dict[str, Any]) -> None:
        super().__init__(values)
        self.looked_for: set[str] = set()

    def get(self, name: str, default: Any = None) -> Any:
        self.looked_for.add(name)
        return super().get(name, default)


@pytest.mark.parametrize("operation", SIGNED, ids=" ".join)
async def test_a_handler_looks_for_just_the_parameters_that_are_described(
    served: Served, kit: Kit, operation: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    noted: list[Noted] = []
    verify = call.verify_request

    def note(*arguments: Any, **named: Any) -> Noted:
        noted.append(Noted(verify(*arguments, **named)))
        return noted[-1]

    monkeypatch.setattr(call, "verify_request", note)
    answer = await served.ask(operation[0], target(operation, kit), body(operation))
    assert answer.status == 200, answer.json
    described = {one["name"] for one in contract.parameters(operation) if one["in"] == "query"}
    assert {name for name in noted[0].looked_for if not name.endswith("[]")} == described - {"body_md5"}


def members(schema: dict[str, Any]) -> set[str]:
    """Return the names of all members an object of this schema may have."""
    schema = contract.resolved(schema)
    return set(schema.get("properties", ())).union(*map(members, schema.get("oneOf", ())))


async def test_the_members_of_a_body_that_are_looked_for_are_those_that_are_described(
    served: Served, kit: Kit, monkeypatch: pytest.MonkeyPatch
) -> None:
    noted: list[Noted] = []
    loads = orjson.loads

    def note(node: Any) -> Any:
        if isinstance(node, dict):
            noted.append(Noted({name: note(value) for name, value in node.items()}))
            return noted[-1]
        return list(map(note, node)) if isinstance(node, list) else node

    class Parser:
        JSONDecodeError = orjson.JSONDecodeError

        @staticmethod
        def loads(raw: bytes) -> Any:
            return note(loads(raw))

    monkeypatch.setattr(call, "orjson", Parser)

    async def looked_for(path: str, *bodies: object) -> set[str]:
        noted.clear()
        for one in bodies:
            assert (await served.ask("POST", path, one)).status == 200
        return set().union(*(one.looked_for for one in noted))

    base = f"/apps/{APP.id}"
    event = {"name": "e", "data": ""}
    assert await looked_for(f"{base}/events", event | {"channel": "a"}) == members(SCHEMAS["Publication"])
    batch = await looked_for(f"{base}/batch_events", {"batch": [event | {"channel": "a"}]})
    assert batch == members(SCHEMAS["BatchItem"]) | {"batch"}
    replays = ({"event_id": kit.event_id}, {"dead_letters": "all"}, {"after": 0, "until": 1, "from": 0, "to": 1})
    found = await looked_for(f"{base}/webhooks/endpoints/backend/replay", *replays)
    assert found == members(SCHEMAS["Replay"])


# -- answers


async def raw(line: Line, operation: tuple[str, str], path: str, *pieces: bytes) -> int:
    """Send bytes, and return the status of the answer, which must be as described."""
    await line.send(b"".join(pieces))
    status, headers, answer = await line.answer()
    contract.check(operation[0], path, status, headers, answer)
    return status


async def provoke(status: int, served: Served, kit: Kit, operation: tuple[str, str], monkeypatch: pytest.MonkeyPatch) -> int:
    """Do what is answered with this status."""
    method, path, sent = operation[0], target(operation, kit), body(operation)

    def fails(error: Exception) -> Callable[..., Any]:
        def fail(*arguments: object, **named: object) -> Any:
            raise error

        return fail

    async def announced(*lines: str, then: bytes = b"") -> int:
        return await raw(await served.connect(), operation, path, served.head(method, path, b"", *lines), then)

    async def ask(app: App = APP, **names: str) -> int:
        return (await served.ask(method, target(operation, kit, **names), sent, app)).status

    match status:
        case 200:
            return await ask()
        case 400:
            return await announced("Transfer-Encoding: chunked", then=b"zz\r\n")
        case 401:
            return (await served.send(method, path, sent)).status
        case 403:
            return await ask(OTHER, app_id=OTHER.id)
        case 404:
            return await ask(app_id="9")
        case 408:
            monkeypatch.setattr(call, "BODY_TIMEOUT_S", 0.01)
            return await announced("Content-Length: 2", then=b"{")
        case 409:
            sent = orjson.dumps({"event_id": kit.due_id})
            return await ask()
        case 413:
            return await announced("Content-Length: 10000000")
        case 415:
            return (await served.send(method, served.signed(method, path, sent), sent, **{"Content-Encoding": "gzip"})).status
        case 429:
            served.node.read_refusal = served.node.outcome = RequestError(429, "slower")
            waiting: Awaitable[Any] | None = None
            if "test" in path:
                done: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
                asked = asyncio.Event()

                async def test(delivery: object) -> Outcome:
                    asked.set()
                    return await done

                monkeypatch.setattr(kit.deliverer, "test", test)
                waiting = asyncio.ensure_future(ask())
                await asked.wait()
            answered = await ask()
            if waiting is not None:
                done.set_result(kit.deliverer.outcome)
                assert await waiting == 200
            return answered
        case 500:
            for look in ("app", "app_by_key"):
                monkeypatch.setattr(served.node, look, fails(ValueError("a bug")))
            return await ask()
        case 501:
            return await announced("Transfer-Encoding: gzip, chunked", then=b"0\r\n\r\n")
        case 503:
            for look in ("app", "app_by_key"):
                monkeypatch.setattr(served.node, look, fails(OSError(errno.EIO, "reading failed")))
            return await ask()
    raise AssertionError(f"nobody knows how {status} comes about")


@pytest.mark.parametrize("operation", SIGNED, ids=" ".join)
async def test_every_answer_that_is_described_can_be_had(
    kit: Kit, operation: tuple[str, str], monkeypatch: pytest.MonkeyPatch
) -> None:
    for status in map(int, OPERATIONS[operation]["responses"]):
        async with serve(desk=kit.desk) as served:
            with monkeypatch.context() as patch:
                assert await provoke(status, served, kit, operation, patch) == status


def test_an_answer_that_is_not_described_is_noticed() -> None:
    nothing: dict[str, str] = {}
    contract.check("GET", "/apps/1/channels?x=1", 200, nothing, {"channels": {"a": {"user_count": 1}}})
    contract.check("HEAD", "/apps/1/channels", 200, nothing, None)
    contract.check("POST", "/apps/1/channels", 405, {"Allow": "GET, HEAD"}, {"error": "no"})
    contract.check("GET", "/nowhere", 404, nothing, {"error": "no"})
    wrong: list[tuple[str, str, int, dict[str, str], Any]] = [
        ("GET", "/apps/1/channels", 200, nothing, {"channels": []}),
        ("GET", "/apps/1/channels", 200, nothing, {"channels": {}, "more": 1}),
        ("GET", "/apps/1/channels", 200, nothing, {"channels": {"a": {"count": 1}}}),
        ("GET", "/apps/1/channels", 200, nothing, {"channels": {"a": {"user_count": "1"}}}),
        ("GET", "/apps/1/channels", 418, nothing, {"error": "no"}),
        ("GET", "/apps/1/channels", 401, nothing, {"message": "no"}),
        ("GET", "/apps/1/channels", 429, nothing, {"error": "no"}),
        ("POST", "/apps/1/channels", 405, {"Allow": "GET"}, {"error": "no"}),
        ("POST", "/apps/1/channels", 200, nothing, {}),
        ("GET", "/nowhere", 200, nothing, {}),
    ]
    for one in wrong:
        with pytest.raises(Exception):  # noqa: B017 -- an assertion, or an error of the validator
            contract.check(*one)


# -- examples


def examples(media: dict[str, Any]) -> list[Any]:
    schema = contract.resolved(media["schema"])
    named = [one["value"] for one in media.get("examples", {}).values()]
    return named + ([media["example"]] if "example" in media else []) + schema.get("examples", [])


@pytest.mark.parametrize("operation", OPERATIONS, ids=" ".join)
def test_its_examples_fit_its_schemas(operation: tuple[str, str]) -> None:
    described = OPERATIONS[operation]
    contents = [contract.resolved(one)["content"] for one in described["responses"].values()]
    contents += [described["requestBody"]["content"]] if "requestBody" in described else []
    for content in contents:
        for example in examples(content["application/json"]):
            contract.fits(example, content["application/json"]["schema"])
    for parameter in contract.parameters(operation):
        if "example" in parameter:
            contract.fits(parameter["example"], parameter["schema"])


@pytest.mark.parametrize("operation", [one for one in SIGNED if "requestBody" in OPERATIONS[one]], ids=" ".join)
async def test_its_example_bodies_can_be_sent(served: Served, kit: Kit, operation: tuple[str, str]) -> None:
    for example in examples(OPERATIONS[operation]["requestBody"]["content"]["application/json"]):
        answer = await served.ask("POST", target(operation, kit), example)
        # what an example names need not be there
        assert answer.status == 200 or answer.json.get("where") in ("event_id", "dead_letters", "after"), answer.json
