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
CIRCLES: dict[str, int] = {}
"""Circles there are still, by the place, and the files in them: they may only become smaller."""


def check() -> list[str]:
    """Prints the numbers; what is wrong with them."""
    wrong: list[str] = []
    ratios = sizes.ratios(ROOT)
    print(
        "lines by hand, over those of core:", ", ".join(f"{name} {r:.2f}" for name, r in ratios.items()), "(aim 0.40)"
    )
    if ratios["all"] > RATIO:
        wrong.append(
            f"the bindings are {ratios['all']:.3f} of core: at most {RATIO}; decide it in core, or generate it"
        )
    for name, n in sizes.long_files(ROOT, LENGTH).items():
        print(f"long: {name} {n}")
        if n > LONG.get(name, LENGTH):
            wrong.append(f"{name} has {n} lines: at most {LONG.get(name, LENGTH)}; split it")
    for place, arrows in {
        "core/src": circles.rust,
        "bindings-python/src": circles.rust,
        "bindings-node/src": circles.rust,
        "gen/src": circles.rust,
        "bindings-python/python/nats_eventbus": circles.python,
        "bindings-node/ts": circles.typescript,
    }.items():
        found = circles.circles(arrows(ROOT / place))
        for group in found:
            print(f"circle in {place}:", ", ".join(f.relative_to(ROOT / place).as_posix() for f in group))
        if sum(map(len, found)) > CIRCLES.get(place, 0):
            wrong.append(f"{place}: {sum(map(len, found))} files in circles, at most {CIRCLES.get(place, 0)}")
    return wrong


if __name__ == "__main__":
    found = check()
    print(*(f"WRONG {text}" for text in found), sep="\n")
    sys.exit(1 if found else 0)
