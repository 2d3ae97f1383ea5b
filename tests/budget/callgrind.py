"""Counts instructions: runs a program under callgrind and adds up what each of its libraries executed."""

from __future__ import annotations

import re
import subprocess
import tempfile
from collections import Counter
from collections.abc import Callable
from pathlib import Path

_NAME = re.compile(r"(\w+)=\((\d+)\)(?: (.*))?")


def by_library(file: Path) -> Counter[str]:
    """The instructions of each object file, calls to others left out."""
    names: dict[str, str] = {}
    counts: Counter[str] = Counter()
    library, callee = "", False
    with file.open() as lines:
        for line in lines:
            if line[0] in "0123456789+-*":
                if not callee:
                    counts[library] += int(line.split()[1])
                callee = False
            elif line.startswith("calls="):
                # The next line is what the called function cost: counted where it is.
                callee = True
            elif (found := _NAME.match(line)) and found[1] in ("ob", "cob"):
                if found[3]:
                    names[found[2]] = found[3]
                if found[1] == "ob":
                    library = names[found[2]]
    return counts


def run(command: list[str], env: dict[str, str], ready: Callable[[], None], within: float = 300) -> Counter[str]:
    """Runs it to its end; calls ``ready`` when it says so."""
    with tempfile.TemporaryDirectory(prefix="budget-") as folder:
        out = Path(folder) / "callgrind.out"
        valgrind = ["valgrind", "-q", "--tool=callgrind", f"--callgrind-out-file={out}", "--smc-check=all-non-file"]
        process = subprocess.Popen(
            [*valgrind, *command], env=env, stdout=subprocess.PIPE, stderr=subprocess.PIPE, text=True
        )
        try:
            if process.stdout and process.stdout.readline().strip() == "ready":
                ready()
            _, errors = process.communicate(timeout=within)
        finally:
            process.kill()
            process.wait()
        assert process.returncode == 0, errors[-2000:]
        return by_library(out)
