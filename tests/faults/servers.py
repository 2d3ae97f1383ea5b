"""Real nats-servers of any version: killed, stopped and restarted by pid, each with a port and a folder of its own."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import os
import signal
import socket
import subprocess
import time
from pathlib import Path

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
        config: str = "",
    ) -> None:
        self.name, self.port = name, port()
        self._folder = folder / name
        self._folder.mkdir(parents=True)
        file = self._folder / "server.conf"
        file.write_text(config)
        self._command = [executable or binary(), "-a", "127.0.0.1", "-p", str(self.port), "-n", name, "-c", str(file)]
        if jetstream:
            self._command += ["-js", "-sd", str(self._folder)]
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where clients connect."""
        return f"nats://127.0.0.1:{self.port}"

    @property
    def running(self) -> bool:
        """Whether its process is there."""
        return self._process is not None and self._process.poll() is None

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

    def stop(self) -> None:
        """SIGSTOP: it stands still, its connections open."""
        self.signal(signal.SIGSTOP)

    def cont(self) -> None:
        """SIGCONT."""
        self.signal(signal.SIGCONT)


class Cluster:
    """Three servers with routes to one another."""

    def __init__(self, folder: Path, *, size: int = 3, executable: str | None = None) -> None:
        routes = [port() for _ in range(size)]
        urls = ", ".join(f"nats://127.0.0.1:{p}" for p in routes)
        self.servers = [
            Server(
                folder,
                name=f"n{i}",
                executable=executable,
                config=f"cluster {{ name: faults, listen: '127.0.0.1:{route}', routes: [{urls}] }}",
            )
            for i, route in enumerate(routes, 1)
        ]

    @property
    def url(self) -> str:
        """All addresses."""
        return ",".join(s.url for s in self.servers)

    def __getitem__(self, name: str) -> Server:
        return next(s for s in self.servers if s.name == name)

    async def start(self) -> None:
        """Starts all; streams can be made once a leader was elected, which whoever makes one waits for."""
        await asyncio.gather(*(s.start() for s in self.servers))

    def kill(self) -> None:
        """SIGKILL for all."""
        for s in self.servers:
            s.kill()
