"""How many lines are written by hand, and where."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

SOURCES = {".rs", ".py", ".pyi", ".ts", ".mjs"}
BINDINGS = {
    "Python": ["bindings-python/src", "bindings-python/python"],
    "Node": ["bindings-node/src", "bindings-node/ts"],
}
GENERATED = ("_generated/", "bindings-node/ts/generated/", "addon.d.ts")
PLACES = ["core", "bindings-python", "bindings-node", "gen", "tests", "benches", "examples"]


def files(root: Path, places: Iterable[str]) -> list[Path]:
    """Files written by hand, below these places."""
    found = [f for place in places for f in sorted((root / place).rglob("*")) if f.suffix in SOURCES and f.is_file()]
    skipped = ("node_modules/", "/target/", "/dist/", "__pycache__/")
    return [f for f in found if not any(part in f.as_posix() for part in (*GENERATED, *skipped))]


def lines(root: Path, places: Iterable[str]) -> int:
    return sum(len(f.read_text().splitlines()) for f in files(root, places))


def ratios(root: Path) -> dict[str, float]:
    """Lines of each binding over those of core, and of all of them."""
    core = lines(root, ["core/src"])
    each = {name: lines(root, places) for name, places in BINDINGS.items()}
    return {**{name: n / core for name, n in each.items()}, "all": sum(each.values()) / core}


def long_files(root: Path, limit: int) -> dict[str, int]:
    """Files of more lines than this."""
    sizes = {f.relative_to(root).as_posix(): len(f.read_text().splitlines()) for f in files(root, PLACES)}
    return {name: n for name, n in sizes.items() if n > limit}
