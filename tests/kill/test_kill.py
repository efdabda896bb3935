"""The kill test in its short form, and proof that it can fail. The long form: `python -m tests.kill --seconds 600`."""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.e2e.gateway_process import ROOT
from tests.kill.drill import drill
from tests.kill.sabotage import SABOTAGES, broken_copy

#: less would prove little
LEAST = {"lives killed": 5, "publishes acknowledged": 100, "connections": 50, "sign-ins": 3}


async def test_the_ledger_balances_whatever_is_killed(tmp_path: Path) -> None:
    report = await drill(tmp_path / "town", seed=7, seconds=600.0, rounds=8, least=LEAST)
    assert report.violations == [], report.text()
    assert all(report.counts[what] >= least for what, least in LEAST.items()), report.text()


@pytest.mark.parametrize(
    ("name", "way"), [("send-before-commit", "after-an-acknowledgement"), ("recovery-skipped", "while-recovering")]
)
async def test_a_broken_gateway_is_found_out(tmp_path: Path, name: str, way: str) -> None:
    root = broken_copy(name, tmp_path)
    report = await drill(tmp_path / "town", seed=7, seconds=300.0, rounds=2, only=way, root=root, patience_s=1.0)
    assert report.counts["lives killed"] >= 3, report.text()
    assert report.violations, report.text()


@pytest.mark.parametrize("name", SABOTAGES)
def test_every_sabotage_still_fits_the_code(tmp_path: Path, name: str) -> None:
    root = broken_copy(name, tmp_path)
    changed = [
        file.read_text()
        for file in (root / "gateway").rglob("*.py")
        if file.read_text() != (ROOT / file.relative_to(root)).read_text()
    ]
    assert changed
    for text in changed:
        compile(text, name, "exec")
