"""The API's description as a judge: whatever the API answers in a test must be an answer that the description tells of."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from jsonschema import Draft202012Validator
from referencing import Registry
from referencing.jsonschema import DRAFT202012

import gateway

DOCUMENT: dict[str, Any] = json.loads((Path(gateway.__file__).parent / "api" / "openapi.json").read_text(encoding="utf-8"))

METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")

Operation = tuple[str, str]  # method in upper case, path with {names}


def operations() -> Iterator[tuple[Operation, dict[str, Any]]]:
    """Go through what is described."""
    for path, item in DOCUMENT["paths"].items():
        for method in METHODS:
            if method in item:
                yield (method.upper(), path), item[method]


def parameters(operation: Operation) -> list[dict[str, Any]]:
    """Return the parameters of an operation, those of its path included."""
    method, path = operation
    item = DOCUMENT["paths"][path]
    return [resolved(one) for one in item.get("parameters", []) + item[method.lower()].get("parameters", [])]


def resolved(node: dict[str, Any]) -> dict[str, Any]:
    """Follow a reference."""
    while "$ref" in node:
        found: Any = DOCUMENT
        for step in node["$ref"].removeprefix("#/").split("/"):
            found = found[step]
        node = found
    return node


def path_of(target: str, prefix: str = "") -> str | None:
    """Return the described path that a target is at, None if there is none."""
    path = target.partition("?")[0]
    segments = path.removeprefix(prefix).split("/") if prefix and path.startswith(f"{prefix}/") else path.split("/")
    for described in DOCUMENT["paths"]:
        wanted = described.split("/")
        if len(wanted) == len(segments) and all(
            segment != "" if want.startswith("{") else segment == want for want, segment in zip(wanted, segments, strict=True)
        ):
            return str(described)
    return None


def check(method: str, target: str, status: int, headers: Mapping[str, str], answer: Any, prefix: str = "") -> None:
    """Fail if the description does not tell of this answer; `answer` is None where there is no body to look at."""
    headers = {name.lower(): value for name, value in headers.items()}
    path = path_of(target, prefix)
    if path is None:
        assert status in (400, 404), f"{status} at {unquote(target)}, which is not described"
        fits(answer, {"$ref": "#/components/schemas/Error"})
        return
    item = DOCUMENT["paths"][path]
    described = "get" if method == "HEAD" else method.lower()
    if described not in item:
        assert status == 405, f"{method} {path} is not described"
        allowed = [name.upper() for name in METHODS if name in item]
        assert headers["allow"] == ", ".join([*allowed, "HEAD"] if "GET" in allowed else allowed)
        fits(answer, {"$ref": "#/components/schemas/Error"})
        return
    told = item[described]["responses"]
    assert str(status) in told, f"{method} {path} answers {status}, which is not described: {answer}"
    response = resolved(told[str(status)])
    for name, header in response.get("headers", {}).items():
        if header.get("required"):
            assert name.lower() in headers, f"{method} {path} answers {status} without {name}"
    fits(answer, response["content"]["application/json"]["schema"])


def fits(value: Any, schema: dict[str, Any]) -> None:
    """Fail if a value does not fit a schema of the description, or has a member that it does not name."""
    if value is not None:
        _validator(json.dumps(schema)).validate(value)


@cache
def _validator(schema: str) -> Draft202012Validator:
    registry = Registry().with_resource("urn:api", DRAFT202012.create_resource(_closed(DOCUMENT)))
    return Draft202012Validator(_closed(json.loads(schema.replace('"#/', '"urn:api#/'))), registry=registry)


def _closed(node: Any) -> Any:
    """Let objects have named members only: clients must put up with new ones, but the description must not be behind."""
    if isinstance(node, list):
        return [_closed(one) for one in node]
    if not isinstance(node, dict):
        return node
    closed = {name: _closed(value) for name, value in node.items()}
    if node.get("type") == "object" and "properties" in node:
        closed.setdefault("additionalProperties", False)
    return closed
