"""Errors: no secret in any message, repr or log line, at any level: nor in the output of a process that an error ends,
nor where others of the machine see processes. From Python."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import pytest

from tests.support.server import Server

from .test_errors import HUNTER, JWT, SEED

# Everything it can tell: what it prints and logs, what is seen of it and of the server it starts, and how it ends.
SCRIPT = """
import asyncio, json, logging, pathlib, sys
import nats_eventbus as eb

def seen(pid, what):
    file = pathlib.Path("/proc", str(pid), what)
    return file.read_bytes() if file.exists() else b""

async def main(folder, refusing):
    async with eb.connect(f"local://{folder}") as bus:
        pid = json.loads(pathlib.Path(folder, ".nats-eventbus/server.json").read_text())["pid"]
        print(seen("self", "cmdline"), seen(pid, "cmdline"), seen(pid, "environ"))
        print(repr(bus), bus._repr_html_(), bus.server, bus.metrics(), repr(bus._native), vars(bus))
    await eb.connect(refusing)

logging.basicConfig(level=logging.NOTSET)
asyncio.run(main(*sys.argv[1:]), debug=True)
"""

KINDS = {
    "password": {"NATS_USERNAME": "app", "NATS_PASSWORD": HUNTER},
    "token": {"NATS_TOKEN": HUNTER},
    "nkey": {"NATS_NKEY_SEED": SEED},
    "jwt": {"NATS_JWT_TOKEN": JWT, "NATS_NKEY_SEED": SEED},
    "address": {"NATS_SERVER_URL": f"nats://app:{HUNTER}@127.0.0.1:1"},
}


@pytest.mark.parametrize("kind", KINDS)
def test_no_secret_is_told_by_a_process(password: Server, tmp_path: Path, kind: str) -> None:
    """No secret in output, tracebacks or `ps`, of the process and of its embedded server."""
    run = subprocess.run(
        [sys.executable, "-X", "dev", "-c", SCRIPT, str(tmp_path), password.url],
        env={**os.environ, "RUST_LOG": "trace", "RUST_BACKTRACE": "full", **KINDS[kind]},
        capture_output=True,
        text=True,
        timeout=60,
    )
    assert run.returncode == 1
    assert "AuthError" in run.stderr
    assert "nats-server" in run.stdout or not Path("/proc/self/cmdline").exists()
    told = run.stdout + run.stderr
    assert not [s for s in (HUNTER, SEED, JWT) if s in told], told
