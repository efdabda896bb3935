"""The generated reference pages are those of the code as it is."""

from __future__ import annotations

import runpy
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from gateway.config.schema import TABLES

DOCS = Path(__file__).parent.parent / "docs"
PAGES: dict[str, Callable[[], str]] = runpy.run_path(str(DOCS / "generate.py"))["PAGES"]


@pytest.mark.parametrize("page", PAGES)
def test_a_page_is_as_new_as_the_code(page: str) -> None:
    assert (DOCS / page).read_text() == PAGES[page](), "run: python docs/generate.py"


@pytest.mark.parametrize(("title", "table"), TABLES.items())
def test_no_setting_is_missing(title: str, table: Any) -> None:
    section = (DOCS / "settings.md").read_text().split(f"\n## {title}\n")[1].split("\n## ")[0]
    assert all(f"| `{name}`" in section for name in table.settings)
