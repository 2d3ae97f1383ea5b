"""A worker of the platform's Go services, in a group with ours: the program of tests/interop as a child."""

from __future__ import annotations

import asyncio
import json
import subprocess
import threading
import time
from pathlib import Path
from typing import IO, Any

from .children import Child
from .evidence import Exit
from .ledger import Handling, Ledger


class GoWorker(Child):
    """Takes one message at a time, as the platform does. It writes no ledger: the rig keeps one by what it prints."""

    def __init__(self, program: Path, folder: Path, url: str, who: str, topic: str, group: str, **flags: Any) -> None:
        self.who, self.expected = who, 0
        self.exit: Exit | None = None
        self._work: float = flags.get("work", 0.0)
        self._stderr = folder / f"{who}.stderr"
        command = [str(program), "consume", "-jetstream", "-plain", "-url", url, "-topic", topic, "-group", group]
        command += ["-work", f"{self._work}s", "-nak", str(flags.get("nak", 0))]
        with self._stderr.open("wb") as err:
            self._process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=err, cwd=folder
            )
        self._kept = Ledger(who, "worker", self.pid, time.monotonic())
        assert self._process.stdout
        self._reader = threading.Thread(target=self._read, args=[self._process.stdout], name=who, daemon=True)
        self._reader.start()

    @property
    def ledger(self) -> Ledger:
        """What it has printed so far."""
        return self._kept

    async def ended(self, within: float) -> Exit:
        """Waits for its end, and until all that it printed is in the ledger."""
        exit = await super().ended(within)
        # Its end closes the pipe, and with that the reading ends.
        await asyncio.to_thread(self._reader.join, within)
        return exit

    def tell(self, command: str) -> None:
        """It takes no commands."""

    def _read(self, lines: IO[bytes]) -> None:
        for text in lines:
            t, line = time.monotonic(), json.loads(text)
            if "ready" in line:
                self._kept.marks.append("ready")
                continue
            event = line["event"]
            how = "ok" if line["settled"] == "ack" else "nak"
            handling = Handling(event["id"], None, int(event["n"]), event["from"], line["attempt"], 0, t - self._work)
            handling.end, handling.how = t, how
            self._kept.handlings.append(handling)
