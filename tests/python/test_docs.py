"""docs/guarantees.md names a test beside each line of the contract, other pages beside each claim: they exist."""

from __future__ import annotations

import ast
import itertools
import json
import re
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import pytest

ROOT = Path(__file__).parents[2]
PAGE = ROOT / "docs" / "guarantees.md"
OPERATORS = [ROOT / "docs" / name for name in ("security.md", "connection.md")]
"""Pages whose tables have a column "shown by", and names of tests in their text."""
SECTIONS = [
    "Publishing",
    "Consuming",
    "Request and reply",
    "Streams",
    "Topics from untrusted parts",
    "Errors",
    "Connection",
]
HEAD = ["guarantee", "Rust", "Python", "Node", "under faults"]
NONE = "–"


@dataclass(frozen=True)
class Known:
    """The tests there are. None that is skipped or expected to fail is one."""

    rust: frozenset[str]
    python: frozenset[str]
    node: frozenset[str]
    rows: frozenset[int] | None
    """Of the fault rig; None where there is no such folder."""


RUST_TEST = re.compile(
    r"((?:^[ \t]*#\[[^\n]*\]\n(?:[ \t]*///[^\n]*\n)*)+)[ \t]*(?:pub )?(?:async )?fn (\w+)", re.MULTILINE
)


def rust_tests() -> Iterator[str]:
    """``file::name`` of tests/rust, and the core's own, by their module as cargo names them."""
    places = [(f, f.stem) for f in (ROOT / "tests" / "rust").glob("*.rs")]
    src = ROOT / "core" / "src"
    for f in src.rglob("*.rs"):
        parts = [p for p in f.relative_to(src).with_suffix("").parts if p != "mod"]
        parts[-1] = parts[-1].removesuffix("_tests")
        places.append((f, "::".join([*parts, *([] if parts[-1] == "tests" else ["tests"])])))
    for file, place in places:
        for attributes, name in RUST_TEST.findall(file.read_text()):
            if re.search(r"#\[(tokio::)?test\b", attributes) and "#[ignore" not in attributes:
                yield f"{place}::{name}"


def python_tests() -> Iterator[str]:
    """``file::name`` of all that pytest collects."""
    for file in (ROOT / "tests").glob("*/test_*.py"):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef | ast.AsyncFunctionDef) and node.name.startswith("test_"):
                marks = " ".join(map(ast.unparse, node.decorator_list))
                if not re.search(r"mark\.(skip|xfail)\b", marks):
                    yield f"{file.stem}::{node.name}"


NODE_TEST = re.compile(r"\btest\(\s*(\"(?:[^\"\\]|\\.)*\"|'(?:[^'\\]|\\.)*'|`[^`$]*`)\s*,\s*(?!\{\s*(?:skip|todo))")


def node_tests() -> Iterator[str]:
    """``file: title``."""
    for file in (ROOT / "tests" / "node").glob("*.test.mjs"):
        stem = file.name.removesuffix(".test.mjs")
        for title in NODE_TEST.findall(file.read_text()):
            plain = re.sub(r"\\(.)", r"\1", title[1:-1])
            yield f"{stem}: {plain}"
    for case in json.loads((ROOT / "tests" / "shared" / "bad_input.json").read_text())["cases"]:
        yield f"bad_input: {case['name']}"


def fault_rows() -> frozenset[int] | None:
    """The numbers of the rows there are."""
    rows = ROOT / "tests" / "faults" / "rows"
    return frozenset(int(f.name[1:3]) for f in rows.glob("r[0-9][0-9]_*.py")) if rows.is_dir() else None


def known() -> Known:
    """Everything, from the sources."""
    rust, python, node = frozenset(rust_tests()), frozenset(python_tests()), frozenset(node_tests())
    return Known(rust, python, node, fault_rows())


def tables(page: str) -> Iterator[tuple[str, list[str]]]:
    """Each row of each table, with its section."""
    section = ""
    for line in page.splitlines():
        if line.startswith("## "):
            section = line[3:].strip()
        elif line.startswith("|"):
            # A bar inside a name is not the end of a cell.
            bars = re.sub(r"`[^`]*`", lambda m: "x" * len(m[0]), line)
            ends = [m.start() for m in re.finditer(r"\|", bars)]
            yield section, [line[a + 1 : b].strip() for a, b in itertools.pairwise(ends)]


