"""All benchmarks in one run, and the curves, in their smallest form: what is written is whole, and refusals are in it."""

from __future__ import annotations

import json
import os
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path
from xml.etree import ElementTree

import pytest

if not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2:
    pytest.skip("server and load need a core each, on Linux", allow_module_level=True)

from bench import __main__ as run
from bench import curve, peer, plot
from bench.curve import Point
from bench.question import QUESTIONS, Question
from bench.report import Result, answer

RESULT = Result(per_s=10.0, cpu_us=5.0, p50_us=1.0, p99_us=2.0, server_share=0.95, load_share=0.5, done=10)


def test_a_quick_run_writes_a_table_figures_and_plots(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run.main(["--quick", "--only", "fanout-100-4", "--only", "client-event", "--out", str(tmp_path)])
    progress = [line for line in capfd.readouterr().err.splitlines() if line.startswith("[")]
    assert [line.rpartition(" ")[2] for line in progress] == ["fanout-100-4", "client-event"]
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert {"date", "commit", "machine", "versions", "peers", "absent"} <= set(figures)
    assert set(figures["peers"]) | set(figures["absent"]) >= {"soketi", "nchan", "websockets"}
    table = (tmp_path / "README.md").read_text()
    for question in figures["questions"]:
        (told,) = question["answers"]
        assert " ".join(told["sentence"].split()) in table
        if not told["is_refused"]:  # as it may well be on a machine that is busy with tests
            assert list(told["results"])[:2] == ["gateway", "floor"]
            assert f"| {question['name']} | gateway |" in table
            assert f"({question['name']}.svg)" in table
            ElementTree.parse(tmp_path / f"{question['name']}.svg")


def test_every_question_is_known_by_its_name_and_has_a_quick_form() -> None:
    assert len({question.name for question in QUESTIONS}) == len(QUESTIONS)
    assert all(question.quick for question in QUESTIONS)


def test_an_unknown_question_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        run.main(["--only", "weather"])
    assert "there is no question weather" in capfd.readouterr().err


def test_a_question_that_breaks_off_is_told_and_the_next_one_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    def breaks(_: Sequence[str]) -> int:
        raise SystemExit("no answer: the load\nbroke off")

    def answers(_: Sequence[str]) -> int:
        return answer(
            "it is so",
            RESULT,
            RESULT,
            replace(RESULT, cpu_us=50.0, p50_us=0, p99_us=1_048_575),
            names=("gateway", "floor", "third"),
        )

    monkeypatch.setattr(run, "QUESTIONS", (Question("first", breaks, [], []), Question("second", answers, [], [])))
    assert run.main(["--out", str(tmp_path)]) == 1
    table = (tmp_path / "README.md").read_text()
    assert "* **first**: no answer: the load broke off" in table
    assert "| second | third | 10 | 1.00 | 50.0 | 10.00 |  | over 1,048,575 |" in table
    first, second = json.loads((tmp_path / "figures.json").read_text())["questions"]
    assert first["answers"][0]["is_refused"]
    assert second["answers"][0]["results"]["third"]["saturated"] == "server"
    assert second["answers"][0]["results"]["third"]["p50_us"] is None
    assert "no answer: the load\nbroke off" in capfd.readouterr().err


def test_a_curve_is_written_with_a_verdict(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    code = curve.main([*"--only fanout --most 100 --rounds 1 --seconds 0.2 --out".split(), str(tmp_path)])
    said = capfd.readouterr()
    if code:  # as it may well be on a machine that is busy with tests
        assert "no answer: fanout" in said.err
        return
    told = json.loads((tmp_path / "figures.json").read_text())["curves"]["fanout"]
    assert [point["size"] for point in told["points"]] == [10, 100]
    assert f"fanout: {told['verdict']}: " in said.out
    ElementTree.parse(tmp_path / "fanout.svg")


def test_a_backlog_that_waits_is_left_alone_while_others_are_delivered(capfd: pytest.CaptureFixture[str]) -> None:
    (waiting,) = [each for each in curve._curves(1) if each.name == "webhook"]
    mine, least = waiting.measure(100, 1, 0.2)
    assert min(mine.done, least.done) > 0


@pytest.mark.parametrize(
    ("far_us", "floor_us", "said"), [(6.0, 5.0, "flat"), (8.0, 5.0, "grows"), (8.0, 8.0, "flat"), (2.0, 5.0, "falls")]
)
def test_a_cost_grows_only_if_it_does_so_by_more_than_the_floor(far_us: float, floor_us: float, said: str) -> None:
    far = Point(100, replace(RESULT, cpu_us=far_us), replace(RESULT, cpu_us=floor_us))
    assert curve.verdict([Point(1, RESULT, RESULT), far]) == (far_us / 5, floor_us / 5, said)


def test_sizes_end_where_descriptors_do() -> None:
    assert curve.at_most([10, 100, 1000], 500) == [10, 100, 500]
    assert curve.at_most([10, 100, 1000], 1000) == [10, 100, 1000]
    assert curve.at_most([10, 100, 1000], 5000) == [10, 100, 1000]


def test_plots_are_well_formed_whatever_they_show() -> None:
    for svg in (
        plot.bars("a < b", {"x & y": 3.0, "z": 0.0}),
        plot.bars("nothing", {}),
        plot.lines("growth", "size", "us", {"gateway": [(0, 1.0), (1000, 2.0)], "floor": [(0, 0.0)]}),
        plot.lines("one", "size", "us", {"gateway": [(10, 1.0)]}),
    ):
        ElementTree.fromstring(svg)


def test_what_is_not_installed_is_told_with_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(peer, "NODE_FOLDER", tmp_path)
    monkeypatch.setattr(peer, "_NCHAN", tmp_path / "none.so")
    assert [each.name for each in peer.peers()] == ["websockets"]
    assert set(peer.absent()) == {"soketi", "uWebSockets.js", "ws", "Socket.IO", "nchan"}
    assert "--install-peers" in peer.absent()["soketi"]
    assert "libnginx-mod-nchan" in peer.absent()["nchan"]
