"""How many lines are written by hand, and where."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

SOURCES = {".rs", ".py", ".pyi", ".ts", ".mjs", ".js", ".go", ".sh"}
BINDINGS = {
    "Python": ["bindings-python/src", "bindings-python/python"],
    "Node": ["bindings-node/src", "bindings-node/ts"],
}
GENERATED = ("_generated/", "bindings-node/ts/generated/", "bindings-node/ts/addon.d.ts")
SKIPPED = ("node_modules/", "target/", "dist/", "native/", "__pycache__/")
PLACES = ["core", "bindings-python", "bindings-node", "gen", "tests", "benches", "examples"]


def files(root: Path, places: Iterable[str]) -> list[Path]:
    """Files written by hand, below these places."""
    found = [f for place in places for f in sorted((root / place).rglob("*")) if f.suffix in SOURCES and f.is_file()]
    # Below the root alone: a checkout may lie in a folder of any name.
    return [f for f in found if not any(part in f"/{f.relative_to(root).as_posix()}" for part in skipped())]


def skipped() -> list[str]:
    return [f"/{part}" for part in (*GENERATED, *SKIPPED)]


def lines(root: Path, places: Iterable[str]) -> int:
    return sum(len(f.read_text().splitlines()) for f in files(root, places))


def sums(root: Path) -> dict[str, int]:
    """Lines of core, of each binding, and of both bindings."""
    each = {name: lines(root, places) for name, places in BINDINGS.items()}
    return {"core": lines(root, ["core/src"]), **each, "all": sum(each.values())}


def ratios(root: Path) -> dict[str, float]:
    """Lines of each binding, and of both, over those of core."""
    found = sums(root)
    return {name: n / found["core"] for name, n in found.items() if name != "core"}


def long_files(root: Path, limit: int) -> dict[str, int]:
    """Files of more lines than this."""
    sizes = {f.relative_to(root).as_posix(): len(f.read_text().splitlines()) for f in files(root, PLACES)}
    return {name: n for name, n in sizes.items() if n > limit}
