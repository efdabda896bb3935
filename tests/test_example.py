"""The example file: it is the defaults, it is complete, and it names nothing that does not exist."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from dataclasses import fields
from pathlib import Path
from typing import Any

import pytest

from gateway.config import AppEntry, Config, load
from gateway.config.schema import FILE, TABLES, Table
from gateway.core.app import App
from gateway.core.endpoint import Endpoint

EXAMPLE = Path(__file__).parent.parent / "config.example.toml"
ENVIRON = {"DEMO_SECRET": "app secret", "HOOK_SECRET": "hook secret"}

#: a setting that is commented out: a name, an equals sign, a value
OPTIONAL = re.compile(r"^# ([a-z_]+ = .*)$", re.MULTILINE)


def defaults() -> Config:
    url = "https://backend.example.com/hooks"
    endpoint = Endpoint(app_id="1001", name="backend", url=url, secrets=(ENVIRON["HOOK_SECRET"],))
    return Config(apps=(AppEntry(App(id="1001", key="demo-key", secret=ENVIRON["DEMO_SECRET"]), (endpoint,)),))


def test_it_parses_to_exactly_the_defaults() -> None:
    assert load(EXAMPLE, ENVIRON) == defaults()


def test_with_its_optional_settings_it_still_does(tmp_path: Path) -> None:
    everything = tmp_path / "config.toml"
    text = "\n".join(
        line for line in OPTIONAL.sub(r"\1", EXAMPLE.read_text()).split("\n") if not line.startswith(("tls =", "token ="))
    )
    everything.write_text(text)
    assert load(everything, ENVIRON) == defaults()


def test_every_setting_stands_in_it_and_no_other() -> None:
    document = tomllib.loads(OPTIONAL.sub(r"\1", EXAMPLE.read_text()))
    assert set(names(document)) == set(known(FILE, ""))


def test_every_setting_has_its_line_of_explanation() -> None:
    for line in EXAMPLE.read_text().split("\n"):
        if "=" in line and not line.startswith(("#  ", "# Any setting")):
            assert re.search(r"= .+  +# \S", line), f"explain {line!r}"


@pytest.mark.parametrize("table", [*TABLES.values(), FILE], ids=lambda table: table.record.__name__)
def test_every_field_of_a_record_can_be_set(table: Table) -> None:
    settable = {name + kind.suffix for name, kind in table.settings.items()} | table.tables.keys() | table.lists.keys()
    of_others = {"app_id", "pusher_key", "pusher_secret", "webhooks"}  # an endpoint's app, an app's endpoints
    assert {one.name for one in fields(table.record)} - of_others == settable - of_others


def names(document: Any, place: str = "") -> Iterator[str]:
    for name, value in document.items():
        here = f"{place}.{name}".lstrip(".")
        yield here
        entries = value if isinstance(value, list) else [value]
        for entry in entries:
            if isinstance(entry, dict):
                yield from names(entry, here)


def known(table: Table, place: str) -> Iterator[str]:
    for name in table.names:
        here = f"{place}.{name}".lstrip(".")
        yield here
        inner = table.tables.get(name) or table.lists.get(name)
        if inner is not None:
            yield from known(inner, here)
