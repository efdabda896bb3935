"""The import law: who may import whom, and what each room must never see."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

ROOT = Path(__file__).parent.parent / "gateway"

#: room -> the rooms it may import (itself always)
MAY_IMPORT = {
    "core": set(),
    "ports": {"core"},
    "telemetry": {"core"},
    "config": {"core"},
    "clock": set(),
    "chance": set(),
    "patience": set(),
    "signals": set(),
    "garbage": {"ports"},
    "http": {"core", "patience"},
    "recorder": {"core", "ports", "telemetry"},
    "sweep": {"ports"},
    "ticker": set(),
    "tenant": {"core", "ports"},
    "bulletin": {"core", "ports", "recorder", "telemetry", "tenant"},
    "user": {"core", "ports", "recorder", "sweep", "tenant"},
    "performer": {"core", "ports", "telemetry", "recorder", "tenant", "bulletin", "user"},
    "node": {"core", "ports", "telemetry", "recorder", "sweep", "tenant", "bulletin", "user", "performer", "ticker"},
    "entrance": {"config", "ports", "node", "telemetry", "transport"},
    "transport": {"core", "ports", "node", "telemetry"},
    "desk": {"core", "ports", "telemetry"},
    "api": {"core", "ports", "node", "desk", "telemetry", "http", "health"},
    "admin": {"core", "ports", "node", "desk", "telemetry", "http", "health"},
    "health": {"node"},
    "log": set(),
    "reload": {"config", "core", "telemetry"},
    "outbox": {"core", "ports", "telemetry"},
    "delivery": {"core", "ports", "telemetry"},
    "backplane": {"core", "ports", "telemetry"},
}
#: composition: may import everything below
ROOTS = {"bootstrap", "process", "dev", "cli", "command", "__main__", "__init__"}

#: what the core must never see, and why
NEVER_IN_CORE = {
    "asyncio": "the core decides, it never waits",
    "time": "the time is a value that is passed in",
    "datetime.now": "the time is a value that is passed in",
    "random": "chance is a value that is passed in",
    "secrets": "chance is a value that is passed in",
    "uuid": "chance is a value that is passed in",
    "logging": "an effect already says what happened",
    "os": "the core does not know the machine",
    "socket": "the core does not know the world",
    "threading": "the core has no neighbours",
    "pathlib": "the core has no files",
}
#: the standard modules the core may use; a list one can recite
CORE_MAY_USE = set(
    "__future__ base64 binascii bisect collections dataclasses datetime difflib email enum fnmatch functools hashlib heapq hmac "
    "ipaddress itertools math operator re string struct types typing urllib zlib orjson".split()
)

LIVE_HALF = {
    "admission",
    "auth",
    "cache",
    "effect",
    "frame",
    "hub",
    "limit",
    "newcomer",
    "probation",
    "publication",
    "roster",
    "session",
    "tally",
    "user",
    "watchlist",
}
WEBHOOK_HALF = {"circuit", "delivery", "endpoint", "format", "retry", "signing", "webhook"}

FILES = sorted(ROOT.rglob("*.py"))


def room(file: Path) -> str:
    return file.relative_to(ROOT).parts[0].removesuffix(".py")


def imports(file: Path) -> set[str]:
    found: set[str] = set()
    for node in ast.walk(ast.parse(file.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom):
            assert node.level == 0, f"{file}: relative imports hide the room"
            if node.module == "gateway":
                found |= {f"gateway.{alias.name}" for alias in node.names}
            else:
                found.add(node.module or "")
    return found


@pytest.mark.parametrize("file", FILES, ids=lambda file: str(file.relative_to(ROOT)))
def test_a_room_imports_only_what_it_may(file: Path) -> None:
    here = room(file)
    if here in ROOTS:
        return
    assert here in MAY_IMPORT, f"a new room, {here}: say in MAY_IMPORT what it may see"
    for name in imports(file):
        if name.startswith("gateway."):
            there = name.split(".")[1]
            if there == "__version__":
                continue
            assert there == here or there in MAY_IMPORT[here], f"{here} must not import {there}"


@pytest.mark.parametrize("file", [file for file in FILES if room(file) == "core"], ids=lambda file: file.name)
def test_the_core_is_pure(file: Path) -> None:
    for name in imports(file):
        top = name.split(".")[0]
        assert top not in NEVER_IN_CORE, f"{name} in the core: {NEVER_IN_CORE[top]}"
        assert top == "gateway" or top in CORE_MAY_USE, f"{name}: not on the list the core may use"
    tree = ast.parse(file.read_text())
    assert not [node for node in ast.walk(tree) if isinstance(node, ast.AsyncFunctionDef | ast.Await)], "the core never waits"


def test_the_two_halves_of_the_core_meet_only_in_lifecycle() -> None:
    for half, other in ((LIVE_HALF, WEBHOOK_HALF), (WEBHOOK_HALF, LIVE_HALF)):
        for name in half:
            file = ROOT / "core" / f"{name}.py"
            seen = {module.split(".")[2] for module in imports(file) if module.startswith("gateway.core.")}
            assert not seen & other, f"core/{name}.py imports {seen & other}; lifecycle.py is the only bridge"


def test_no_file_outgrows_the_eye() -> None:
    large = {str(file.relative_to(ROOT)): lines for file in FILES if (lines := len(file.read_text().splitlines())) > 480}
    assert not large, f"what do these hide? {large}"
