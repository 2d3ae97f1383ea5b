"""Producers and workers as processes: started, told, looked at through /proc, and ended by pid."""

from __future__ import annotations

import asyncio
import contextlib
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import IO, Any, Literal

from .evidence import Exit, Usage
from .ledger import Ledger, Reader

ROOT = Path(__file__).parents[2]
Language = Literal["python", "node"]
Role = Literal["producer", "worker", "leaver", "loops", "threads"]
"""The program, one of `workers/`."""


def _command(language: Language, role: Role) -> list[str]:
    if language == "python":
        return [sys.executable, "-m", f"tests.faults.workers.{role}"]
    return ["node", "--expose-gc", str(ROOT / "tests" / "faults" / "workers" / f"{role}.mjs")]


class Child:
    """One process and its ledger."""

    def __init__(self, language: Language, role: Role, folder: Path, settings: dict[str, Any]) -> None:
        self.who: str = settings["who"]
        self._reader = Reader(folder / f"{self.who}.jsonl", self.who)
        self._stderr = folder / f"{self.who}.stderr"
        given = {**settings, "ledger": str(folder / f"{self.who}.jsonl")}
        with self._stderr.open("wb") as err:
            self._process = subprocess.Popen(
                [*_command(language, role), json.dumps(given)],
                cwd=ROOT,
                stdin=subprocess.PIPE,
                stdout=err,
                stderr=err,
                env={**os.environ, "PYTHONUNBUFFERED": "1"},
            )
        self.expected = 0
        """The exit code that is right for it."""
        self.exit: Exit | None = None

    @property
    def ledger(self) -> Ledger:
        """What it has written so far."""
        return self._reader.poll()

    @property
    def pid(self) -> int:
        """Its process id."""
        return self._process.pid

    @property
    def running(self) -> bool:
        """Whether it still runs."""
        return self._process.poll() is None

    @property
    def unsettled(self) -> int:
        """Messages it has received and not settled, as it said last."""
        told = self.ledger.metrics
        return told[-1].unsettled_messages if told else 0

    @property
    def state(self) -> str:
        """How it stands, for whoever waited in vain."""
        ledger = self.ledger
        told = f", was told {[f'{e.code}: {e.text}' for e in ledger.errors]}" if ledger.errors else ""
        stands = "runs" if self.running else f"ended with {self._process.returncode}"
        stderr = self._stderr.read_text(errors="replace")[-500:]
        return (
            f"{self.who} {stands}, {len(ledger.sent)} sent, {len(ledger.ended)} ended, "
            f"{len(ledger.handlings)} handlings{told}{stderr and f', stderr: {stderr}'}"
        )

    def tell(self, command: str) -> None:
        """A command on its standard input."""
        pipe: IO[bytes] | None = self._process.stdin
        if pipe and self.running:
            # One that is just ending hears nothing; its exit is looked at later.
            with contextlib.suppress(BrokenPipeError):
                pipe.write(command.encode() + b"\n")
                pipe.flush()

    def signal(self, number: signal.Signals) -> None:
        """A signal, if it runs."""
        if self.running:
            self._process.send_signal(number)

    def kill(self) -> None:
        """SIGKILL, as a fault: it is expected to end by it."""
        self.expected = -signal.SIGKILL
        self.signal(signal.SIGKILL)
        self._process.wait()

    def usage(self, when: Literal["baseline", "end"]) -> Usage:
        """What it holds now."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        rss = next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmRSS:"))
        return Usage(self.who, when, rss * 1024, len(os.listdir(f"/proc/{self.pid}/fd")))

    def peak(self) -> int:
        """The most memory it ever held, in bytes."""
        status = Path(f"/proc/{self.pid}/status").read_text()
        return 1024 * next(int(line.split()[1]) for line in status.splitlines() if line.startswith("VmHWM:"))

    async def ended(self, within: float) -> Exit:
        """Waits for its end; kills it when the time is over."""
        if self.exit is None:
            until = time.monotonic() + within
            while self.running and time.monotonic() < until:  # noqa: ASYNC110, a process has no event to wait for
                await asyncio.sleep(0.02)
            code = self._process.poll()
            if code is None:
                self._process.kill()
                self._process.wait()
            if self._process.stdin:
                with contextlib.suppress(BrokenPipeError):
                    self._process.stdin.close()
            stderr = self._stderr.read_text(errors="replace")
            self.exit = Exit(self.who, code, self.expected, stderr)
        return self.exit
