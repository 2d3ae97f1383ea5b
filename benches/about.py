"""What a run was made on, and with what."""

from __future__ import annotations

import datetime
import json
import os
import platform
import subprocess
import zipfile
from importlib import metadata
from pathlib import Path
from typing import Any

from .paths import BUILT, GO, NODE, PYTHON, ROOT, VENV
from .runner import Size
from .server import Server


def _says(*command: str) -> str:
    try:
        done = subprocess.run(command, capture_output=True, text=True, cwd=ROOT, timeout=30, check=False)
    except OSError:
        return ""
    return done.stdout.strip() or done.stderr.strip()


def _cpu() -> str:
    for line in Path("/proc/cpuinfo").read_text().splitlines():
        if line.startswith("model name"):
            return line.partition(":")[2].strip()
    return platform.processor()


def _memory_gb() -> int:
    return round(os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30)


def _site() -> Path:
    return next(VENV.glob("lib/python*/site-packages"))


def _python_packages() -> dict[str, str]:
    found = metadata.distributions(path=[str(_site())])
    return {d.name: d.version for d in found if d.name in ("nats-py", "natsrpy", "uvloop", "nats-eventbus")}


def _node_version(package: str) -> str:
    file = NODE / "node_modules" / package / "package.json"
    return json.loads(file.read_text())["version"] if file.is_file() else ""


def _folder(path: Path) -> int:
    return sum(f.stat().st_size for f in path.rglob("*") if f.is_file() and not f.is_symlink())


def _installed(name: str) -> int:
    """Bytes of a Python package's own files."""
    for distribution in metadata.distributions(path=[str(_site())]):
        if distribution.name == name:
            files = (Path(str(f.locate())) for f in distribution.files or [])
            return sum(f.stat().st_size for f in files if f.is_file() and f.suffix != ".pyc")
    return 0


def sizes() -> dict[str, int]:
    """Bytes of what is installed, ours and the peers'."""
    found = {name: _installed(name) for name in ("nats-py", "natsrpy")}
    for wheel in (BUILT / "wheels").glob("*.whl"):
        found["nats-eventbus wheel"] = wheel.stat().st_size
        with zipfile.ZipFile(wheel) as content:
            found["nats-eventbus, Python, installed"] = sum(f.file_size for f in content.infolist())
    for package in (BUILT / "npm").glob("*.tgz"):
        found["nats-eventbus npm package"] = package.stat().st_size
    for addon in (BUILT / "npm").rglob("*.node"):
        found["nats-eventbus .node"] = addon.stat().st_size
    found["nats.js: @nats-io and what it needs"] = _folder(NODE / "node_modules" / "@nats-io")
    return {name: size for name, size in found.items() if size}


def about(server: Server, size: Size, quick: bool, skipped: dict[str, str]) -> dict[str, Any]:
    """Machine, versions, date, how much was done."""
    versions = {
        "nats-server": server.variables()["version"],
        "Python": _says(str(PYTHON), "--version").removeprefix("Python "),
        "Node": _says("node", "--version").removeprefix("v"),
        "rustc": _says("rustc", "--version").split(" ")[1],
        **_python_packages(),
        "@nats-io/transport-node": _node_version("@nats-io/transport-node"),
        "@nats-io/jetstream": _node_version("@nats-io/jetstream"),
        "async-nats": "0.51.0",
        "nats.go": "1.34.1" if (GO / "peer").exists() else "",
        "go": _says("go", "env", "GOVERSION").removeprefix("go"),
        "nats CLI": _says(str(GO / "nats"), "--version"),
    }
    return {
        "date": datetime.datetime.now(datetime.UTC).strftime("%Y-%m-%d %H:%M UTC"),
        "commit": _says("git", "describe", "--always", "--dirty"),
        "quick": quick,
        "rounds": size.rounds,
        "seconds": size.seconds,
        "cores": os.cpu_count(),
        "cpu": _cpu(),
        "memory_gb": _memory_gb(),
        "system": f"{platform.system()} {platform.release()}",
        "load_before": os.getloadavg()[0],
        "versions": {name: version for name, version in versions.items() if version},
        "sizes": sizes(),
        "skipped": skipped,
    }
