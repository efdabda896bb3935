"""The operator's page: what it names exists, and what it shows is what the gateway says."""

from __future__ import annotations

import json
import re
import tomllib
from pathlib import Path

from gateway.admin.metric import FAMILIES
from gateway.admin.site import GENERAL, OF_APP
from gateway.config.record import Admin
from gateway.config.schema import ADMIN

DOCS = Path(__file__).parent.parent / "docs"
PAGE = (DOCS / "operating.md").read_text()
BLOCKS: dict[str, list[str]] = {}
for language, content in re.findall(r"```(\w+)\n(.*?)```", PAGE, re.DOTALL):
    BLOCKS.setdefault(language, []).append(content)


def test_the_section_is_the_defaults() -> None:
    (block,) = BLOCKS["toml"]
    told = tomllib.loads(block.replace("# token", "token"))["admin"]
    assert told.keys() == ADMIN.settings.keys()
    default = Admin()
    assert (told["enabled"], told["host"], told["port"]) == (default.enabled, default.host, default.port)


def test_every_metric_it_names_exists() -> None:
    samples = {family.shown for family in FAMILIES} | {
        f"{family.name}_bucket" for family in FAMILIES if family.kind == "histogram"
    }
    named = set(re.findall(r"rawpush_[a-z_]+", PAGE))
    assert len(named) >= 10
    assert named <= samples


def test_every_path_is_on_it() -> None:
    for method, path, _ in GENERAL:
        assert f"| `{method} {path}" in PAGE
    for method, path, _ in OF_APP:
        name = "USER_ID" if "users" in path else "NAME" if "webhooks" in path or "channels" in path else "SOCKET_ID"
        head, dots, tail = path.replace("{name}", "EVENT_ID" if path.startswith("/webhooks/events") else name).partition(
            "/webhooks/"
        )
        if not dots:
            assert f"`{method} /v1/apps/ID{head}`" in PAGE
        else:
            assert f"`{tail}`" in PAGE or f"`{tail.rpartition('/')[2]}`" in PAGE


def test_its_json_is_json() -> None:
    for block in BLOCKS["json"]:
        assert json.loads(block)["mistakes"][0].keys() == {"file", "line", "place", "error"}
