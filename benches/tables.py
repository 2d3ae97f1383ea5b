"""The report's tables, one function per kind of workload."""

from __future__ import annotations

from collections.abc import Callable, Sequence

from .clients import CLIENTS, label
from .stats import Results, Row, best, ratio
from .workloads import Workload


def number(value: float | None, digits: int = 3) -> str:
    """Short: 2.83 M, 212 k, 48.7; an en dash for what there is not."""
    if value is None:
        return "–"
    for unit, name in ((1e6, " M"), (1e3, " k")):
        if abs(value) >= unit:
            return f"{_digits(value / unit, digits)}{name}"
    return _digits(value, digits)


def _digits(value: float, digits: int) -> str:
    whole = len(str(int(abs(value))))
    return f"{value:.{max(digits - whole, 0)}f}"


def _times(value: float | None) -> str:
    return "–" if value is None else f"{_digits(value, 3)} ×"


def _megabytes(kb: float | None) -> str:
    return "–" if kb is None else f"{kb / 1024:.0f}"


def _spread(value: float | None) -> str:
    return "" if value is None else f"± {value:.0%}"


def table(head: Sequence[str], rows: Sequence[Sequence[str]]) -> list[str]:
    """As Markdown; all but the first column to the right."""
    lines = [f"| {' | '.join(head)} |", f"|{'|'.join(['---'] + ['--:'] * (len(head) - 1))}|"]
    return lines + [f"| {' | '.join(row)} |" for row in rows]


def name(row: Row) -> str:
    """What a row is called; ours in bold."""
    text = label(row.client, row.mode)
    return f"**{text}**" if CLIENTS[row.client].ours else text


def measured(results: Results, workload: str) -> list[Row]:
    """Rows with figures, in the order of the clients."""
    order = list(CLIENTS)
    return sorted((r for r in results.rows(workload) if r.rounds), key=lambda r: order.index(r.client))


def limit(rows: list[Row]) -> Row | None:
    """The raw row that ratios are taken to: its first."""
    return next((r for r in rows if r.client == "raw"), None)


def ours(rows: list[Row], language: str, figure: str = "rate", least: bool = False) -> Row | None:
    """The best way of ours in a language, on the host's own event loop."""
    return best([r for r in rows if r.client == f"ours-{language}"], figure, least)


def rates(workload: Workload, results: Results) -> list[str]:
    """Messages a second, ratios, CPU, memory."""
    rows = measured(results, workload.id)
    raw, python, node = limit(rows), ours(rows, "python"), ours(rows, "node")
    head = ("", "msg/s", "", "÷ raw", "ours Python ÷ it", "ours Node ÷ it", "CPU s / M", "peak MB")

    def ratio_to(own: Row | None, row: Row) -> str:
        return "" if CLIENTS[row.client].ours else _times(ratio(own, row))

    return table(
        head,
        [
            (
                name(r),
                number(r.median("rate")),
                _spread(r.spread("rate")),
                f"{share:.2f}" if (share := ratio(r, raw)) is not None else "–",
                ratio_to(python, r),
                ratio_to(node, r),
                number(r.median("cpu")),
                _megabytes(r.median("rss_kb")),
            )
            for r in rows
        ],
    )


def latencies(workload: Workload, results: Results) -> list[str]:
    """Percentiles in microseconds."""
    rows = measured(results, workload.id)
    python, node = (ours(rows, language, "p50", least=True) for language in ("python", "node"))
    head = (
        "",
        "msg/s",
        "p50 µs",
        "",
        "p99 µs",
        "p99.9 µs",
        "its p50 ÷ ours Python",
        "its p50 ÷ ours Node",
        "CPU s / M",
        "peak MB",
    )

    def ratio_to(own: Row | None, row: Row) -> str:
        return "" if CLIENTS[row.client].ours else _times(ratio(row, own, "p50"))

    return table(
        head,
        [
            (
                name(r),
                number(r.median("target") or r.median("rate")),
                number(r.median("p50")),
                _spread(r.spread("p50")),
                number(r.median("p99")),
                number(r.median("p999")),
                ratio_to(python, r),
                ratio_to(node, r),
                number(r.median("cpu")),
                _megabytes(r.median("rss_kb")),
            )
            for r in rows
        ],
    )


def startups(workload: Workload, results: Results) -> list[str]:
    """Milliseconds from nothing to connected."""
    return table(
        ("", "import ms", "connect ms", "together", "", "peak MB"),
        [
            (
                name(r),
                number(r.median("import_ms")),
                number(r.median("connect_ms")),
                number(r.median("start_ms")),
                _spread(r.spread("start_ms")),
                _megabytes(r.median("rss_kb")),
            )
            for r in measured(results, workload.id)
        ],
    )


def idles(workload: Workload, results: Results) -> list[str]:
    """The share of a core that nothing costs."""
    rows = measured(results, workload.id)

    def share(r: Row) -> str:
        return "–" if (load := r.median("load")) is None else f"{load:.3%}"

    return table(("", "of a core", "peak MB"), [(name(r), share(r), _megabytes(r.median("rss_kb"))) for r in rows])


def memories(workload: Workload, results: Results) -> list[str]:
    """Memory held on the way."""

    def at(row: Row, share: float) -> str:
        curve = row.memory
        return _megabytes(curve[min(int(len(curve) * share), len(curve) - 1)][1]) if curve else "–"

    return table(
        ("MB held after", "messages", "2 %", "10 %", "50 %", "100 %", "msg/s"),
        [
            (
                name(r),
                number(r.median("total")),
                at(r, 0.0),
                at(r, 0.1),
                at(r, 0.5),
                at(r, 1.0),
                number(r.median("rate")),
            )
            for r in measured(results, workload.id)
        ],
    )


def curves(workloads: list[Workload], results: Results) -> list[str]:
    """CPU per message, and messages a second, along a curve."""
    points = [(w.curve[1], w) for w in workloads if w.curve]
    found = {at: {(r.client, r.mode): r for r in measured(results, w.id)} for at, w in points}
    keys = list(dict.fromkeys(key for rows in found.values() for key in rows))
    head = ["CPU µs a message · msg/s", *(f"{at:,}".replace(",", " ") for at, _ in points)]

    def cell(row: Row | None) -> str:
        return "–" if row is None else f"{number(row.median('cpu'))} · {number(row.median('rate'))}"

    rows: list[list[str]] = []
    for key in keys:
        along = [found[at].get(key) for at, _ in points]
        first = next(row for row in along if row)
        rows.append([name(first), *(cell(row) for row in along)])
    return table(head, rows)


KINDS: dict[str, Callable[[Workload, Results], list[str]]] = {
    "rate": rates,
    "latency": latencies,
    "startup": startups,
    "idle": idles,
    "memory": memories,
}
