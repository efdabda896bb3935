"""What a run has been told, question by question, and how it is kept: as JSON that a later run can go on from."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from bench.report import Answer, Growth, Result, saturated, was_limited

_FILE = "figures.json"


@dataclass(frozen=True, slots=True)
class Told:
    """A question with all its answers, and how long they took."""

    name: str
    seconds: float
    answers: Sequence[Answer]

    @property
    def is_whole(self) -> bool:
        """Nothing was refused."""
        return bool(self.answers) and not any(one.is_refused for one in self.answers)


def save(folder: Path, around: Mapping[str, object], told: Sequence[Told]) -> None:
    """Write a run, as far as it has come."""
    folder.mkdir(parents=True, exist_ok=True)
    content = {**around, "questions": [_as_json(each) for each in told]}
    (folder / _FILE).write_text(json.dumps(content, indent=2) + "\n")


def load(folder: Path) -> tuple[dict[str, Any], list[Told]]:
    """Return what `save` has written: what surrounds the figures, and the questions. Raises FileNotFoundError."""
    content = json.loads((folder / _FILE).read_text())
    return content, [_told(each) for each in content.pop("questions")]


def _as_json(told: Told) -> dict[str, object]:
    answers = [asdict(each) | {"results": {name: _result(one) for name, one in each.results.items()}} for each in told.answers]
    return {"name": told.name, "seconds": round(told.seconds, 1), "answers": answers}


def _result(result: Result) -> dict[str, object]:
    # Nothing where nothing was timed.
    times = {"p50_us": result.p50_us or None, "p99_us": result.p99_us or None}
    return asdict(result) | times | {"saturated": saturated(result), "is_load_the_limit": was_limited(result)}


def _told(content: dict[str, Any]) -> Told:
    return Told(content["name"], content["seconds"], [_answer(each) for each in content["answers"]])


def _answer(content: dict[str, Any]) -> Answer:
    results = {
        name: Result(**{key: value or 0 for key, value in one.items() if key in Result.__slots__})
        for name, one in content["results"].items()
    }
    growth = content["growth"] and Growth(**content["growth"] | {"points": [tuple(each) for each in content["growth"]["points"]]})
    return Answer(content["sentence"], content["is_refused"], results, content["figures"], growth)
