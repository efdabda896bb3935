"""A description as a judge: whatever is answered in a test must be an answer that the description of that port tells of."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator, Mapping
from functools import cache
from pathlib import Path
from typing import Any
from urllib.parse import unquote

from jsonschema import Draft202012Validator
from referencing import Registry
from referencing.jsonschema import DRAFT202012

import gateway
from gateway.admin.description import description

METHODS = ("get", "put", "post", "delete", "options", "head", "patch", "trace")

Operation = tuple[str, str]  # method in upper case, path with {names}


class Contract:
    """One description, and what is to be known of it."""

    def __init__(self, document: dict[str, Any]) -> None:
        self.document = document
        self._registry = Registry().with_resource("urn:api", DRAFT202012.create_resource(_closed(document)))
        self._validator = cache(self._make_validator)

    def operations(self) -> Iterator[tuple[Operation, dict[str, Any]]]:
        """Go through what is described."""
        for path, item in self.document["paths"].items():
            for method in METHODS:
                if method in item:
                    yield (method.upper(), path), item[method]

    def parameters(self, operation: Operation) -> list[dict[str, Any]]:
        """Return the parameters of an operation, those of its path included."""
        method, path = operation
        item = self.document["paths"][path]
        return [self.resolved(one) for one in item.get("parameters", []) + item[method.lower()].get("parameters", [])]

    def resolved(self, node: dict[str, Any]) -> dict[str, Any]:
        """Follow a reference."""
        while "$ref" in node:
            found: Any = self.document
            for step in node["$ref"].removeprefix("#/").split("/"):
                found = found[step]
            node = found
        return node

    def path_of(self, target: str, prefix: str = "") -> str | None:
        """Return the described path that a target is at, None if there is none."""
        path = target.partition("?")[0]
        segments = path.removeprefix(prefix).split("/") if prefix and path.startswith(f"{prefix}/") else path.split("/")
        for described in self.document["paths"]:
            wanted = described.split("/")
            if len(wanted) == len(segments) and all(
                segment != "" if want.startswith("{") else segment == want for want, segment in zip(wanted, segments, strict=True)
            ):
                return str(described)
        return None

    def check(self, method: str, target: str, status: int, headers: Mapping[str, str], answer: Any, prefix: str = "") -> None:
        """Fail if the description does not tell of this answer; `answer` is None where there is no body to look at."""
        headers = {name.lower(): value for name, value in headers.items()}
        path = self.path_of(target, prefix)
        if path is None:
            assert status in (400, 404), f"{status} at {unquote(target)}, which is not described"
            self.fits(answer, {"$ref": "#/components/schemas/Error"})
            return
        item = self.document["paths"][path]
        described = "get" if method == "HEAD" else method.lower()
        if described not in item:
            assert status == 405, f"{method} {path} is not described"
            allowed = [name.upper() for name in METHODS if name in item]
            assert re.split(", ?", headers["allow"]) == ([*allowed, "HEAD"] if "GET" in allowed else allowed)
            self.fits(answer, {"$ref": "#/components/schemas/Error"})
            return
        told = item[described]["responses"]
        assert str(status) in told, f"{method} {path} answers {status}, which is not described: {answer}"
        response = self.resolved(told[str(status)])
        for name, header in response.get("headers", {}).items():
            if header.get("required"):
                assert name.lower() in headers, f"{method} {path} answers {status} without {name}"
        media = headers.get("content-type", "application/json").partition(";")[0]
        assert media in response["content"], f"{method} {path} answers {status} as {media}"
        self.fits(answer, response["content"][media]["schema"])

    def fits(self, value: Any, schema: dict[str, Any]) -> None:
        """Fail if a value does not fit a schema of the description, or has a member that it does not name."""
        if value is not None:
            self._validator(json.dumps(schema)).validate(value)

    def _make_validator(self, schema: str) -> Draft202012Validator:
        return Draft202012Validator(_closed(json.loads(schema.replace('"#/', '"urn:api#/'))), registry=self._registry)


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


def _read(room: str) -> dict[str, Any]:
    document: dict[str, Any] = json.loads((Path(gateway.__file__).parent / room / "openapi.json").read_text(encoding="utf-8"))
    return document


#: the public port
API = Contract(_read("api"))
DOCUMENT = API.document
operations, parameters, resolved, check, fits = API.operations, API.parameters, API.resolved, API.check, API.fits

#: the operator's port
ADMIN = Contract(description())
