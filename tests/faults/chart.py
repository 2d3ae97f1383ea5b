"""A run as a picture: rates over time, and when the faults were. SVG, legible on white and on black."""

from __future__ import annotations

from collections.abc import Iterator
from html import escape
from math import floor, log10

from .run import Result

WIDTH, HEIGHT = 880, 320
LEFT, RIGHT, TOP, BOTTOM = 64, 16, 56, 44
LINES = {"sent": ("#3b82d6", "7 3"), "stored": ("#d97f16", ""), "handled": ("#219a62", "")}
"""Colours that stand out on both grounds; `sent` is dashed, since the others often lie on it."""
FAULT = "#d6455d"

STYLE = """
  text { font: 12px system-ui, sans-serif; fill: #333 } .title { font-size: 14px; font-weight: 600 }
  .grid { stroke: #888; stroke-opacity: .25 } .axis { stroke: #777 } .line { fill: none; stroke-width: 1.8 }
  @media (prefers-color-scheme: dark) { text { fill: #ddd } .axis { stroke: #aaa } }
"""


def step(span: float, count: int) -> float:
    """A round number that divides a span into about so many parts."""
    rough = max(span, 1e-9) / count
    size = 10 ** floor(log10(rough))
    return next(size * n for n in (1, 2, 5, 10) if size * n >= rough)


def chart(result: Result) -> str:
    """The picture of a run."""
    t = result.timeline
    width = max(0.25, step(t.length, 120))
    rates = {name: [n / width for n in counts] for name, counts in t.buckets(width).items()}
    top = max(1.0, *(max(r, default=0) for r in rates.values())) * 1.05

    def x(seconds: float) -> float:
        return LEFT + (WIDTH - LEFT - RIGHT) * min(max(seconds / t.length, 0), 1)

    def y(rate: float) -> float:
        return TOP + (HEIGHT - TOP - BOTTOM) * (1 - rate / top)

    def grid() -> Iterator[str]:
        by = step(top, 5)
        for i in range(floor(top / by) + 1):
            at = y(i * by)
            yield f'<line class="grid" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{at:.1f}" y2="{at:.1f}"/>'
            yield f'<text x="{LEFT - 8}" y="{at + 4:.1f}" text-anchor="end">{i * by:,.0f}</text>'
        by = step(t.length, 10)
        for i in range(floor(t.length / by) + 1):
            at = x(i * by)
            yield f'<line class="axis" x1="{at:.1f}" x2="{at:.1f}" y1="{y(0):.1f}" y2="{y(0) + 4:.1f}"/>'
            yield f'<text x="{at:.1f}" y="{y(0) + 18:.1f}" text-anchor="middle">{i * by:g}</text>'
        yield f'<line class="axis" x1="{LEFT}" x2="{WIDTH - RIGHT}" y1="{y(0):.1f}" y2="{y(0):.1f}"/>'
        yield f'<text x="{(LEFT + WIDTH - RIGHT) / 2}" y="{HEIGHT - 8}" text-anchor="middle">seconds</text>'
        middle = (TOP + HEIGHT - BOTTOM) / 2
        yield (f'<text transform="translate(14 {middle}) rotate(-90)" text-anchor="middle">messages a second</text>')

    def faults() -> Iterator[str]:
        for f in t.faults:
            # A blow has no length; it is still to be seen.
            wide = max(x(f.heal) - x(f.start), 2)
            yield (
                f'<rect x="{x(f.start):.1f}" y="{TOP}" width="{wide:.1f}" height="{y(0) - TOP:.1f}" '
                f'fill="{FAULT}" fill-opacity="{0.22 if wide > 2 else 0.8}"><title>{escape(f.name)}</title></rect>'
            )

    def lines() -> Iterator[str]:
        for name, (colour, dash) in LINES.items():
            points = " ".join(
                f"{x(i * width):.1f},{y(r):.1f} {x((i + 1) * width):.1f},{y(r):.1f}" for i, r in enumerate(rates[name])
            )
            if any(rates[name]):
                dashed = f' stroke-dasharray="{dash}"' if dash else ""
                yield f'<polyline class="line" stroke="{colour}"{dashed} points="{points}"/>'

    def legend() -> Iterator[str]:
        at = float(LEFT)
        for name, (colour, dash) in LINES.items():
            if any(rates[name]):
                dashed = f' stroke-dasharray="{dash}"' if dash else ""
                yield f'<path d="M{at} 40h22" stroke="{colour}" stroke-width="2.5"{dashed}/>'
                yield f'<text x="{at + 28}" y="44">{name}</text>'
                at += 100
        names = list(dict.fromkeys(f.name for f in t.faults))
        if names:
            text = ", ".join(names[:3]) + (" …" if len(names) > 3 else "")
            yield f'<rect x="{at}" y="34" width="22" height="12" fill="{FAULT}" fill-opacity=".3"/>'
            yield f'<text x="{at + 28}" y="44">{escape(text)}</text>'

    title = f"{result.name}: {result.row.title}"
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {WIDTH} {HEIGHT}" role="img">',
        f"<title>{escape(title)}</title><style>{STYLE}</style>",
        f'<text class="title" x="{LEFT}" y="20">{escape(title)}</text>',
        *faults(),
        *grid(),
        *lines(),
        *legend(),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def picture_name(result: Result) -> str:
    """A file name for a run's picture."""
    words = "".join(c if c.isascii() and c.isalnum() else "-" for c in result.case.replace("±", ""))
    case = "-".join(filter(None, words.lower().split("-")))
    return "-".join(filter(None, ("row", f"{result.row.number:02}", case, result.language))) + ".svg"
