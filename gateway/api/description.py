"""The API's description of itself, in OpenAPI 3.1: `openapi.json` beside this file, which the tests hold to the code."""

from __future__ import annotations

from functools import cache
from pathlib import Path

import orjson

from gateway.node import Node


def description(node: Node) -> tuple[int, dict[str, object]]:
    """Answer the description; it is the same for everybody, and tells nothing of any app."""
    return 200, _read()


@cache
def _read() -> dict[str, object]:
    document: dict[str, object] = orjson.loads(Path(__file__).with_name("openapi.json").read_bytes())
    return document
