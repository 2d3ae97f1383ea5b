"""Real nats-servers of any version: killed, stopped and restarted by pid, each with a port and a folder of its own."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import json
import os
import signal
import socket
import subprocess
import time
import urllib.request
from pathlib import Path
from typing import Any

from tests.support.server import binary

# Below the range of ephemeral ports: a client that dials a dead server must never be handed that very port.
_ports = itertools.cycle(range(20000 + os.getpid() % 97 * 100, 32000))


def port() -> int:
    """A port nobody listens on."""
    for candidate in _ports:
        with socket.socket() as s, contextlib.suppress(OSError):
            s.bind(("127.0.0.1", candidate))
            return candidate
    raise RuntimeError("no port is free")


class Server:
    """One nats-server. It runs after `start`, and its data survives `kill`."""

    def __init__(
        self,
        folder: Path,
        *,
        name: str = "server",
        executable: str | None = None,
        jetstream: bool = True,
        monitored: bool = False,
        config: str = "",
    ) -> None:
        self.name, self.port = name, port()
        self._folder = folder / name
        self._folder.mkdir(parents=True)
        self._file = self._folder / "server.conf"
        self.configure(config)
        address = ["-a", "127.0.0.1", "-p", str(self.port)]
        self._command = [executable or binary(), *address, "-c", str(self._file)]
        if jetstream:
            self._command += ["-js", "-sd", str(self._folder)]
        self._monitor = port() if monitored else None
        if self._monitor:
            self._command += ["-m", str(self._monitor)]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"nats://127.0.0.1:{self.port}"

    @property
    def running(self) -> bool:
        """Whether its process is there."""
        return self._process is not None and self._process.poll() is None

    def configure(self, config: str) -> None:
        """Another configuration, from its next start on, or from now on when it is told to reload."""
        # The name is no flag: a server that was named so refuses to reload.
        self._file.write_text(f"server_name: {self.name}\n{config}")

    async def restart(self, config: str) -> None:
        """Kills it, and starts it with another configuration."""
        self.kill()
        self.configure(config)
        await self.start()

    def reload(self, config: str) -> None:
        """SIGHUP: it takes another configuration over while it runs."""
        self.configure(config)
        self.signal(signal.SIGHUP)

    async def start(self, within: float = 10) -> None:
        """Starts it, or starts it again, and waits until it greets."""
        with (self._folder / "log").open("ab") as log:
            self._process = subprocess.Popen(self._command, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        until = time.monotonic() + within
        while not await self._greets():
            if time.monotonic() > until or not self.running:
                tail = (self._folder / "log").read_text(errors="replace")[-2000:]
                raise RuntimeError(f"{self.name} did not start within {within} s:\n{tail}")
            await asyncio.sleep(0.01)

    async def _greets(self) -> bool:
        with contextlib.suppress(OSError, TimeoutError):
            async with asyncio.timeout(1):
                reader, writer = await asyncio.open_connection("127.0.0.1", self.port)
                try:
                    return await reader.read(5) == b"INFO "
                finally:
                    writer.close()
        return False

    def signal(self, number: signal.Signals) -> None:
        """Sends a signal to its process, if it runs."""
        if self._process and self.running:
            self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL; returns when it is gone."""
        self.signal(signal.SIGKILL)
        if self._process:
            self._process.wait()

    def lame_duck(self) -> None:
        """SIGUSR2: it hands over what it leads, says that it will go, hangs up on its clients, and ends."""
        self.signal(signal.SIGUSR2)

    def terminate(self) -> None:
        """SIGTERM: it ends in order."""
        self.signal(signal.SIGTERM)

    async def gone(self, within: float = 40) -> None:
        """Waits until its process has ended."""
        until = time.monotonic() + within
        while self.running:
            if time.monotonic() > until:
                raise RuntimeError(f"{self.name} did not end within {within} s")
            await asyncio.sleep(0.02)

    async def told(self, path: str) -> dict[str, Any]:
        """What its monitor answers to a path; nothing where it does not answer, or not well."""
        with contextlib.suppress(OSError, ValueError):
            return await asyncio.to_thread(self._ask, path)
        return {}

    def _ask(self, path: str) -> dict[str, Any]:
        with urllib.request.urlopen(f"http://127.0.0.1:{self._monitor}/{path}", timeout=2) as answer:
            return json.load(answer)

    async def stop(self) -> None:
        """SIGSTOP: it stands still, its connections open. Its threads stop one by one: returns when all have."""
        self.signal(signal.SIGSTOP)
        until = time.monotonic() + 5
        while not self._stands():
            if time.monotonic() > until:
                raise RuntimeError(f"{self.name} did not stop")
            await asyncio.sleep(0.001)

    def _stands(self) -> bool:
        stats = Path(f"/proc/{self._process.pid}/task").glob("*/stat") if self._process else ()
        try:
            return all(stat.read_text().rpartition(") ")[2].startswith("T") for stat in stats)
        except OSError:
            return False  # A thread has just ended.

    def cont(self) -> None:
        """SIGCONT."""
        self.signal(signal.SIGCONT)
