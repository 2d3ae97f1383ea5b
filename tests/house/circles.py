"""Circles of files: files that import one another, directly or through others."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path

Graph = dict[Path, set[Path]]
Name = tuple[str, ...]


@dataclass
class Arrows:
    """Which file imports which; `late` holds imports for types alone, and those that run inside a function."""

    firm: Graph = field(default_factory=dict[Path, set[Path]])
    late: Graph = field(default_factory=dict[Path, set[Path]])

    def add(self, of: Path, to: Path | None, late: bool = False) -> None:
        if to and to != of:
            (self.late if late else self.firm).setdefault(of, set()).add(to)

    def circles(self) -> tuple[list[list[Path]], list[list[Path]]]:
        """The circles, and those that exist only because of late imports."""
        firm = groups(self.firm)
        both = {f: self.firm.get(f, set()) | self.late.get(f, set()) for f in {*self.firm, *self.late}}
        return firm, [g for g in groups(both) if g not in firm]


def groups(graph: Graph) -> list[list[Path]]:
    """Groups of files of which each reaches every other (Tarjan's strongly connected components)."""
    index: dict[Path, int] = {}
    low: dict[Path, int] = {}
    stack: list[Path] = []
    out: list[list[Path]] = []

    def visit(f: Path) -> None:
        index[f] = low[f] = len(index)
        stack.append(f)
        for to in sorted(graph.get(f, ())):
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

    for f in sorted(graph):
        if f not in index:
            visit(f)
    return out


# Rust

STRINGS = r'r(#*)".*?"\1|"(?:\\.|[^"\\])*"|\'(?:\\[^\']+|[^\'\\])\''
COMMENTS = r"//[^\n]*|/\*.*?\*/"
USE = re.compile(r"(\bpub(?:\([^)]*\))?\s+)?\buse\s+([^;]+);")
PATH = re.compile(r"(?<![\w:])(\w+(?:::\w+)+)")


@dataclass
class Module:
    """A Rust file: the names its `use` lines bind, the modules all of whose names it takes, and the rest of it."""

    file: Path
    bound: dict[str, tuple[Name, bool]]
    globs: list[tuple[Name, bool]]
    body: str


class Crate:
    """The files of a crate by the path of their module."""

    def __init__(self, src: Path) -> None:
        files = {module_of(src, f): f for f in sorted(src.rglob("*.rs")) if f.stem != "tests"}
        self.names = set(files)
        self.modules = {name: self.read(name, f) for name, f in files.items()}

    def read(self, name: Name, f: Path) -> Module:
        text = flat(re.sub(f"{COMMENTS}|{STRINGS}", " ", f.read_text(), flags=re.S))
        module = Module(f, {}, [], re.sub(r"\bpub\([^)]*\)", "pub", USE.sub(" ", text)))
        for public, tree in USE.findall(text):
            for path, alias in leaves(tree.strip()):
                whole = self.absolute(path, name)
                if path[-1] == "*":
                    module.globs.append((whole[:-1], bool(public)))
                else:
                    module.bound[alias] = (whole, bool(public))
        return module

    def absolute(self, path: Name, at: Name) -> Name:
        """The path from the root of the crate; one that begins with another crate stays as it is."""
        path = tuple(p for i, p in enumerate(path) if p != "self" or i == 0)
        if path[0] == "crate":
            return path
        if path[0] == "self" or (*at, path[0]) in self.names:
            return at + path[path[0] == "self" :]
        while path and path[0] == "super":
            at, path = at[:-1], path[1:]
            if not path or path[0] != "super":
                return at + path
        return path

    def find(self, path: Name, seen: frozenset[Name] = frozenset()) -> tuple[Path | None, bool]:
        """The file that defines what a path names, and whether the path names the whole file."""
        if path[0] != "crate" or path in seen:
            return None, False
        at = max(n for n in range(1, len(path) + 1) if path[:n] in self.names)
        module, rest = self.modules[path[:at]], path[at:]
        if not rest:
            return module.file, True
        if rest[0] in module.bound:
            return self.find(module.bound[rest[0]][0] + rest[1:], seen | {path})
        if not defines(module, rest[0]):
            for of, _ in module.globs:
                if of in self.names and (behind := self.find(of + rest, seen | {path})[0]):
                    return behind, False
        return module.file, False


def defines(module: Module, name: str) -> bool:
    return bool(re.search(rf"\b(?:fn|struct|enum|trait|type|const|static|macro_rules!)\s+{name}\b", module.body))


def rust(src: Path) -> Arrows:
    """By `use` and by paths in the code; a re-export leads to the file behind it. `mod x;` is no import."""
    crate, arrows = Crate(src), Arrows()
    for name, m in crate.modules.items():
        for alias, (path, public) in m.bound.items():
            to, whole = crate.find(path)
            # The paths in the code that go through a module's name are the imports. A name that is only handed on
            # from a file below is none.
            handed_on = public and path[: len(name)] == name and not re.search(rf"\b{alias}\b", m.body)
            if not whole and not handed_on:
                arrows.add(m.file, to)
        for of, public in m.globs:
            if not (public and of[: len(name)] == name):
                arrows.add(m.file, crate.find(of)[0])
        for found in PATH.findall(m.body):
            path = tuple(found.split("::"))
            bound = m.bound.get(path[0])
            to, whole = crate.find(bound[0] + path[1:] if bound else crate.absolute(path, name))
            if not whole:
                arrows.add(m.file, to)
    return arrows


def module_of(src: Path, f: Path) -> Name:
    return ("crate", *(p for p in f.relative_to(src).with_suffix("").parts if p not in ("mod", "lib", "main")))


def flat(text: str) -> str:
    """The text without blocks of `#[cfg(test)] mod name`; in other blocks `mod name`, `super` is this file."""
    done = 0
    while found := re.compile(r"(#\[cfg\(test\)\]\s*)?\bmod\s+\w+\s*\{").search(text, done):
        end, depth = found.end(), 1
        while depth and end < len(text):
            depth += (text[end] == "{") - (text[end] == "}")
            end += 1
        inner = "" if found[1] else re.sub(r"\bsuper::", "self::", text[found.end() : end])
        text, done = text[: found.start()] + inner + text[end:], found.start()
    return text


def leaves(tree: str) -> Iterator[tuple[Name, str]]:
    """Every path of a `use`, and the name it binds."""
    if "{" not in tree:
        path, _, alias = tree.partition(" as ")
        parts = tuple(p.strip() for p in path.split("::") if p.strip())
        name = [p for p in parts if p != "self"][-1:] or ["self"]
        yield parts, alias.strip() or name[0]
        return
    head, rest = tree.split("{", 1)
    depth, part = 0, ""
    for c in rest.rsplit("}", 1)[0] + ",":
        depth += (c == "{") - (c == "}")
        if c == "," and depth == 0:
            if part.strip():
                yield from leaves(head + part.strip())
            part = ""
        else:
            part += c


# Python and TypeScript


def python(package: Path) -> Arrows:
    """By imports; those for the type checker and those inside functions are late."""
    arrows = Arrows()
    for f in sorted(package.rglob("*.py")):
        for base, names, late in imports(ast.parse(f.read_text()), f, package):
            for name in names:
                if (base / f"{name}.pyi").exists():
                    continue  # The native module.
                options = (
                    base / f"{name}.py",
                    base / name / "__init__.py",
                    base.with_suffix(".py"),
                    base / "__init__.py",
                )
                arrows.add(f, next((o for o in options if o.exists()), None), late)
    return arrows


def imports(node: ast.AST, f: Path, package: Path, late: bool = False) -> Iterator[tuple[Path, list[str], bool]]:
    """The folder or file each import looks in, the names it takes, and whether it is late."""
    for child in ast.iter_child_nodes(node):
        if isinstance(child, ast.ImportFrom):
            root = f.parents[child.level - 1] if child.level else package.parent
            yield root / (child.module or "").replace(".", "/"), [a.name for a in child.names], late
        elif isinstance(child, ast.Import):
            for alias in child.names:
                at = package.parent / alias.name.replace(".", "/")
                yield at.parent, [at.name], late
        elif isinstance(child, ast.If) and "TYPE_CHECKING" in ast.unparse(child.test):
            yield from imports(ast.Module(child.body, []), f, package, True)
            yield from imports(ast.Module(child.orelse, []), f, package, late)
        else:
            inside = isinstance(child, (ast.FunctionDef, ast.AsyncFunctionDef, ast.Lambda))
            yield from imports(child, f, package, late or inside)


def typescript(src: Path) -> Arrows:
    """By imports; those of types alone, and those that a function asks for, are late."""
    arrows = Arrows()
    for f in sorted(src.rglob("*.ts")):
        text = f.read_text()
        for names, path in re.findall(r"^(?:import|export)\b([\w\s{},*$]*?)(?:\bfrom\s*)?\"(\.[^\"]+)\"", text, re.M):
            taken = [n.strip() for n in names.strip("{} \n").split(",") if n.strip()]
            types = names.split()[:1] == ["type"] or (bool(taken) and all(n.startswith("type ") for n in taken))
            arrows.add(f, source(f, path), types)
        for path in re.findall(r"\bimport\(\s*\"(\.[^\"]+)\"", text):
            arrows.add(f, source(f, path), True)
    return arrows


def source(f: Path, path: str) -> Path | None:
    at = (f.parent / re.sub(r"\.[jt]s$", "", path)).resolve()
    return next((o for o in (at.with_name(at.name + ".ts"), at / "index.ts") if o.exists()), None)
