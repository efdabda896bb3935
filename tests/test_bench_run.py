"""All benchmarks in one run, and the curves, in their smallest form: what is written is whole, and refusals are in it."""

from __future__ import annotations

import json
import os
import re
import subprocess
import sys
import threading
from collections.abc import Sequence
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from xml.etree import ElementTree

import pytest
from hypothesis import given
from hypothesis import strategies as st

if not hasattr(os, "sched_getaffinity") or len(os.sched_getaffinity(0)) < 2:
    pytest.skip("server and load need a core each, on Linux", allow_module_level=True)

from bench import __main__ as run
from bench import curve, goal, meanwhile, paper, peer, plot, record
from bench.curve import Point
from bench.question import QUESTIONS, Question
from bench.record import Told
from bench.report import Answer, Growth, Result, answer, collected
from bench.server import ROOT
from tests.patience import LONG_S

RESULT = Result(per_s=10.0, cpu_us=5.0, p50_us=1.0, p99_us=2.0, server_share=0.95, load_share=0.5, done=10)
GROWTH = Growth("subscribers", "delivery", [(10, 5.0, 4.0), (100, 6.0, 4.5)])


def test_a_quick_run_writes_goals_tables_figures_and_plots(tmp_path: Path, capfd: pytest.CaptureFixture[str]) -> None:
    run.main(["--quick", "--only", "fanout-1000-4", "--only", "client-event", "--out", str(tmp_path)])
    progress = [line for line in capfd.readouterr().err.splitlines() if line.startswith("[")]
    assert [line.rpartition(" ")[2] for line in progress] == ["fanout-1000-4", "client-event"]
    figures = json.loads((tmp_path / "figures.json").read_text())
    assert {"date", "commit", "machine", "versions", "peers", "absent"} <= set(figures)
    assert set(figures["peers"]) | set(figures["absent"]) >= {"soketi", "nchan", "websockets"}
    table = (tmp_path / "README.md").read_text()
    assert "| longest stop of the loop by another thread | at most 1 ms | stop was not asked | not measured |" in table
    assert re.search(r"\| fanout-1000-4 \| \d+ \|\n\| client-event \| \d+ \|\n\| all \| \d+ \|\n", table)
    for question in figures["questions"]:
        (told,) = question["answers"]
        assert " ".join(told["sentence"].split()) in table
        if not told["is_refused"]:  # as it may well be on a machine that is busy with tests
            assert list(told["results"])[:2] == ["gateway", "floor"]
            assert f"| {question['name']} | gateway |" in table
            plot_of = {"fanout-1000-4": "fanout.svg", "client-event": "requests.svg"}[question["name"]]
            assert f"({plot_of})" in table
            ElementTree.parse(tmp_path / plot_of)


def test_every_question_is_known_by_its_name_and_has_a_quick_form() -> None:
    assert len({question.name for question in QUESTIONS}) == len(QUESTIONS)
    assert all(question.quick for question in QUESTIONS)


@pytest.mark.parametrize("found", curve._curves(20_000), ids=lambda found: found.name)
def test_a_quick_run_sees_two_points_of_each_curve_and_no_more(found: curve.Curve) -> None:
    (question,) = [each for each in QUESTIONS if each.name == f"growth-{found.name}"]
    most = int(question.quick[question.quick.index("--most") + 1])
    assert sum(size <= most for size in found.sizes) == 2


