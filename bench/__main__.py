"""Ask all questions, and write what they answer into a folder: a table, every figure as JSON, plots."""

from __future__ import annotations

import argparse
import sys
import time
from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path

from bench import paper, peer
from bench.question import QUESTIONS, Question
from bench.report import Answer, collected
from bench.server import ROOT


def ask(question: Question, arguments: Sequence[str]) -> paper.Told:
    """Ask one question; if it breaks off, that is its answer."""
    begun_at = time.monotonic()
    with collected() as answers:
        try:
            question.main(arguments)
        except SystemExit as reason:
            print(reason, file=sys.stderr, flush=True)
            answers.append(Answer(str(reason).removeprefix("no answer: "), True, {}, {}))
    return paper.Told(question.name, time.monotonic() - begun_at, answers)


def main(arguments: Sequence[str] | None = None) -> int:
    """Measure and write; the exit code is 1 if a question was not answered."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--out", type=Path, help="the folder; bench/out/DATE otherwise")
    parser.add_argument("--quick", action="store_true", help="tiny numbers, to see that it works; about a minute")
    parser.add_argument("--only", action="append", metavar="NAME", help=f"begins with: {', '.join(q.name for q in QUESTIONS)}")
    parser.add_argument("--install-peers", action="store_true", help="install what npm has of the other servers, and stop")
    options = parser.parse_args(arguments)
    if options.install_peers:
        peer.install()
        return 0
    asked = [each for each in QUESTIONS if not options.only or each.name.startswith(tuple(options.only))]
    if not asked:
        parser.error(f"--only: there is no question {' or '.join(options.only)}")
    folder: Path = options.out or ROOT / "bench" / "out" / datetime.now(UTC).strftime("%Y-%m-%dT%H%M%SZ")

    around, told, begun_at = paper.surroundings(), list[paper.Told](), time.monotonic()
    for number, question in enumerate(asked, 1):
        print(f"[{number}/{len(asked)}] {time.monotonic() - begun_at:.0f} s: {question.name}", file=sys.stderr, flush=True)
        told.append(ask(question, question.quick if options.quick else question.full))
        # After each: a run that is broken off leaves what it has.
        paper.write(folder, around, told)
    print(f"{time.monotonic() - begun_at:.0f} s; written to {folder}", file=sys.stderr, flush=True)
    return int(any(one.is_refused for each in told for one in each.answers))


if __name__ == "__main__":
    sys.exit(main())
