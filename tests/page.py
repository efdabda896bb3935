"""A page of the documentation, whose examples a test runs."""

from __future__ import annotations

import re
from pathlib import Path

_DOCS = Path(__file__).parent.parent / "docs"


class Page:
    """`text` is all of it, `blocks` its code: language and text, in order."""

    def __init__(self, name: str) -> None:
        self.text = (_DOCS / name).read_text()
        self.blocks: list[tuple[str, str]] = re.findall(r"^```(\w+)\n(.*?)^```", self.text, re.MULTILINE | re.DOTALL)

    def all(self, language: str) -> list[str]:
        """Return the blocks in that language."""
        return [code for name, code in self.blocks if name == language]

    def block(self, language: str, holds: str = "") -> str:
        """Return the only block in that language that holds this."""
        (code,) = [code for code in self.all(language) if holds in code]
        return code
