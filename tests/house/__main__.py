"""Prints what the structure is like, and fails where it is worse than it was."""

from __future__ import annotations

import sys
from pathlib import Path

from . import circles, sizes

ROOT = Path(__file__).parents[2]

RATIO = 0.54
"""Lines of the bindings over those of core, at most. Only ever lowered; the aim is 0.40."""
LENGTH = 400
"""Lines of a file, at most."""
LONG: dict[str, int] = {}
"""Files that are longer, and how long: they may only become shorter."""
CIRCLES: dict[str, list[set[str]]] = {
    "gen/src": [
        {
            "main.rs",
            "python/mod.rs",
            "python/nouns.rs",
            "python/openings.rs",
            "reference.rs",
            "typescript/mod.rs",
            "typescript/nouns.rs",
        }
    ],
}
"""Circles there are still: they may only become smaller."""
READERS = {
    "core/src": circles.rust,
    "bindings-python/src": circles.rust,
    "bindings-node/src": circles.rust,
    "gen/src": circles.rust,
    "bindings-python/python/nats_eventbus": circles.python,
    "bindings-node/ts": circles.typescript,
}


def ratio() -> list[str]:
    sums, ratios = sizes.sums(ROOT), sizes.ratios(ROOT)
    print(f"lines by hand: core {sums['core']}, bindings {sums['all']}")
    for name, r in ratios.items():
        print(f"  {name}: {sums[name]} / {sums['core']} = {r:.3f}")
    print(f"  aim 0.40, limit {RATIO}")
    if ratios["all"] > RATIO:
        return [f"the bindings are {ratios['all']:.3f} of core: at most {RATIO}; decide it in core, or generate it"]
    return []


def lengths() -> list[str]:
    wrong: list[str] = []
    found = sizes.long_files(ROOT, LENGTH)
    for name, n in found.items():
        print(f"long: {name} {n}")
        if n > LONG.get(name, LENGTH):
            wrong.append(f"{name} has {n} lines: at most {LONG.get(name, LENGTH)}; split it")
    for name in LONG.keys() - found.keys():
        print(f"note: {name} is short now: take it out of LONG")
    return wrong


def rings(place: str) -> list[str]:
    wrong: list[str] = []
    firm, late = READERS[place](ROOT / place).circles()
    for group in late:
        print(f"note: a circle in {place}, of types or late imports alone:", ", ".join(within(place, group)))
    for group in firm:
        names = within(place, group)
        print(f"circle in {place}:", ", ".join(names))
        if not any(set(names) <= known for known in CIRCLES.get(place, [])):
            wrong.append(f"{place}: a circle of {', '.join(names)}; move what they share to a file of its own")
    if len(firm) < len(CIRCLES.get(place, [])):
        print(f"note: fewer circles in {place} than known: take them out of CIRCLES")
    return wrong


def within(place: str, group: list[Path]) -> list[str]:
    return [f.relative_to(ROOT / place).as_posix() for f in group]


def check() -> list[str]:
    """Prints the numbers; what is wrong with them."""
    return ratio() + lengths() + [text for place in READERS for text in rings(place)]


if __name__ == "__main__":
    found = check()
    for text in found:
        print(f"WRONG {text}")
    sys.exit(1 if found else 0)