def wrong(cell: str, language: str, there: frozenset[str], footnotes: set[str]) -> Iterator[str]:
    """What is wrong with a language's cell."""
    names = re.findall(r"`([^`]+)`", cell)
    rest = re.sub(r"`[^`]+`|<br>", " ", cell).strip()
    if rest.startswith(NONE):
        notes = re.findall(r"\[\^([\w-]+)\]", rest)
        if not notes or names:
            yield f"{language}: {cell!r} is to be tests, or {NONE} with a footnote that says why"
        yield from (f"{language}: footnote {n!r} is not there" for n in notes if n not in footnotes)
    elif not names:
        yield f"{language}: empty"
    for name in names:
        begun = name.removesuffix("…")
        found = [t for t in there if t == name or (language == "Node" and t.startswith(begun))]
        if not found:
            yield f"{language}: there is no test {name!r}"
        elif name not in found and len(found) > 1:
            yield f"{language}: {name!r} could be any of {sorted(found)}"


def complaints(page: str, tests: Known) -> list[str]:
    """Everything that is wrong with a page."""
    out: list[str] = []
    footnotes = set(re.findall(r"^\[\^([\w-]+)\]: +\S", page, re.MULTILINE))
    seen = dict.fromkeys(SECTIONS, 0)
    for section, cells in tables(page):
        if section not in seen or cells == HEAD or set("".join(cells)) <= set(":-"):
            continue
        seen[section] += 1
        where = f"{section}: {(cells or ['?'])[0]}"
        if len(cells) != len(HEAD) or not cells[0]:
            out.append(f"{where}: {len(cells)} cells, and not {len(HEAD)}")
            continue
        for language, there, cell in zip(HEAD[1:4], (tests.rust, tests.python, tests.node), cells[1:4], strict=True):
            out += [f"{where}: {w}" for w in wrong(cell, language, there, footnotes)]
        rows = [int(n) for n in re.findall(r"\brow (\d+)", cells[4])]
        if not rows and cells[4] != NONE:
            out.append(f"{where}: under faults: rows, or {NONE}")
        if tests.rows is not None:
            out += [f"{where}: there is no row {n} in tests/faults/rows" for n in rows if n not in tests.rows]
    out += [f"{section}: no table" for section, count in seen.items() if not count]
    used = set(re.findall(r"\[\^([\w-]+)\](?!:)", page))
    out += [f"footnote {n!r} is not used" for n in sorted(footnotes - used)]
    if "## Not proved yet" not in page:
        out.append('no section "Not proved yet"')
    return out


def test_every_guarantee_has_its_tests() -> None:
    """docs/guarantees.md: each test it names exists and runs, in every language, and no cell is empty."""
    assert complaints(PAGE.read_text(), known()) == []


NAME = re.compile(r"[a-z_]\w*(::\w+)+|[a-z_]+: \S.*")


def unshown(page: str, tests: Known) -> list[str]:
    """What is wrong with a page for operators: a claim of its tables without a test, a test that does not exist."""
    out: list[str] = []
    heads: dict[str, list[str]] = {}
    names = frozenset(tests.rust | tests.python | tests.node)
    text = re.sub(r"^```.*?^```", "", page, flags=re.MULTILINE | re.DOTALL)
    # A name is a Node test's when it begins as one: other things have colons, too.
    files = {name.split(":")[0] for name in tests.node}
    for name in re.findall(r"`([^`]+)`", text):
        if NAME.fullmatch(name) and ("::" in name or name.split(":")[0] in files):
            out += wrong(f"`{name}`", "Node", names, set())
    for section, cells in tables(text):
        if set("".join(cells)) <= set(":-"):
            continue
        if cells[-1] == "shown by" or section not in heads or len(cells) != len(heads[section]):
            heads[section] = cells
        elif heads[section][-1] == "shown by":
            rows = [int(n) for n in re.findall(r"\brow (\d+)", cells[-1])]
            if not rows and not any(NAME.fullmatch(n) for n in re.findall(r"`([^`]+)`", cells[-1])):
                out.append(f"{section}: {cells[0]}: shown by nothing")
            out += [f"{section}: {cells[0]}: no row {n}" for n in rows if tests.rows and n not in tests.rows]
    if "shown by" not in {head[-1] for head in heads.values()}:
        out.append('no table with a column "shown by"')
    return out


@pytest.mark.parametrize("page", OPERATORS, ids=lambda page: page.name)
def test_every_claim_for_operators_is_shown(page: Path) -> None:
    """docs/security.md and docs/connection.md: each row of a table "shown by" has tests, and each test named exists."""
    assert unshown(page.read_text(), known()) == []


