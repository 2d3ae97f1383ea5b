"""Circles of files: those that import one another, directly or through others."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

Arrows = dict[Path, set[Path]]


def circles(arrows: Arrows) -> list[list[Path]]:
    """Groups of files of which each reaches every other (Tarjan's strongly connected components)."""
    index: dict[Path, int] = {}
    low: dict[Path, int] = {}
    stack: list[Path] = []
    out: list[list[Path]] = []

    def visit(f: Path) -> None:
        index[f] = low[f] = len(index)
        stack.append(f)
        for to in sorted(arrows.get(f, ())):
            if to not in index:
                visit(to)
                low[f] = min(low[f], low[to])
            elif to in stack:
                low[f] = min(low[f], index[to])
        if low[f] == index[f]:
            at = stack.index(f)
            group = stack[at:]
            del stack[at:]
            if len(group) > 1:
                out.append(sorted(group))

    for f in sorted(arrows):
        if f not in index:
            visit(f)
    return out


def rust(src: Path) -> Arrows:
    """By `use` and by paths that begin with `crate`, `super` or `self`; a re-export leads to the file behind it."""
    modules = {_module(src, f): f for f in src.rglob("*.rs") if f.stem != "tests"}
    uses = {module: list(_uses(f, module)) for module, f in modules.items()}
    reexports = {m: {p[-1]: p for p, public in found if public} for m, found in uses.items()}

    def file_of(path: tuple[str, ...], seen: frozenset[tuple[str, ...]] = frozenset()) -> Path | None:
        for n in range(len(path), 0, -1):
            module, rest = path[:n], path[n:]
            if module not in modules:
                continue
            behind = reexports[module].get(rest[0]) if rest else None
            if behind and behind not in seen:
                return file_of(behind + rest[1:], seen | {behind})
            return modules[module]
        return None

    arrows: Arrows = {f: set() for f in modules.values()}
    for module, found in uses.items():
        for path, public in found:
            to = file_of(path)
            # What a module hands on of its own children is no dependence on them.
            if to and to != modules[module] and not (public and path[: len(module)] == module):
                arrows[modules[module]].add(to)
    return arrows


def _module(src: Path, f: Path) -> tuple[str, ...]:
    parts = f.relative_to(src).with_suffix("").parts
    return ("crate", *(p for p in parts if p not in ("mod", "lib", "main")))


def _uses(f: Path, module: tuple[str, ...]) -> Iterator[tuple[tuple[str, ...], bool]]:
    text = re.sub(r"//[^\n]*", "", f.read_text())
    text = re.split(r"#\[cfg\(test\)\]\s*mod tests", text)[0]
    for public, tree in re.findall(r"(pub(?:\([^)]*\))?\s+)?use\s+([^;]+);", text):
        for path in _leaves(tree.strip()):
            yield _absolute(path, module), bool(public)
    for path in re.findall(r"(?<!in )\b((?:crate|super)(?:::\w+)+)", re.sub(r"use\s+[^;]+;", "", text)):
        yield _absolute(tuple(path.split("::")), module), False


def _leaves(tree: str) -> Iterator[tuple[str, ...]]:
    """Every path of a `use`."""
    if "{" not in tree:
        yield tuple(p.strip() for p in tree.split(" as ")[0].split("::"))
        return
    head, rest = tree.split("{", 1)
    prefix = tuple(p.strip() for p in head.split("::") if p.strip())
    depth, part = 0, ""
    for c in rest.rsplit("}", 1)[0] + ",":
        depth += (c == "{") - (c == "}")
        if c == "," and depth == 0:
            if part.strip():
                yield from (prefix + leaf for leaf in _leaves(part.strip()))
            part = ""
        else:
            part += c


def _absolute(path: tuple[str, ...], module: tuple[str, ...]) -> tuple[str, ...]:
    at = module
    if path[0] in ("self", "super"):
        while path and path[0] in ("self", "super"):
            at, path = (at if path[0] == "self" else at[:-1]), path[1:]
        return at + tuple(p for p in path if p != "self")
    if path[0] == "crate":
        return tuple(p for p in path if p != "self")
    # A child of this module, or another crate, which is no file of ours.
    return module + path


def python(package: Path) -> Arrows:
    """By imports that run when a module is loaded."""
    files = {f.relative_to(package).with_suffix("").as_posix(): f for f in package.rglob("*.py")}
    arrows: Arrows = {f: set() for f in files.values()}
    for f in files.values():
        for node in ast.parse(f.read_text()).body:
            if not isinstance(node, ast.ImportFrom) or not node.level:
                continue
            base = f.parent
            for _ in range(node.level - 1):
                base = base.parent
            base = base / (node.module or "").replace(".", "/")
            names = [base / a.name for a in node.names] if not node.module else [base]
            for name in names:
                to = files.get(name.relative_to(package).as_posix())
                if to and to != f:
                    arrows[f].add(to)
    return arrows


def typescript(src: Path) -> Arrows:
    """By imports of values; types are gone when it runs."""
    arrows: Arrows = {f: set() for f in src.rglob("*.ts") if not f.name.endswith(".d.ts")}
    for f, to in arrows.items():
        for names, path in re.findall(r"^(?:import|export) ([^;]*?) ?from \"(\.[^\"]+)\"", f.read_text(), re.M | re.S):
            values = [n for n in names.strip("{} \n").split(",") if n.strip() and not n.strip().startswith("type ")]
            target = (f.parent / path).resolve().with_suffix(".ts")
            if values and target.exists() and target != f:
                to.add(target)
    return arrows
