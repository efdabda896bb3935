"""docs/deploy/ and docs/deploying.md: every metric, label, setting and file that is named there exists."""

from __future__ import annotations

import json
import re
import shlex
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml
from prometheus_client.process_collector import ProcessCollector

from gateway.admin.metric import FAMILIES
from gateway.config.record import Server

ROOT = Path(__file__).parent.parent
DOCS = ROOT / "docs"
DEPLOY = DOCS / "deploy"
PAGE = (DOCS / "deploying.md").read_text()
DASHBOARD: dict[str, Any] = json.loads((DEPLOY / "grafana.json").read_text())
(RULES,) = yaml.safe_load((DEPLOY / "alerts.yml").read_text())["groups"]

#: what Prometheus adds to every sample
ADDED = frozenset({"job", "instance"})

#: by the name that a query asks for: its labels
LABELS: dict[str, frozenset[str]] = {"up": ADDED}
for family in FAMILIES:
    if family.kind == "histogram":
        LABELS[f"{family.name}_bucket"] = ADDED | {*family.labels, "le"}
    else:
        LABELS[family.shown] = ADDED | {*family.labels}
for metric in ProcessCollector(registry=None).collect():
    LABELS[metric.name + ("_total" if metric.type == "counter" else "")] = ADDED

_SELECTOR = re.compile(r"\b(up|(?:rawpush|process)_\w+)(?:\{([^}]*)\})?")
_MATCHER = re.compile(r'(\w+)(?:=~|!~|!=|=)"[^"]*"')


def panels() -> Iterator[dict[str, Any]]:
    yield from (panel for panel in DASHBOARD["panels"] if panel["type"] != "row")


def queries() -> Iterator[tuple[str, str]]:
    """Each expression, with the text whose {{labels}} its result must have."""
    for panel in panels():
        for target in panel["targets"]:
            yield target["expr"], target["legendFormat"]
    for rule in RULES["rules"]:
        yield rule["expr"], rule["annotations"]["summary"].replace("$labels.", "")


@pytest.mark.parametrize(("expression", "text"), list(queries()))
def test_every_metric_and_label_exists(expression: str, text: str) -> None:
    found = _SELECTOR.findall(expression)
    assert found
    common: frozenset[str] | None = None
    for name, matchers in found:
        assert name in LABELS, f"there is no {name}"
        assert {label for label, _ in _pairs(matchers)} <= LABELS[name], matchers
        common = LABELS[name] if common is None else common & LABELS[name]
    assert common is not None
    for grouped in re.findall(r"\bby \(([^)]*)\)", expression):
        kept = frozenset(re.split(r", *", grouped))
        assert kept <= common, grouped
        common = kept
    if "sum(" in expression or "max(" in expression or "min(" in expression:
        common = frozenset()
    if "histogram_quantile" in expression:
        assert "le" in common
    assert frozenset(re.findall(r"{{ ?(\w+) ?}}", text)) <= common, text


def _pairs(matchers: str) -> list[tuple[str, str]]:
    pairs = [(match[1], match[0]) for match in _MATCHER.finditer(matchers)]
    assert ",".join(text for _, text in pairs) == matchers, f"cannot read {matchers}"
    return pairs


def test_the_dashboard_hangs_together() -> None:
    assert len({panel["id"] for panel in DASHBOARD["panels"]}) == len(DASHBOARD["panels"])
    variables = {variable["name"] for variable in DASHBOARD["templating"]["list"]}
    assert set(re.findall(r"\$\{?([a-z]\w*)", json.dumps(DASHBOARD))) == variables
    for variable in DASHBOARD["templating"]["list"]:
        for name in re.findall(r"rawpush_\w+", variable["query"]):
            assert name in LABELS


def test_every_counter_is_shown_as_a_rate() -> None:
    counters = [name for name in LABELS if name.endswith(("_total", "_bucket"))]
    for expression, _ in queries():
        for name in counters:
            for place in re.finditer(rf"\b{name}\b", expression):
                assert expression[: place.start()].endswith(("rate(", "increase(")), expression


def test_what_the_operators_page_finds_worth_an_alert_has_a_rule() -> None:
    page = (DOCS / "operating.md").read_text()
    table = page.split("Worth an alert")[1].split("\n\n")[1]
    rules = " ".join(rule["expr"] for rule in RULES["rules"])
    named = set(re.findall(r"rawpush_\w+", table))
    assert len(named) >= 8
    assert named <= set(re.findall(r"rawpush_\w+", rules))


def unit(name: str) -> dict[str, list[str]]:
    told: dict[str, list[str]] = {}
    for line in (DEPLOY / name).read_text().splitlines():
        if "=" in line and not line.startswith("#"):
            setting, _, value = line.partition("=")
            told.setdefault(setting, []).append(value)
    return told


def test_the_units_leave_time_to_deliver() -> None:
    (seconds,) = unit("rawpush.service")["TimeoutStopSec"]
    assert int(seconds) > Server().shutdown_timeout_s
    stop = re.search(r"--stop-timeout (\d+)", PAGE)
    assert stop is not None
    assert int(stop[1]) > Server().shutdown_timeout_s


def test_the_image_copies_what_there_is_and_starts_what_the_unit_starts() -> None:
    lines = (DEPLOY / "Dockerfile").read_text().replace("\\\n", " ").splitlines()
    steps = [tuple(line.split(maxsplit=1)) for line in lines if line and not line.startswith("#")]
    for step, told in steps:
        if step == "COPY" and not told.startswith("--from"):
            *sources, _ = told.split()
            assert all((ROOT / source).exists() for source in sources), told
    last = dict(steps)
    assert int(last["USER"]) > 0
    (command,) = unit("rawpush.service")["ExecStart"]
    assert [*json.loads(last["ENTRYPOINT"]), *json.loads(last["CMD"])] == ["rawpush", *shlex.split(command)[1:]]
    assert last["EXPOSE"] == str(Server().port)
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    base = re.match(r"python:(\d+)\.(\d+)-slim", last["FROM"])
    assert base is not None
    assert f"Programming Language :: Python :: {base[1]}.{base[2]}" in project["classifiers"]


def test_it_links_to_every_file_there_is() -> None:
    assert {f"deploy/{file.name}" for file in DEPLOY.iterdir()} <= set(re.findall(r"\]\(([^)]+)\)", PAGE))
