"""The operator's port described in OpenAPI 3.1: `openapi.json` beside this file, which the tests hold to the code.

What both ports say in the same words (endpoints, dead letters, a replay) is described once, in the HTTP API's document; the
components that are missing here are taken from there.
"""

from __future__ import annotations

import re
from functools import cache
from pathlib import Path
from typing import Any

import orjson

from gateway.desk.answer import Answer

_REFERENCE = re.compile(rb'"#/components/(\w+)/(\w+)"')


@cache
def description() -> Answer:
    """Return the document; it is the same for everybody, and tells nothing of any app."""
    here = Path(__file__)
    document: Answer = orjson.loads(here.with_name("openapi.json").read_bytes())
    shared = orjson.loads((here.parents[1] / "api" / "openapi.json").read_bytes())["components"]
    complete(document, shared)
    return document


def complete(document: Answer, shared: dict[str, dict[str, Any]]) -> None:
    """Add what the document refers to and does not have, and what that refers to; raises KeyError where it is nowhere."""
    wanted = _REFERENCE.findall(orjson.dumps(document))
    while wanted:
        kind, name = map(bytes.decode, wanted.pop())
        own = document["components"].setdefault(kind, {})
        if name not in own:
            own[name] = shared[kind][name]
            wanted += _REFERENCE.findall(orjson.dumps(own[name]))
