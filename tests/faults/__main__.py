"""`python -m tests.faults`: makes rows of the table of faults happen, and says which invariants held."""

from __future__ import annotations

import argparse
import asyncio
import sys
import time
from pathlib import Path

from .children import Language
from .report import write
from .rows import ROWS
from .run import Result
from .schedule import Plan, carry_out, plans


def _arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m tests.faults", description=__doc__)
    parser.add_argument("--long", action="store_true", help="more and longer faults")
    parser.add_argument("--row", type=int, action="append", choices=sorted(ROWS), help="only this row; may be repeated")
    parser.add_argument("--case", help="only this case of the rows")
    parser.add_argument("--lang", choices=["python", "node", "both"], default="both")
    parser.add_argument("--seed", type=int, help="all randomness comes from it; default: the time")
    parser.add_argument("--at-once", type=int, default=2, help="rows at a time; default 2")
    parser.add_argument("--keep", action="store_true", help="leave the ledgers and the servers' folders")
    parser.add_argument("--report", type=Path, metavar="FOLDER", help="write report.md and a picture of each run there")
    return parser.parse_args()


def _say(text: str) -> None:
    print(text, file=sys.stderr, flush=True)


def _ordered(results: dict[Plan, Result]) -> list[Result]:
    return sorted(results.values(), key=lambda r: (r.row.number, r.row.cases.index(r.case), r.language))


def main() -> int:
    """Returns the exit code: 1 if anything broke."""
    given = _arguments()
    seed: int = int(time.time()) if given.seed is None else given.seed
    languages: tuple[Language, ...] = ("python", "node") if given.lang == "both" else (given.lang,)
    # What is asked for by name is run in either form.
    whole = given.long or given.case is not None
    every = plans([ROWS[n] for n in given.row or sorted(ROWS)], languages, whole=whole)
    every = [plan for plan in every if given.case in (None, plan.case)]
    results: dict[Plan, Result] = {}
    start = time.monotonic()
    _say(f"{len(every)} runs, seed {seed}")

    def done(plan: Plan, result: Result) -> None:
        results[plan] = result
        _say(f"[{time.monotonic() - start:4.0f} s, {len(results)}/{len(every)}] {result}")
        if given.report:
            # As it goes: a run that is stopped leaves a report of what it did.
            write(_ordered(results), result, given.report, (time.monotonic() - start) / 60)

    asyncio.run(
        carry_out(
            every,
            seed=seed,
            long=given.long,
            at_once=given.at_once,
            keep=given.keep,
            begun=lambda plan: _say(f"[{time.monotonic() - start:4.0f} s] {plan.name} …"),
            done=done,
        )
    )
    ordered = _ordered(results)
    if given.report:
        _say(f"written to {given.report / 'report.md'}")
    broken = [r.name for r in ordered if r.violations]
    skipped = [r.name for r in ordered if r.skipped]
    if skipped:
        _say(f"{len(skipped)} could not be made to happen here: {'; '.join(skipped)}")
    held = len(ordered) - len(broken) - len(skipped)
    _say(f"{held} held, {len(broken)} broke{': ' if broken else ''}{'; '.join(broken)}")
    return 1 if broken else 0


if __name__ == "__main__":
    sys.exit(main())