def test_a_wrong_page_for_operators_is_found_wrong() -> None:
    """The check of the checker."""
    tests = Known(frozenset({"a::b"}), frozenset({"test_a::test_b"}), frozenset({"a: b and c", "a: d"}), frozenset({1}))
    row = "| c | | `a::b` `test_a::test_b` `a: b…` row 1 |"
    good = f"| claim | x | shown by |\n|---|---|---|\n{row}\n\nSee `a::b`, `x: y`.\n"
    assert unshown(good, tests) == []
    for change, told in (
        (("`a::b` `", "`a::c` `"), "there is no test 'a::c'"),
        (("`a: b…`", "`a: e…`"), "there is no test 'a: e…'"),
        (("`a: b…`", "`a: …`"), "'a: …' could be any of"),
        (("See `a::b`", "See `a::z`"), "there is no test 'a::z'"),
        (("row 1", "row 2"), ": c: no row 2"),
        (("`a::b` `test_a::test_b` `a: b…` row 1", ""), ": c: shown by nothing"),
        (("shown by", "seen"), "no table"),
    ):
        found = unshown(good.replace(*change), tests)
        assert len(found) == 1, found
        assert told in found[0]


def test_order_by_key_is_documented_as_it_is() -> None:
    """Consuming: two processes of one group can still hold one message of a key each, and what is lost on its way comes
    late: the docs say so."""
    late = "perhaps behind later ones of its key"
    for file, words in (
        ("core/src/config/consumer.rs", "processes of a group can still hold one"),
        ("bindings-python/python/nats_eventbus/_generated/openings.py", "processes of a group can still hold one"),
        ("bindings-node/ts/generated/settings.ts", "processes of a group can still hold one"),
    ):
        text = re.sub(r"[\s/*]+", " ", (ROOT / file).read_text())
        assert words in text, file
        assert late in text, file


def test_the_sources_are_read() -> None:
    """The check of the checker: it finds tests of each kind by their names."""
    tests = known()
    assert "bus::an_id_is_stored_once_and_the_duplicate_is_reported" in tests.rust
    assert "publish::pipeline::answer::tests::answers" in tests.rust
    assert "config::tests::any_backoff" in tests.rust
    assert "test_docs::test_the_sources_are_read" in tests.python
    assert "test_interop::test_one_way" in tests.python
    assert 'order: order="key" keeps each key in order through retries, and other keys go on' in tests.node
    assert "bad_input: wrong password" in tests.node
    assert tests.rows is None or 1 in tests.rows
    assert "support::until" not in tests.rust


def page(row: str, more: str = "") -> str:
    """A page that is right but for one row."""
    line = "|".join(["", *HEAD, ""]) + "\n|---|---|---|---|---|\n"
    fine = "| fine | `a::b` | `test_a::test_b` | `a: b` | row 1 |\n"
    parts = [f"## {s}\n\n{line}{row if s == 'Errors' else fine}" for s in SECTIONS]
    return "\n".join([*parts, "## Not proved yet", more])


def test_a_wrong_page_is_found_wrong() -> None:
    """The check of the checker: each way to be wrong is told, naming the cell."""
    rust = frozenset({"a::b"})
    tests = Known(rust, frozenset({"test_a::test_b"}), frozenset({"a: b", "a: b and c", "a: d"}), frozenset({1}))
    right = "| x | `a::b` | `test_a::test_b` | `a: b` | row 1 |\n"
    assert complaints(page(right), tests) == []
    assert complaints(page(right.replace("row 1", NONE)), tests) == []
    note = "[^why]: because\n"
    assert complaints(page(right.replace("`a::b`", f"{NONE}[^why]"), note), tests) == []
    for change, told in (
        (("`a::b`", "`a::c`"), "Errors: x: Rust: there is no test 'a::c'"),
        (("`test_a::test_b`", "`test_a::test_c`"), "Errors: x: Python: there is no test 'test_a::test_c'"),
        (("`a::b`", "`a::`"), "Errors: x: Rust: there is no test 'a::'"),
        (("`a: b`", "`a: e…`"), "Errors: x: Node: there is no test 'a: e…'"),
        (("`a: b`", "`a: …`"), "Errors: x: Node: 'a: …' could be any of ['a: b', 'a: b and c', 'a: d']"),
        (("`a: b`", ""), "Errors: x: Node: empty"),
        (("`a: b`", "some words"), "Errors: x: Node: empty"),
        (("`a: b`", NONE), "Errors: x: Node: '–' is to be tests, or – with a footnote that says why"),
        (("`a: b`", f"{NONE}[^no]"), "Errors: x: Node: footnote 'no' is not there"),
        (("row 1", "row 2"), "Errors: x: there is no row 2 in tests/faults/rows"),
        (("row 1", ""), "Errors: x: under faults: rows, or –"),
        (("| row 1 ", ""), "Errors: x: 4 cells, and not 5"),
        ((right, ""), "Errors: no table"),
    ):
        assert complaints(page(right.replace(*change)), tests) == [told]
    assert complaints(page(right, note), tests) == ["footnote 'why' is not used"]
    assert complaints(page(right).replace("## Not", "## "), tests) == ['no section "Not proved yet"']
