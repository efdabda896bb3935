"""Ask all questions, and write what they answer into a folder: goals, tables, plots, every figure as JSON."""

from __future__ import annotations

import argparse
import signal
import sys
import time
import traceback
from collections.abc import Sequence
from datetime import UTC, datetime
from functools import partial
from pathlib import Path

from bench import meanwhile, paper, peer, record, stock
from bench.question import MOST_WAITING, QUESTIONS, Question
from bench.record import Told
from bench.report import Answer, collected
from bench.server import ROOT


def ask(question: Question, arguments: Sequence[str]) -> Told:
    """Ask one question; if it breaks off, that is its answer."""
    begun_at = time.monotonic()
    with collected() as answers:
        try:
            question.main(arguments)
        except SystemExit as reason:
            print(reason, file=sys.stderr, flush=True)
            answers.append(Answer(str(reason).removeprefix("no answer: "), True, {}, {}))
        except Exception as error:  # noqa: BLE001 -- printed whole; what the others have answered must not be lost with it
            traceback.print_exc()
            answers.append(Answer(f"it failed: {error!r}", True, {}, {}))
    return Told(question.name, time.monotonic() - begun_at, answers)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write; the exit code is 1 if a question was not answered."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--out", type=Path, help="the folder; bench/out/DATE otherwise")
    parser.add_argument("--resume", action="store_true", help="keep what the folder has, and ask what is missing or was refused")
    parser.add_argument("--quick", action="store_true", help="tiny numbers, to see that it works; about two minutes")
    parser.add_argument("--only", action="append", metavar="NAME", help=f"begins with: {', '.join(q.name for q in QUESTIONS)}")
    parser.add_argument("--into", type=Path, help="copy the result there as well, and renew the pages that show it: docs/figures")
    parser.add_argument("--install-peers", action="store_true", help="install what npm has of the other servers, and stop")
    options = parser.parse_args(arguments)
    if options.install_peers:
        peer.install()
        return 0
    asked = [each for each in QUESTIONS if not options.only or each.name.startswith(tuple(options.only))]
    if not asked:
        parser.error(f"--only: there is no question {' or '.join(options.only)}")
    if options.into and options.quick:
        parser.error("--into: what --quick says is not worth showing")
    if options.resume and not options.out:
        parser.error("--resume: say with --out which run to go on with")
    folder: Path = options.out or ROOT / "bench" / "out" / datetime.now(UTC).strftime("%Y-%m-%dT%H%M%SZ")

    around, told = paper.surroundings(), dict[str, Told]()
    if options.resume:
        around, kept = record.load(folder)
        told = {each.name: each for each in kept}
        # What is named is asked again, even if it was answered.
        asked = [each for each in asked if options.only or each.name not in told or not told[each.name].is_whole]
    for name, why in peer.absent().items():
        print(f"{name} is not beside the gateway: {why}", file=sys.stderr, flush=True)
    if not options.quick and {"backlog", "growth-webhook"} & {each.name for each in asked}:
        meanwhile.plan(partial(stock.prepare, MOST_WAITING))
    begun_at = time.monotonic()
    for number, question in enumerate(asked, 1):
        print(f"[{number}/{len(asked)}] {time.monotonic() - begun_at:.0f} s: {question.name}", file=sys.stderr, flush=True)
        told[question.name] = ask(question, question.quick if options.quick else question.full)
        # If the question broke off, what it was to wait for must not be in the next one's figures.
        meanwhile.settle()
        # After each: a run that is broken off leaves what it has.
        record.save(folder, around, _in_order(told))
        paper.write(folder, around, _in_order(told))
    if options.into:
        paper.show(folder, options.into, around, _in_order(told))
    print(f"{time.monotonic() - begun_at:.0f} s; written to {folder}", file=sys.stderr, flush=True)
    return int(not all(each.is_whole for each in told.values()))


def _in_order(told: dict[str, Told]) -> list[Told]:
    places = {question.name: place for place, question in enumerate(QUESTIONS)}
    return sorted(told.values(), key=lambda each: places.get(each.name, len(places)))


def _interrupt(*_: object) -> None:
    raise KeyboardInterrupt


if __name__ == "__main__":
    # Told to end, it ends the servers that it has started, as when it is interrupted.
    signal.signal(signal.SIGTERM, _interrupt)
    try:
        sys.exit(main())
    except KeyboardInterrupt:
        sys.exit("interrupted; go on with --resume")
