"""docs/migrating.md: its files are right, and every setting it names exists."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from gateway.config import load
from gateway.config.schema import TABLES
from tests.page import Page

PAGE = Page("migrating.md")


def test_its_files_are_without_a_mistake(tmp_path: Path) -> None:
    file = tmp_path / "config.toml"
    file.write_text("".join(PAGE.all("toml")))
    (app,) = load(file, {"APP_SECRET": "s", "HOOK_SECRET": "h"}).apps
    assert app.endpoints[0].format == "pusher"


@pytest.mark.parametrize("table", ["[server]", "[[apps]]", "[apps.limits]", "[[apps.webhooks]]"])
def test_it_names_settings_that_exist(table: str) -> None:
    named = re.findall(rf"`{re.escape(table)} (\w+)`((?:[^|`]*`\w+`)*)", PAGE.text)
    assert named
    names = [name for first, others in named for name in (first, *re.findall(r"`(\w+)`", others))]
    assert set(names) <= set(TABLES[table].names)