def test_an_unknown_question_is_refused(capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        run.main(["--only", "weather"])
    assert "there is no question weather" in capfd.readouterr().err


def breaks(_: Sequence[str]) -> int:
    raise SystemExit("no answer: the load\nbroke off")


def fails(_: Sequence[str]) -> int:
    raise OSError("no such thing")


def answers(_: Sequence[str]) -> int:
    third = replace(RESULT, cpu_us=50.0, p50_us=0, p99_us=1_048_575)
    return answer("it is so", RESULT, RESULT, third, names=("gateway", "floor", "third"), figures={"sizes": 3.0}, growth=GROWTH)


def test_a_question_that_breaks_off_is_told_and_the_next_one_asked(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    questions = (Question("first", breaks, [], []), Question("second", fails, [], []), Question("third", answers, [], []))
    monkeypatch.setattr(run, "QUESTIONS", questions)
    assert run.main(["--out", str(tmp_path)]) == 1
    table = (tmp_path / "README.md").read_text()
    assert "* **first**: no answer: the load broke off" in table
    assert "* **second**: no answer: it failed: OSError('no such thing')" in table
    assert "| third | third | 10 | 1.00 | 50.0 | 10.00 |  | over 1,048,575 |" in table
    first, _, third = json.loads((tmp_path / "figures.json").read_text())["questions"]
    assert first["answers"][0]["is_refused"]
    assert third["answers"][0]["results"]["third"]["saturated"] == "server"
    assert third["answers"][0]["results"]["third"]["p50_us"] is None
    assert "no answer: the load\nbroke off" in capfd.readouterr().err


def test_a_run_is_gone_on_with_where_it_has_no_answer(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setattr(run, "QUESTIONS", (Question("first", breaks, [], []), Question("second", answers, [], [])))
    assert run.main(["--out", str(tmp_path)]) == 1
    before = json.loads((tmp_path / "figures.json").read_text())
    monkeypatch.setattr(run, "QUESTIONS", (Question("first", answers, [], []), Question("second", fails, [], [])))
    capfd.readouterr()
    assert run.main(["--resume", "--out", str(tmp_path)]) == 0
    assert "[1/1]" in capfd.readouterr().err
    after = json.loads((tmp_path / "figures.json").read_text())
    assert [each["name"] for each in after["questions"]] == ["first", "second"]
    assert after["questions"][1] == before["questions"][1]
    assert after["date"] == before["date"]
    # What is named is asked again.
    assert run.main(["--resume", "--only", "second", "--out", str(tmp_path)]) == 1


def test_what_a_later_question_needs_is_made_while_another_one_waits() -> None:
    done, may_go_on = list[str](), threading.Event()

    def work() -> None:
        may_go_on.wait(LONG_S)
        done.append("it")

    meanwhile.plan(work)
    meanwhile.settle()
    assert done == []
    meanwhile.begin()
    assert done == []
    may_go_on.set()
    meanwhile.settle()
    assert done == ["it"]
    meanwhile.begin()
    meanwhile.settle()
    assert done == ["it"]


@pytest.mark.parametrize(
    ("arguments", "planned"),
    [([], 1), (["--only", "backlog"], 1), (["--only", "growth-webhook"], 1), (["--only", "fanout"], 0), (["--quick"], 0)],
)
def test_a_stock_is_planned_where_it_will_be_needed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, arguments: list[str], planned: int
) -> None:
    names = ("fanout-100-4", "backlog", "growth-webhook")
    monkeypatch.setattr(run, "QUESTIONS", [Question(name, answers, [], []) for name in names])
    plans: list[object] = []
    monkeypatch.setattr(meanwhile, "plan", plans.append)
    run.main([*arguments, "--out", str(tmp_path)])
    assert len(plans) == planned


def test_a_run_that_is_told_to_end_leaves_no_server_behind(tmp_path: Path) -> None:
    command = [sys.executable, "-m", "bench", "--only", "churn", "--out", str(tmp_path)]
    with subprocess.Popen(command, cwd=ROOT, stderr=subprocess.PIPE, text=True) as process:
        assert process.stderr is not None
        assert any(line.startswith("[1/1]") for line in process.stderr)
        children = Path(f"/proc/{process.pid}/task/{process.pid}/children")
        # The gateway is up when its load comes.
        while len(started := children.read_text().split()) < 2:
            pass
        process.terminate()
        assert "interrupted" in process.stderr.read()
    assert process.returncode == 1
    assert not Path("/proc", started[0]).exists()


@pytest.mark.parametrize("wrong", [["--into", "x", "--quick"], ["--resume"]])
def test_what_makes_no_sense_is_refused(wrong: list[str], capfd: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit, match="2"):
        run.main(wrong)
    assert wrong[0] in capfd.readouterr().err


def test_a_run_comes_back_as_it_was_kept(tmp_path: Path) -> None:
    with collected() as found:
        answers([])
    told = [Told("first", 1.5, found), Told("second", 2.0, [Answer("no", True, {}, {})])]
    record.save(tmp_path, {"date": "today"}, told)
    around, back = record.load(tmp_path)
    assert around == {"date": "today"}
    assert back == told
    assert [each.is_whole for each in back] == [True, False]


def test_what_was_measured_is_shown_on_the_pages_that_have_a_place_for_it(tmp_path: Path) -> None:
    folder, into, page = tmp_path / "run", tmp_path / "docs" / "figures", tmp_path / "page.md"
    around = {"date": "2026-11-25T10:00:00", "commit": "abc", "machine": "a machine", "versions": {}, "peers": {}, "absent": {}}
    with collected() as found:
        answers([])
    told = [Told("fanout-1000-4", 1.0, found)]
    record.save(folder, around, told)
    paper.write(folder, around, told)
    places = [f"<!-- bench: {name} -->\nold\n<!-- /bench -->" for name in ("machine", "servers", "goals", "fanout", "growth")]
    page.write_text("\n".join(["before", *places, "after"]))
    paper.show(folder, into, around, told, [page])
    text = page.read_text()
    assert text.startswith("before\n<!-- bench: machine -->\nMeasured on 2026-11-25, commit abc: a machine.")
    assert "(docs/figures/fanout.svg)" in text
    assert "| **200** |" in text
    assert "<!-- bench: growth -->\nNot measured.\n<!-- /bench -->" in text
    assert "old" not in text
    assert {file.name for file in into.iterdir()} == {"README.md", "figures.json", "fanout.svg"}
    paper.show(folder, into, around, told, [page])
    assert page.read_text() == text
    with pytest.raises(ValueError, match="no piece weather"):
        paper.filled("<!-- bench: weather -->\n<!-- /bench -->", around, told, "x")


def test_the_pages_have_places_that_a_run_can_fill() -> None:
    for page in paper.PAGES:
        text = page.read_text()
        assert "<!-- bench: goals -->" in text or "<!-- bench: servers -->" in text
        paper.filled(text, {"date": "", "commit": "", "machine": "", "peers": {}}, [], "x")


# -- goals


def judged(what: str, wanted: str, told: Sequence[Told]) -> goal.Row:
    (row,) = [each for each in goal.rows(told) if each.what.startswith(what) and each.wanted == wanted]
    return row


def fanouts(**servers: Result) -> list[Told]:
    return [Told(f"fanout-{count}-4", 1.0, [Answer("", False, servers, {})]) for count in (100, 1000, 5000)]


def test_a_goal_is_met_by_the_rates_of_two_full_cores() -> None:
    told = fanouts(gateway=replace(RESULT, per_s=31.0, cpu_us=9.0), soketi=RESULT)
    row = judged("fan-out, 4", "3 x soketi", told)
    assert (row.measured, row.verdict) == ("N = 100: 3.1 x; N = 1000: 3.1 x; N = 5000: 3.1 x", goal.MET)


def test_a_goal_is_judged_by_the_processor_time_where_a_core_was_not_full() -> None:
    idle = replace(RESULT, per_s=1.0, server_share=0.2, load_share=0.1)
    row = judged("fan-out, 4", "3 x soketi", fanouts(gateway=idle, soketi=replace(idle, per_s=5.0, cpu_us=20.0)))
    assert row.verdict == goal.MET
    row = judged("fan-out, 4", "3 x soketi", fanouts(gateway=idle, soketi=replace(idle, cpu_us=14.0)))
    assert row.verdict == goal.NOT_MET


def test_a_goal_that_was_not_measured_says_why() -> None:
    told = fanouts(gateway=RESULT, floor=RESULT)
    assert judged("fan-out, 4", "3 x soketi", told).measured == "fanout-100-4: soketi was not beside it"
    assert judged("client event", "3 x soketi", told).measured == "client-event was not asked"
    refused = Told("client-event", 1.0, [Answer("the load\nwas the limit", True, {}, {})])
    row = judged("client event", "3 x soketi", [refused])
    assert (row.measured, row.verdict) == ("client-event: the load was the limit", goal.NOT_MEASURED)


def test_one_part_that_misses_the_goal_is_enough() -> None:
    told = fanouts(gateway=RESULT, floor=replace(RESULT, per_s=1.0))
    told[1] = fanouts(gateway=RESULT, floor=RESULT)[1]
    del told[2]
    row = judged("fan-out, 4", "1.5 x the floor", told)
    assert row.measured == "N = 100: 10 x; N = 1000: 1 x; fanout-5000-4 was not asked"
    assert row.verdict == goal.NOT_MET


@pytest.mark.parametrize(
    ("held", "processes", "files", "said", "verdict"),
    [
        (50_000, 3, 20_000, "50,000 by 3 processes: here one may have 20,000 files open", goal.MET),
        (50_000, 1, 60_000, "50,000 by one process", goal.MET),
        (600, 1, 20_000, "600 by one process", goal.NOT_MET),
    ],
)
def test_too_few_descriptors_take_more_processes(held: int, processes: int, files: int, said: str, verdict: str) -> None:
    figures = {"connections": held, "processes": processes, "descriptors": files, "share_percent": 1.5}
    told = [Told("liveness", 1.0, [Answer("", False, {}, figures)])]
    row = judged("idle connections", "50,000", told)
    assert (row.measured, row.verdict) == (said, verdict)
    row = judged("liveness", "below 2 % of a core in all", told)
    assert row.measured == f"{held:,} with sockets: 1.5 %; in-process was not asked"


@pytest.mark.parametrize(
    ("mine", "floors", "said", "verdict"),
    [
        (1.51, 1.76, "0.86 x: the gateway's 1.51 x, the floor's 1.76 x", goal.MET),
        (1.51, 1.0, "1.51 x: the gateway's 1.51 x, the floor's 1 x", goal.NOT_MET),
        # A floor that fell, which is noise, makes nothing worse.
        (1.25, 0.9, "1.25 x: the gateway's 1.25 x, the floor's 0.90 x", goal.MET),
    ],
)
def test_a_cost_is_judged_without_the_growth_that_the_floor_has_too(mine: float, floors: float, said: str, verdict: str) -> None:
    figures = {"far_over_near": mine, "floor_far_over_near": floors}
    told = [Told("growth-publish", 1.0, [Answer("", False, {}, figures)])]
    row = judged("CPU per publish", "at most 1.3 x, the floor's growth taken out", told)
    assert (row.measured, row.verdict) == (said, verdict)
    assert judged("CPU per connect", row.wanted, told).measured == "growth-connect was not asked"


def test_beyond_the_descriptors_the_cost_of_a_delivery_is_calculated() -> None:
    growth = Growth("subscribers", "delivery", [(1000, 4.0, 4.0), (19_800, 5.0, 4.0)])
    told = [
        Told("growth-fanout", 1.0, [Answer("", False, {}, {}, growth)]),
        Told("in-process", 1.0, [Answer("", False, {}, {"far_us": 1.5, "near_us": 0.5})]),
    ]
    row = judged("CPU per delivery", "at most 1.3 x", told)
    assert (row.measured, row.verdict) == ("at 19,800: 1.25 x; at 50,000, calculated: 1.25 x", goal.MET)


# -- curves


def test_a_curve_is_told_with_a_verdict(capfd: pytest.CaptureFixture[str]) -> None:
    with collected() as found:
        code = curve.main("--only fanout --most 100 --rounds 1 --seconds 0.2".split())
    said = capfd.readouterr()
    if code:  # as it may well be on a machine that is busy with tests
        assert "no answer: fanout" in said.err
        return
    (told,) = found
    assert told.growth is not None
    assert [size for size, _, _ in told.growth.points] == [10, 100]
    assert told.figures["far_over_near"] == pytest.approx(told.growth.points[1][1] / told.growth.points[0][1])
    assert "| 100 |" in said.out


def test_a_backlog_that_waits_is_left_alone_while_others_are_delivered(capfd: pytest.CaptureFixture[str]) -> None:
    (waiting,) = [each for each in curve._curves(1) if each.name == "webhook"]
    mine, least = waiting.measure(100, 1, 0.2)
    assert min(mine.done, least.done) > 0


@pytest.mark.parametrize(
    ("far_us", "floor_us", "said"), [(6.0, 5.0, "is flat"), (8.0, 5.0, "grows"), (8.0, 8.0, "is flat"), (2.0, 5.0, "falls")]
)
def test_a_cost_grows_only_if_it_does_so_by_more_than_the_floor(far_us: float, floor_us: float, said: str) -> None:
    far = Point(100, replace(RESULT, cpu_us=far_us), replace(RESULT, cpu_us=floor_us))
    assert curve.verdict([Point(1, RESULT, RESULT), far]) == (far_us / 5, floor_us / 5, said)


def test_sizes_end_where_descriptors_do() -> None:
    assert curve.at_most([10, 100, 1000], 500) == [10, 100, 500]
    assert curve.at_most([10, 100, 1000], 1000) == [10, 100, 1000]
    assert curve.at_most([10, 100, 1000], 5000) == [10, 100, 1000]


def test_plots_are_well_formed_whatever_they_show() -> None:
    panels = [
        plot.bars("a < b", {"gateway": 3.0, "x & y": 0.0}, 300),
        plot.bars("nothing", {}, 300),
        plot.lines("growth", "size", {"gateway": [(0, 1.0), (1000, 2.0)], "floor": [(0, 0.0)]}, 300),
        plot.lines("one", "size", {"gateway": [(10, 1.0)]}, 300),
    ]
    drawn = ElementTree.fromstring(plot.sheet("a < b", "note", panels, 2))
    assert "prefers-color-scheme: dark" in str(drawn.findtext("{http://www.w3.org/2000/svg}style"))
    assert len(drawn.findall("{http://www.w3.org/2000/svg}g")) == len(panels)


@given(st.lists(st.tuples(st.floats(0, 400), st.sampled_from(["0", "10", "19.4k", "100k"])), min_size=1, max_size=8))
def test_labels_never_overlap_and_stay_below_their_points(wanted: list[tuple[float, str]]) -> None:
    wanted.sort()
    found = plot.labels(wanted)
    assert found[-1] == wanted[-1]
    ends = [(middle - 3.5 * len(words), middle + 3.5 * len(words)) for middle, words in found]
    assert all(one[1] < other[0] for one, other in pairwise(ends))
    assert all(any(word == words and 0 <= at - middle <= 3.5 * len(words) for at, word in wanted) for middle, words in found)


def test_labels_that_have_room_stay_where_they_are() -> None:
    assert plot.labels([(0.0, "10"), (60.0, "100")]) == [(0.0, "10"), (60.0, "100")]
    assert [words for _, words in plot.labels([(327.0, "10k"), (354.0, "19.4k")])] == ["10k", "19.4k"]


@pytest.mark.parametrize(
    ("most", "ticks"), [(16.7, [0, 5, 10, 15, 20]), (155, [0, 50, 100, 150, 200]), (1, [0, 0.25, 0.5, 0.75, 1])]
)
def test_an_axis_has_round_numbers_up_to_the_greatest(most: float, ticks: list[float]) -> None:
    assert plot._ticks(most) == pytest.approx(ticks)


def test_what_is_not_installed_is_told_with_what_to_do(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    monkeypatch.setattr(peer, "NODE_FOLDER", tmp_path)
    monkeypatch.setattr(peer, "_NCHAN", tmp_path / "none.so")
    assert [each.name for each in peer.peers()] == ["websockets"]
    assert set(peer.absent()) == {"soketi", "uWebSockets.js", "ws", "Socket.IO", "nchan"}
    assert "--install-peers" in peer.absent()["soketi"]
    assert "libnginx-mod-nchan" in peer.absent()["nchan"]
