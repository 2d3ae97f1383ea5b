"""Runs one row in one language, and says what came of it."""

from __future__ import annotations

import asyncio
import shlex
import time
import traceback
from collections.abc import Awaitable, Callable, Iterable
from dataclasses import dataclass, field
from pathlib import Path

from .audit import audit, producers, workers
from .children import Language
from .evidence import Evidence, Fault, Rules, Violation
from .rig import Rig, Skipped


@dataclass(frozen=True)
class Row:
    """A line of the table of faults, and how it is made to happen."""

    number: int
    title: str
    holds: str
    """The letters of the invariants that must hold."""
    scenario: Callable[[Rig], Awaitable[Evidence]]
    cases: tuple[str, ...] = ("",)
    rules: Rules = field(default_factory=Rules)
    short: frozenset[tuple[str, Language]] | None = None
    """The cases and languages of the short form, where it has not all of them."""
    languages: tuple[Language, ...] = ("python", "node")
    crowd: bool = False
    """Whether it needs the machine for itself: it asks what a process does with a great many sends at once."""


@dataclass(frozen=True)
class Timeline:
    """When things happened, in seconds from the run's beginning."""

    length: float
    sent: list[float]
    stored: list[float]
    handled: list[float]
    faults: list[Fault]

    def buckets(self, width: float) -> dict[str, list[int]]:
        """How many in each stretch of so many seconds."""
        count = int(self.length / width) + 1
        out = {"sent": [0] * count, "stored": [0] * count, "handled": [0] * count}
        for name, times in (("sent", self.sent), ("stored", self.stored), ("handled", self.handled)):
            for t in times:
                out[name][min(max(int(t / width), 0), count - 1)] += 1
        return out


@dataclass(frozen=True)
class Result:
    """What came of a run."""

    row: Row
    case: str
    language: Language
    seed: int
    long: bool
    took: float
    violations: list[Violation]
    timeline: Timeline
    facts: dict[str, str]
    skipped: str = ""
    """Why it could not be made to happen here; nothing was proved."""
    beside: Result | None = None
    """What came of it beside others, where it broke and was carried out once more by itself."""

    @property
    def name(self) -> str:
        """Row, case and language."""
        return name(self.row, self.case, self.language)

    def __str__(self) -> str:
        again = f"python -m tests.faults --row {self.row.number} --lang {self.language} --seed {self.seed}"
        again += f" --case {shlex.quote(self.case)}" * bool(self.case) + " --long" * self.long
        facts = ", ".join(f"{k} {v}" for k, v in self.facts.items())
        if self.skipped:
            return f"{self.name}: SKIPPED, {self.skipped}"
        lines = [f"{self.name}: {'held' if not self.violations else 'BROKEN'} in {self.took:.1f} s ({facts})"]
        for letter in dict.fromkeys(v.invariant for v in self.violations):
            alike = [v for v in self.violations if v.invariant == letter]
            lines += [f"  {v}" for v in alike[:5]]
            if len(alike) > 5:
                lines.append(f"  {letter}: and {len(alike) - 5} more")
        return "\n".join(lines + ([f"  again: {again}"] if self.violations else []))


def name(row: Row, case: str, language: Language) -> str:
    """A run's name."""
    return f"row {row.number}{f' ({case})' if case else ''}, {language}"


async def run(
    row: Row, *, seed: int, long: bool = False, language: Language = "python", case: str = "", keep: bool = False
) -> Result:
    """Makes a row happen once. Whatever goes wrong in making it is a violation, too: it proved nothing."""
    rig = Rig(seed=seed, long=long, language=language, case=case)
    evidence, violations, skipped = Evidence(), list[Violation](), ""
    try:
        try:
            evidence = await row.scenario(rig)
            # In a thread: the proxies of other runs, on the same loop, must not feel it.
            violations += await asyncio.to_thread(audit, evidence, row.holds, row.rules)
            violations += rig.violations
        except Skipped as e:
            skipped = str(e)
        except Exception as e:
            # Half the evidence would only accuse the innocent.
            evidence = await rig.evidence()
            where = traceback.extract_tb(e.__traceback__)[-1]
            failed = Violation("rig", f"{type(e).__name__} at {Path(where.filename).name}:{where.lineno}: {e}")
            violations += [failed, *audit(evidence, "X"), *rig.violations]
    finally:
        await rig.close(keep=keep)
    if keep:
        rig.facts["kept in"] = str(rig.folder)
    took = time.monotonic() - rig.began
    facts = {**await asyncio.to_thread(_counts, evidence), **rig.facts}
    timeline = await asyncio.to_thread(_timeline, evidence, rig.began)
    return Result(row, case, language, seed, long, took, violations, timeline, facts, skipped)


def _counts(e: Evidence) -> dict[str, str]:
    outcomes = [x for p in producers(e) for x in p.ended]
    handled = {h.id for w in workers(e) for h in w.handlings if h.how == "ok"}
    again = sum(h.attempt > 1 for w in workers(e) for h in w.handlings)
    facts = {
        "sent": sum(len(p.sent) for p in producers(e)),
        "acked": sum(x.how == "acked" for x in outcomes),
        "duplicates": sum(x.duplicate for x in outcomes),
        "rejected": sum(x.how == "rejected" for x in outcomes),
        "refused": sum(x.how == "refused" for x in outcomes),
        "unknown": sum(x.how == "unknown" for x in outcomes),
        "handled": len(handled),
        "redelivered": again,
        "dead letters": len(e.letters),
    }
    return {k: f"{v:,}" for k, v in facts.items() if v}


def _timeline(e: Evidence, began: float) -> Timeline:
    def since(times: Iterable[float]) -> list[float]:
        return sorted(t - began for t in times)

    ends = [h.end for w in workers(e) for h in w.handlings if h.end is not None]
    sent = since(s.t for p in producers(e) for s in p.sent)
    stored, handled = since(s.t for s in e.stored), since(ends)
    faults = [Fault(f.name, f.start - began, f.heal - began) for f in e.faults]
    length = max((*sent[-1:], *stored[-1:], *handled[-1:], *(f.heal for f in faults), 1.0))
    return Timeline(length, sent, stored, handled, faults)
