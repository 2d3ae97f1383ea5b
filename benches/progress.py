"""Says what runs."""

from __future__ import annotations

import shutil
import sys
import time


class Progress:
    """A bar and what runs, in one line of a terminal; elsewhere a line for each tenth part of the way."""

    def __init__(self, steps: int) -> None:
        self._steps, self._done = max(steps, 1), 0
        self._began = time.monotonic()
        self._live = sys.stderr.isatty()
        self._told = -1

    def _clock(self) -> str:
        seconds = int(time.monotonic() - self._began)
        return f"{seconds // 60}:{seconds % 60:02}"

    def step(self, what: str) -> None:
        """The next thing begins."""
        share = self._done / self._steps
        self._done += 1
        if self._live:
            full = round(share * 20)
            line = f"{'█' * full}{'░' * (20 - full)} {share:4.0%} {self._clock()}  {what}"
            print(f"\r\x1b[K{line[: shutil.get_terminal_size().columns - 1]}", end="", file=sys.stderr, flush=True)
        elif int(share * 50) > self._told:
            self._told = int(share * 50)
            print(f"{share:4.0%} {self._clock()}  {what}", file=sys.stderr, flush=True)

    def note(self, text: str) -> None:
        """Something to be kept in sight."""
        clear = "\r\x1b[K" if self._live else ""
        print(f"{clear}{text}", file=sys.stderr, flush=True)

    def close(self) -> None:
        """All done."""
        if self._live:
            print("\r\x1b[K", end="", file=sys.stderr)
        print(f"ran for {self._clock()}", file=sys.stderr, flush=True)
