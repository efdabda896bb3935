"""What is wrong in a configuration: a list, never only the first of it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake: the place (a key path with positions and names), a sentence, and the file and line where known."""

    place: str
    sentence: str
    file: str = ""
    line: int | None = None

    def __str__(self) -> str:
        where = [self.file] if self.file else []
        where += [str(self.line)] if self.file and self.line else []
        return ": ".join(part for part in (":".join(where), self.place, self.sentence) if part)


class ConfigError(Exception):
    """The configuration cannot be used; `problems` are all its mistakes, in the order of the file."""

    def __init__(self, problems: Sequence[Problem]) -> None:
        super().__init__(problems)
        self.problems = tuple(problems)

    def __str__(self) -> str:
        return "\n".join(map(str, self.problems))
