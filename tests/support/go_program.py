"""The Go program of tests/interop: what the platform's services do on NATS, with the client library they use."""

from __future__ import annotations

import os
import shutil
import subprocess
from pathlib import Path

SOURCE = Path(__file__).parents[1] / "interop" / "go"
MISSING = "go is not on PATH: install Go 1.21 or newer to test against the platform's client library"


def build(into: Path) -> Path | None:
    """Builds the program into a folder. Returns None where Go is not installed: see ``MISSING``.

    Raises:
        RuntimeError: the compiler failed; the text is the compiler's.
    """
    compiler = shutil.which("go")
    if compiler is None:
        return None
    program = into / "interop"
    run = subprocess.run(
        [compiler, "build", "-buildvcs=false", "-o", str(program), "."],
        cwd=SOURCE,
        env={**os.environ, "GOWORK": "off"},
        capture_output=True,
        text=True,
    )
    if run.returncode:
        raise RuntimeError(f"go build failed:\n{run.stderr}")
    return program
