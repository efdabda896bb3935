"""`python -m tests.kill`: kill a real gateway again and again, and see whether the ledger balances."""

from __future__ import annotations

import argparse
import asyncio
import random
import sys
import tempfile
from pathlib import Path

from tests.e2e.gateway_process import ROOT
from tests.kill.drill import PATIENCE_S, WAYS, drill
from tests.kill.sabotage import SABOTAGES, broken_copy


def main() -> int:
    """Return 1 if anything was wrong."""
    parser = argparse.ArgumentParser(prog="python -m tests.kill", description=__doc__)
    parser.add_argument("--seconds", type=float, default=60.0, help="how long clients churn and processes die (default: 60)")
    parser.add_argument("--rounds", type=int, help="at most so many lives")
    parser.add_argument("--seed", type=int, help="what happens, as far as it is chosen (default: another one each time)")
    parser.add_argument("--only", choices=WAYS, help="end every life in this way")
    parser.add_argument("--patience", type=float, default=PATIENCE_S, help="seconds until everything must have come out")
    parser.add_argument("--keep", type=Path, metavar="DIR", help="leave the outbox and the gateway's output in this directory")
    parser.add_argument("--sabotage", choices=sorted(SABOTAGES), help="break a copy of the gateway first: this must end with 1")
    wish = parser.parse_args()
    seed = random.randrange(1_000_000) if wish.seed is None else wish.seed
    print(f"seed {seed}", flush=True)
    with tempfile.TemporaryDirectory(prefix="rawpush-kill-") as temporary:
        folder = (wish.keep or Path(temporary)).resolve()
        root = broken_copy(wish.sabotage, Path(temporary)) if wish.sabotage else ROOT
        course = drill(
            folder,
            seed=seed,
            seconds=wish.seconds,
            rounds=wish.rounds,
            only=wish.only,
            root=root,
            patience_s=wish.patience,
        )
        report = asyncio.run(course)
    print(report.text())
    return 1 if report.violations else 0


if __name__ == "__main__":
    sys.exit(main())
