"""What the table of ways to sign in needs, made anew for each run: see tests/support/credentials."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path
from typing import Any

ROOT = Path(__file__).parents[2]


def write_table(folder: Path) -> dict[str, Any]:
    """Writes credentials and certificates into a folder; the table that goes with them."""
    command = ["cargo", "run", "-q", "-p", "test-credentials", "--", str(folder)]
    subprocess.run(command, cwd=ROOT, check=True)
    return json.loads((folder / "table.json").read_text())
