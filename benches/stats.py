"""What the runs gave: medians and spread, ratios, and the file they are kept in."""

from __future__ import annotations

import dataclasses
import json
import statistics
from pathlib import Path
from typing import Any, TypeAlias

Outcome: TypeAlias = dict[str, Any]


@dataclasses.dataclass
class Row:
    """One client's way in one workload."""

    workload: str
    client: str
    mode: str
    rounds: list[Outcome] = dataclasses.field(default_factory=list[Outcome])
    error: str = ""
    failed: int = 0

    def _values(self, name: str) -> list[float]:
        return [value for r in self.rounds if (value := _value(r, name)) is not None]

    def median(self, name: str) -> float | None:
        """Of all rounds; None where there is no such figure."""
        values = self._values(name)
        return statistics.median(values) if values else None

    def spread(self, name: str) -> float | None:
        """Half the distance between the best and the worst round, as a share of the median."""
        values = self._values(name)
        middle = statistics.median(values) if len(values) > 1 else 0
        return (max(values) - min(values)) / 2 / middle if middle else None

    @property
    def memory(self) -> list[tuple[int, int]]:
        """Messages and kB, where memory was watched."""
        curve: list[tuple[int, int]] = self.rounds[0].get("memory", []) if self.rounds else []
        return [(int(n), int(kb)) for n, kb in curve]


def _value(outcome: Outcome, name: str) -> float | None:
    if name == "rate":
        return outcome["messages"] / outcome["seconds"] if outcome.get("seconds") else None
    if name == "cpu":
        # Seconds per million messages.
        if outcome.get("cpu") is None or not outcome.get("messages"):
            return None
        return outcome["cpu"] / outcome["messages"] * 1e6
    if name == "start_ms":
        return outcome["import_ms"] + outcome["connect_ms"] if "import_ms" in outcome else None
    if name == "load":
        return outcome["cpu"] / outcome["seconds"] if outcome.get("seconds") else None
    if name.startswith("p") or name == "max":
        return outcome.get("latency", {}).get(name)
    value = outcome.get(name)
    return None if value is None else float(value)


class Results:
    """All rows, in the order they were first run, and what they were run on."""

    def __init__(self) -> None:
        self.about: dict[str, Any] = {}
        self._rows: dict[tuple[str, str, str], Row] = {}

    def _row(self, workload: str, client: str, mode: str) -> Row:
        return self._rows.setdefault((workload, client, mode), Row(workload, client, mode))

    def add(self, workload: str, client: str, mode: str, outcome: Outcome) -> None:
        """One round."""
        self._row(workload, client, mode).rounds.append(outcome)

    def fail(self, workload: str, client: str, mode: str, why: str) -> None:
        """A round that did not succeed, and why."""
        row = self._row(workload, client, mode)
        row.error = why
        row.failed += 1

    def rows(self, workload: str) -> list[Row]:
        """Those of a workload."""
        return [row for row in self._rows.values() if row.workload == workload]

    def get(self, workload: str, client: str, mode: str) -> Row | None:
        """One of them."""
        return self._rows.get((workload, client, mode))

    def replace(self, part: Results) -> None:
        """Takes workloads that were measured again, and remembers when and of what."""
        again = list(dict.fromkeys(row.workload for row in part._rows.values()))
        self._rows = {key: row for key, row in self._rows.items() if row.workload not in again} | part._rows
        told = {"workloads": again, "date": part.about["date"], "commit": part.about["commit"]}
        self.about["again"] = [*self.about.get("again", []), told]

    def save(self, file: Path) -> None:
        """Every round of every row, and the medians for those who only want these."""
        names = ("rate", "cpu", "rss_kb", "p50", "p99", "p999")
        rows = [
            {
                **{k: v for k, v in dataclasses.asdict(row).items() if v not in ("", 0)},
                "median": {name: row.median(name) for name in names if row.median(name) is not None},
            }
            for row in self._rows.values()
        ]
        file.write_text(json.dumps({"about": self.about, "rows": rows}, indent=1, ensure_ascii=False) + "\n")

    @classmethod
    def load(cls, file: Path) -> Results:
        """What :meth:`save` wrote."""
        data = json.loads(file.read_text())
        results = cls()
        results.about = data["about"]
        for saved in data["rows"]:
            row = results._row(saved["workload"], saved["client"], saved.get("mode", ""))
            row.rounds, row.error, row.failed = saved["rounds"], saved.get("error", ""), saved.get("failed", 0)
        return results


def ratio(row: Row | None, other: Row | None, name: str = "rate") -> float | None:
    """Of two rows: the median of their ratios round by round, for both were run in each."""
    if row is None or other is None:
        return None
    pairs = [(_value(a, name), _value(b, name)) for a, b in zip(row.rounds, other.rounds, strict=False)]
    ratios = [a / b for a, b in pairs if a and b]
    return statistics.median(ratios) if ratios else None


def best(rows: list[Row], name: str = "rate", least: bool = False) -> Row | None:
    """The row with the highest, or least, median."""
    known = [(value, row) for row in rows if (value := row.median(name)) is not None]
    if not known:
        return None
    return (min if least else max)(known, key=lambda pair: pair[0])[1]


def rate_of(results: Results, workload: str, client: str, mode: str) -> float | None:
    """Median messages a second."""
    row = results.get(workload, client, mode)
    return row.median("rate") if row else None
