"""What the demo shows: bars while it runs, a table at the end."""

from __future__ import annotations

import sys
from collections.abc import Sequence
from dataclasses import dataclass
from statistics import quantiles
from time import perf_counter

WIDTH = 30
PLAIN_EVERY = 2.0
"""Seconds between two lines where there is no terminal to draw bars on."""


@dataclass(frozen=True)
class Row:
    """The books of one topic."""

    topic: str
    sent: int
    stored: int
    handled: int
    by: str

    @property
    def duplicates(self) -> int:
        """Messages stored more than once."""
        return max(0, self.stored - self.sent)

    @property
    def lost(self) -> int:
        """Messages that were sent and that nobody handled."""
        return max(0, self.sent - self.handled)


class Bars:
    """Bars that are drawn over each other on a terminal, and plain lines elsewhere."""

    def __init__(self) -> None:
        self._terminal = sys.stdout.isatty()
        self._drawn = 0
        self._last = 0.0

    def draw(self, counts: dict[str, tuple[int, int]], note: str, *, final: bool = False) -> None:
        """Shows how much of each total is done, and a note."""
        if self._terminal:
            lines = [self._bar(name, done, total) for name, (done, total) in counts.items()] + [note]
            up = f"\x1b[{self._drawn}A" if self._drawn else ""
            print(up + "".join(f"\x1b[2K{line}\n" for line in lines), end="", flush=True)
            self._drawn = len(lines)
        elif final or perf_counter() - self._last >= PLAIN_EVERY:
            self._last = perf_counter()
            shown = (f"{name} {done:,}/{total:,}" for name, (done, total) in counts.items())
            print("  ".join(shown), f"  {note}", flush=True)

    @staticmethod
    def _bar(name: str, done: int, total: int) -> str:
        full = WIDTH * done // max(total, 1)
        return f"{name:>10} {'█' * full}{'░' * (WIDTH - full)} {done:>7,} / {total:,}"


def table(rows: Sequence[Row]) -> str:
    """The books, one line a topic."""
    lines = [f"{'topic':<26}{'sent':>9}{'stored':>9}{'handled':>9}  {'by':<8}{'duplicates':>10}{'lost':>6}"]
    for r in rows:
        counts = f"{r.sent:>9,}{r.stored:>9,}{r.handled:>9,}"
        lines.append(f"{r.topic:<26}{counts}  {r.by:<8}{r.duplicates:>10,}{r.lost:>6,}")
    rule = "─" * len(lines[0])
    return "\n".join(["", lines[0], rule, *lines[1:], rule])


def milliseconds(seconds: Sequence[float]) -> str:
    """The median and the 99th percentile."""
    if len(seconds) < 2:
        return "not measured"
    cuts = quantiles(seconds, n=100)
    return f"p50 {cuts[49] * 1000:,.1f} ms, p99 {cuts[98] * 1000:,.1f} ms, from the send to the answer"


def facts(of: dict[str, str]) -> str:
    """What there is to say about the whole, one line each."""
    return "\n".join(f"{name:<14}{value}" for name, value in of.items())
