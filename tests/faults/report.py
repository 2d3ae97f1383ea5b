"""The report of a long run: a table, and for each run what was measured, its picture, and what broke."""

from __future__ import annotations

import os
import platform
import subprocess
from collections.abc import Iterator, Sequence
from pathlib import Path

from tests.support.server import binary

from .chart import chart, picture_name
from .run import Result


def _version() -> str:
    out = subprocess.run([binary(), "--version"], capture_output=True, text=True, check=True).stdout
    return out.strip().removeprefix("nats-server: ")


def _lines(results: Sequence[Result], minutes: float) -> Iterator[str]:
    form = "long" if results[0].long else "short"
    broken = [r for r in results if r.violations]
    skipped = sum(bool(r.skipped) for r in results)
    yield "# Faults\n"
    yield (
        f"The {form} form, {len(results)} runs in {minutes:.0f} min, seed {results[0].seed}, nats-server {_version()}, "
        f"Python {platform.python_version()}, {os.cpu_count()} cores. "
        f"{len(results) - len(broken) - skipped} held, {len(broken)} broke"
        f"{f', {skipped} could not be made to happen here' if skipped else ''}.\n"
    )
    again = (
        f"python -m tests.faults{' --long' if results[0].long else ''} --seed {results[0].seed} --report docs/faults"
    )
    yield f"Written by `{again}`. Letters: L every acked message is stored and handled · D each id stored once ·"
    yield "O keys in order · H every send ends in time · R traffic resumes · M nothing is held · X clean ends ·"
    yield "T the right errors. The pictures show rates; faults are shaded.\n"
    yield "| row | fault | case | language | invariants | result | seconds |"
    yield "|---|---|---|---|---|---|---|"
    for r in results:
        verdict = (
            "held" if not r.violations else f"**broken: {', '.join(sorted({v.invariant for v in r.violations}))}**"
        )
        if r.skipped:
            verdict = f"skipped: {r.skipped}"
        row = r.row
        held = " ".join(row.holds)
        yield f"| {row.number} | {row.title} | {r.case} | {r.language} | {held} | {verdict} | {r.took:.0f} |"
    for r in results:
        yield f"\n## {r.name[0].upper()}{r.name[1:]}: {r.row.title}\n"
        yield ", ".join(f"{k} {v}" for k, v in r.facts.items()) + ("." if r.facts else "")
        for v in r.violations[:10]:
            yield f"- **{v.invariant}** {v.text}"
        if len(r.violations) > 10:
            yield f"- and {len(r.violations) - 10} more"
        if r.timeline.sent or r.timeline.handled:
            yield f"\n![{r.name}: rates over time]({picture_name(r)})"


def write(results: Sequence[Result], new: Result, folder: Path, minutes: float) -> None:
    """Writes `report.md` and the picture of the result that is new."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / picture_name(new)).write_text(chart(new))
    (folder / "report.md").write_text("\n".join(_lines(results, minutes)) + "\n")
