"""The chart: bars of messages a second for the main workloads, and the curves of cost and memory. Plain SVG."""

from __future__ import annotations

import math
from collections.abc import Sequence
from html import escape

from .clients import CLIENTS, label
from .stats import Results, Row, best, ratio
from .tables import limit, measured, number
from .workloads import WORKLOADS

WIDTH, LEFT, BAR, ROW = 860, 250, 400, 20
# Greys and colours that are legible on white and on black.
TEXT, FAINT, RAW, PEER = "#7d8590", "#7d859055", "#8b949e", "#4c8dd6"
OURS = {"ours-python": "#e0662f", "ours-python-uvloop": "#e0662f", "ours-node": "#d9992b"}
PANELS = ("core_publish_128", "core_receive", "js_publish_one", "js_publish", "js_consume", "platform_loop")
CURVES = (("fan_paced", "consumers"), ("keyed", "keys"), ("backlog", "backlog"))


class Drawing:
    """Lines of SVG, and how far down they reach."""

    def __init__(self) -> None:
        self._parts: list[str] = []
        self.y = 10.0

    def text(
        self,
        x: float,
        y: float,
        text: str,
        size: int = 12,
        anchor: str = "start",
        color: str = TEXT,
        bold: bool = False,
    ) -> None:
        weight = ' font-weight="600"' if bold else ""
        place = f'x="{x:.1f}" y="{y:.1f}" font-size="{size}" text-anchor="{anchor}" fill="{color}"'
        self._parts.append(f"<text {place}{weight}>{escape(text)}</text>")

    def bar(self, x: float, y: float, width: float, color: str) -> None:
        self._parts.append(
            f'<rect x="{x:.1f}" y="{y:.1f}" width="{max(width, 1):.1f}" height="12" rx="2" fill="{color}"/>'
        )

    def line(self, points: Sequence[tuple[float, float]], color: str, width: float = 2) -> None:
        path = " ".join(f"{x:.1f},{y:.1f}" for x, y in points)
        self._parts.append(f'<polyline points="{path}" fill="none" stroke="{color}" stroke-width="{width}"/>')

    def dot(self, x: float, y: float, color: str) -> None:
        self._parts.append(f'<circle cx="{x:.1f}" cy="{y:.1f}" r="3" fill="{color}"/>')

    def svg(self) -> str:
        font = "font-family=\"system-ui, -apple-system, 'Segoe UI', sans-serif\""
        size = f'width="{WIDTH}" height="{self.y:.0f}" viewBox="0 0 {WIDTH} {self.y:.0f}"'
        body = "\n".join(self._parts)
        return f'<svg xmlns="http://www.w3.org/2000/svg" {size} {font}>\n<title>Benchmarks</title>\n{body}\n</svg>\n'


def _color(client: str) -> str:
    return OURS.get(client, RAW if client == "raw" else PEER)


def _best_of_each(rows: list[Row]) -> list[Row]:
    found = [best([r for r in rows if r.client == id_]) for id_ in CLIENTS if id_ != "raw"]
    raw = limit(rows)
    picked = [row for row in found if row is not None]
    picked.sort(key=lambda row: -(row.median("rate") or 0))
    return [raw, *picked] if raw else picked


def _bars(drawing: Drawing, workload: str, title: str, results: Results) -> None:
    rows = _best_of_each(measured(results, workload))
    if not rows:
        return
    raw = limit(rows)
    most = max(row.median("rate") or 0 for row in rows)
    drawing.y += 26
    drawing.text(LEFT, drawing.y, title, 14, bold=True)
    drawing.y += 10
    for row in rows:
        rate = row.median("rate") or 0
        own = CLIENTS[row.client].ours
        color = _color(row.client)
        drawing.text(LEFT - 8, drawing.y + 10, label(row.client, row.mode), 12, "end", color if own else TEXT, own)
        drawing.bar(LEFT, drawing.y, BAR * rate / most, color)
        share = ratio(row, raw)
        figure = number(rate) + ("" if share is None or row is raw else f"  ({share:.0%} of raw)")
        drawing.text(LEFT + BAR * rate / most + 6, drawing.y + 10, figure, 12, color=color if own else TEXT, bold=own)
        drawing.y += ROW


def _cost(results: Results, curve: str) -> dict[str, list[tuple[int, float]]]:
    """CPU per message of each client along a curve."""
    found: dict[str, list[tuple[int, float]]] = {}
    for workload in WORKLOADS:
        if workload.curve and workload.curve[0] == curve:
            for row in measured(results, workload.id):
                cost = row.median("cpu")
                if row.client in ("ours-python", "ours-node", "nats-py-uvloop", "nats.js") and cost:
                    found.setdefault(row.client, []).append((workload.curve[1], cost))
    return {client: points for client, points in found.items() if len(points) > 1}


def _curve(drawing: Drawing, x: float, width: float, what: str, curves: dict[str, list[tuple[int, float]]]) -> None:
    top, height = drawing.y + 20, 130
    most = max(cost for points in curves.values() for _, cost in points) * 1.15
    places = sorted({at for points in curves.values() for at, _ in points})
    low, high = math.log10(places[0]), math.log10(places[-1])
    inner = width - 120

    def across(at: int) -> float:
        return x + 30 + inner * (math.log10(at) - low) / (high - low)

    drawing.text(x + 30, drawing.y + 8, f"CPU µs a message, by {what}", 12, bold=True)
    drawing.line([(x + 30, top + height), (x + 30 + inner, top + height)], FAINT, 1)
    drawing.line([(x + 30, top), (x + 30, top + height)], FAINT, 1)
    drawing.text(x + 26, top + 8, number(most, 2), 10, "end")
    for at in places:
        drawing.text(across(at), top + height + 14, number(at, 1), 10, "middle")
    ends: list[tuple[float, str]] = []
    for client, points in curves.items():
        places_on = [(across(at), top + height * (1 - cost / most)) for at, cost in points]
        drawing.line(places_on, _color(client))
        for place in places_on:
            drawing.dot(*place, _color(client))
        ends.append((places_on[-1][1], client))
    lowest = 0.0
    for y, client in sorted(ends):
        # Names that would lie on each other move down.
        lowest = max(y + 3, lowest + 11)
        drawing.text(x + 36 + inner, lowest, CLIENTS[client].label, 10, color=_color(client))


def chart(results: Results) -> str:
    """The whole of it."""
    drawing = Drawing()
    drawing.text(
        LEFT, drawing.y + 10, "Messages a second, the best way of each client; each panel has its own scale", 12
    )
    drawing.y += 10
    titles = {w.id: w.title for w in WORKLOADS}
    for workload in PANELS:
        _bars(drawing, workload, titles[workload], results)
    drawn = [(title, curves) for curve, title in CURVES if (curves := _cost(results, curve))]
    if drawn:
        drawing.y += 30
        width = WIDTH / len(CURVES)
        for i, (title, curves) in enumerate(drawn):
            _curve(drawing, i * width, width, title, curves)
        drawing.y += 180
    drawing.y += 14
    return drawing.svg()
