"""``python -m tests.faults.planted``: the checker is checked.

Builds the core with bugs on purpose (the feature ``planted-bugs``, which no package has), and runs for each bug a row
that must catch it. Exit code 1 if one is not caught.
"""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tempfile
from pathlib import Path

ROOT = Path(__file__).resolve().parents[2]
TABLE = [
    ("skip-retry", "lost acks and reconnects are not followed by another attempt", 6),
    ("ack-first", "a message is acked when its handler begins", 14),
    ("reuse-id", "now and then a message carries another's id", 1),
    ("term-first", "the original is terminated before its dead letter is stored", 13),
    ("no-lanes", "order by key orders nothing", 1),
    ("false-ack", "an unanswered send counts as stored", 7),
    ("count-deliveries", "each delivery counts as a failed attempt", 26),
]
"""The bug, what it does, and the row that must catch it."""


def build(into: Path) -> None:
    """The Python package with the bugs in it."""
    command = ["cargo", "build", "-q", "-p", "nats-eventbus-python", "--features", "planted-bugs"]
    # Beside the packages' own builds, which must never be this one.
    target = ROOT / "target" / "planted"
    env = {**os.environ, "CARGO_TARGET_DIR": str(target), "PYO3_PYTHON": sys.executable}
    subprocess.run(command, cwd=ROOT, check=True, env=env)
    package = into / "nats_eventbus"
    ignore = shutil.ignore_patterns("_native*.so", "__pycache__")
    shutil.copytree(ROOT / "bindings-python" / "python" / "nats_eventbus", package, ignore=ignore)
    shutil.copy(target / "debug" / "lib_native.so", package / "_native.abi3.so")


def caught(bug: str, row: int, packages: Path) -> tuple[bool, str]:
    """Whether the row broke with the bug, and by which invariant."""
    env = {**os.environ, "PYTHONPATH": f"{packages}:{ROOT}", "NATS_EVENTBUS_PLANTED_BUG": bug}
    command = [sys.executable, "-m", "tests.faults", "--row", str(row), "--lang", "python", "--seed", "1"]
    run = subprocess.run(command, cwd=ROOT, env=env, capture_output=True, text=True, check=False)
    found = re.findall(r"^ +(\w+: .*)$", run.stderr, re.M)
    violations = [v for v in found if not v.startswith("again")]
    return run.returncode != 0 and bool(violations), violations[0] if violations else run.stderr[-300:]


def main() -> int:
    """All bugs, one after the other."""
    missed = 0
    with tempfile.TemporaryDirectory(prefix="planted-") as folder:
        print("building with planted bugs", file=sys.stderr)
        build(Path(folder))
        print("| planted bug | row | caught by |\n|---|---|---|")
        for bug, what, row in TABLE:
            ok, first = caught(bug, row, Path(folder))
            missed += not ok
            print(f"| `{bug}`: {what} | {row} | {first if ok else 'NOT CAUGHT: ' + first} |", flush=True)
    return 1 if missed else 0


if __name__ == "__main__":
    sys.exit(main())
