"""Writes docs/benchmarks.md and .svg from the results."""

from __future__ import annotations

from itertools import groupby
from pathlib import Path
from typing import Any

from .chart import chart
from .clients import CLIENTS, WAYS, Client, label
from .stats import Results, best
from .tables import KINDS, curves, limit, measured, number, ours, ratio, table
from .workloads import WORKLOADS, Workload

HOW = """\
Every client runs in a process of its own against the same server, one after the other, all of them in every round:
what disturbs the machine disturbs all. Each round begins with another client. Start-up, connecting and warming up are
not measured; an interval ends when the server has confirmed the last message (PING and PONG, the ack of the last
publish, the confirmed ack of the last message). What a publisher or consumer says it did is checked against the
server's counters, streams and durables; a row that they do not bear out is not shown.

**msg/s** is the median of the rounds, **±** half the distance between the best and the worst. **Ratios** are medians
of the ratios round by round. **÷ raw** is the share of what the raw socket program reaches. *Ours ÷ it* is our best
way in that language, on asyncio and on Node, against that row. **CPU s / M** are CPU seconds of the client process,
all its threads, per million messages, which is also µs per message. **Peak MB** is the most memory the process ever
held. Absolute figures do not travel: quote the ratios."""


def _about(about: dict[str, Any]) -> list[str]:
    versions = " · ".join(f"{name} {version}" for name, version in about["versions"].items())
    return [
        f"Measured {about['date']} at `{about['commit']}`: {about['cores']} cores ({about['cpu']}), "
        f"{about['memory_gb']} GB, {about['system']}; load before {about['load_before']:.1f}. "
        f"{about['rounds']} rounds of {about['seconds']} s each.",
        *(
            f"Measured again {a['date']} at `{a['commit']}`: {', '.join(f'`{w}`' for w in a['workloads'])}."
            for a in about.get("again", [])
        ),
        "",
        versions + ".",
        "",
        "Again: `make bench`, or `make bench-quick` for the main workloads in under 3 minutes. One of them: "
        "`python3 -m benches --only core_publish --rounds 3 --peers ours-python,nats-py`; `--list` names all.",
        *(
            []
            if not about["quick"]
            else ["", "This is a quick run: few rounds, little of each. `make bench` measures properly."]
        ),
    ]


_HEADLINES = (
    "core_publish_128",
    "core_receive",
    "js_publish_one",
    "js_publish",
    "js_publish_ids",
    "js_consume",
    "js_fetch1",
    "platform_loop",
    "request",
    "agent",
)


def _summary(results: Results) -> list[str]:
    """The best way of ours against the best way of each peer."""
    peers = [id_ for id_, c in CLIENTS.items() if not c.ours and id_ != "nats-cli"]
    lines: list[str] = []
    for language in ("python", "node"):
        rows: list[tuple[str, ...]] = []
        for workload in (w for w in WORKLOADS if w.id in _HEADLINES):
            latency = workload.kind == "latency"
            figure = "p50" if latency else "rate"
            found = measured(results, workload.id)
            own = ours(found, language, figure, latency)
            if own is None:
                continue
            cells: list[str] = []
            for peer in peers:
                theirs = [r for r in found if r.client == peer]
                ratios = [ratio(r, own, figure) if latency else ratio(own, r, figure) for r in theirs]
                known = [r for r in ratios if r is not None]
                cells.append(f"{min(known):.2f}" if known else "–")
            way = WAYS[own.mode] or ("p50" if latency else "")
            rows.append((workload.title + (f": {way}" if way else ""), *cells))
        if rows:
            name = "Python" if language == "python" else "Node"
            lines += [
                f"**Ours in {name}, as a multiple of:**",
                "",
                *table(("", *(CLIENTS[p].label for p in peers)), rows),
                "",
            ]
    return lines


def ratios(results: Results) -> list[str]:
    """Each of our ways as a share of the best of async-nats, and of the limit; a line each."""
    lines: list[str] = []
    for workload in (w for w in WORKLOADS if w.kind == "rate" and not w.curve):
        found = measured(results, workload.id)
        peer, raw = best([r for r in found if r.client == "async-nats"], "rate", False), limit(found)
        for row in (r for r in found if CLIENTS[r.client].ours):
            shares = [(ratio(row, peer), "async-nats"), (ratio(row, raw), "raw")]
            told = ", ".join(f"{share:.2f} × {name}" for share, name in shares if share is not None)
            lines.append(f"{workload.id:18} {label(row.client, row.mode)}: {told or 'nothing to compare with'}")
    return lines


def _failures(results: Results, workload: Workload) -> list[str]:
    failed = [r for r in results.rows(workload.id) if r.error]
    return [f"- {label(r.client, r.mode)} failed, rounds: {r.failed}; the last: {r.error}" for r in failed]


def _names(workloads: list[Workload]) -> str:
    return ", ".join(dict.fromkeys(w.curve[0] if w.curve else w.id for w in workloads))


def _elsewhere(client: Client) -> str:
    """Where it does not take part, and why."""
    missing = _names([w for w in WORKLOADS if client.family not in w.modes])
    twin = _names([w for w in WORKLOADS if client.id in w.without])
    text = f" Not in {missing}: {client.absent}." if missing else ""
    return text + (f" In {twin} its twin on the other event loop takes part." if twin else "")


def _section(group: list[Workload], results: Results) -> list[str]:
    group = [w for w in group if results.rows(w.id)]
    if not group:
        return []
    first = group[0]
    lines = [f"### {first.title}", ""]
    if first.note:
        lines += [first.note, ""]
    lines += curves(group, results) if first.curve else KINDS[first.kind](first, results)
    failures = list(dict.fromkeys(line for w in group for line in _failures(results, w)))
    return [*lines, *([""] if failures else []), *failures, ""]


def write(results: Results, out: Path) -> None:
    """The report, and its chart."""
    about = results.about
    lines = ["# Benchmarks", "", *_about(about), "", "![Messages a second](benchmarks.svg)", "", HOW, ""]
    summary = _summary(results)
    lines += [*(["## In short", "", *summary] if summary else []), "## Workloads", ""]
    for _, group in groupby(WORKLOADS, key=lambda w: w.title if w.curve else w.id):
        lines += _section(list(group), results)
    if about["sizes"]:
        sizes = [(name, f"{number(size / 1e6)} MB") for name, size in about["sizes"].items()]
        lines += ["### Size", "", *table(("", "on disk"), sizes), ""]
    lines += ["## How each is run", ""]
    lines += [f"- **{c.label}**: {c.how}{_elsewhere(c)}" for c in CLIENTS.values()]
    lines += [f"- not run: {CLIENTS[id_].label}: {why}" for id_, why in about["skipped"].items()]
    (out / "benchmarks.md").write_text("\n".join(lines) + "\n")
    (out / "benchmarks.svg").write_text(chart(results))
