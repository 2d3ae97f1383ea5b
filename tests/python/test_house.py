"""The checker of the structure is checked: it finds circles and counts lines."""

from __future__ import annotations

from pathlib import Path

from tests.house import circles, sizes


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def names(arrows: circles.Arrows, root: Path) -> tuple[list[list[str]], list[list[str]]]:
    """The circles, and those of late imports alone."""
    firm, late = ([[f.relative_to(root).as_posix() for f in g] for g in found] for found in arrows.circles())
    return firm, late


def test_a_reexport_leads_to_the_file_behind_it(tmp_path: Path) -> None:
    write(
        tmp_path,
        {
            "lib.rs": "mod a; mod b; mod c; pub use b::B;",
            "a/mod.rs": "mod inner; pub(crate) use inner::A; pub(in crate::c) fn f() {}",
            "a/inner.rs": "use crate::{b::{self, B}, c::C}; pub struct A;",
            "b.rs": "use crate::a::A; pub struct B;",
            "c.rs": "pub struct C;\n#[cfg(test)]\nmod tests { use crate::a::A; }\nfn g() { crate::a::f() }",
        },
    )
    assert names(circles.rust(tmp_path), tmp_path) == ([["a/inner.rs", "b.rs"]], [])


def test_a_tree_without_a_circle(tmp_path: Path) -> None:
    """Through a `mod.rs` to a file of it is no import of the `mod.rs`; comments and strings count for nothing."""
    write(
        tmp_path,
        {
            "lib.rs": "mod a; pub use a::{A, B};",
            "a/mod.rs": "mod one; mod two; pub use one::A; pub use two::B as Bee; // crate::a::one::A",
            "a/one.rs": 'use super::Bee; pub struct A; const N: &str = "crate::A";',
            "a/two.rs": "pub struct B; mod field { use super::B; }",
        },
    )
    assert names(circles.rust(tmp_path), tmp_path) == ([], [])


def test_a_module_that_uses_what_it_hands_on(tmp_path: Path) -> None:
    """A `mod.rs` depends on its children where its own code names them, by a re-export or by a path."""
    write(
        tmp_path,
        {
            "lib.rs": "mod a; mod b;",
            "a/mod.rs": "mod inner; pub use inner::A; pub struct List(A);",
            "a/inner.rs": "pub struct A { of: super::List }",
            "b/mod.rs": "mod inner; pub fn f() { inner::g() }",
            "b/inner.rs": "pub fn g() { super::f() }",
        },
    )
    assert names(circles.rust(tmp_path), tmp_path)[0] == [["a/inner.rs", "a/mod.rs"], ["b/inner.rs", "b/mod.rs"]]


def test_circles_of_python(tmp_path: Path) -> None:
    """Imports for types alone, and those within functions, are late."""
    write(
        tmp_path,
        {
            "a.py": "from .b import x\n",
            "b.py": "def f():\n    from .a import y\n",
            "c.py": "from . import d\n",
            "d.py": "try:\n    from .c import z\nexcept ImportError: ...\n",
            "e.py": "from .f import x\n",
            "f.py": "from typing import TYPE_CHECKING\nif TYPE_CHECKING:\n    from .e import y\n",
        },
    )
    firm, late = names(circles.python(tmp_path), tmp_path)
    assert firm == [["c.py", "d.py"]]
    assert late == [["a.py", "b.py"], ["e.py", "f.py"]]


def test_circles_of_typescript(tmp_path: Path) -> None:
    """Imports of types alone are late."""
    write(
        tmp_path,
        {
            "a.ts": 'import { b } from "./b";\n',
            "b.ts": 'import type { A } from "./a";\n',
            "c.ts": 'import {\n  type D,\n  d,\n} from "./d";\n',
            "d.ts": 'export * from "./c";\n',
        },
    )
    assert names(circles.typescript(tmp_path), tmp_path) == ([["c.ts", "d.ts"]], [["a.ts", "b.ts"]])


def test_lines_by_hand(tmp_path: Path) -> None:
    """Generated files count for nothing, wherever the checkout lies."""
    root = tmp_path / "target"
    write(
        root,
        {
            "core/src/a.rs": "\n" * 100,
            "bindings-python/src/a.rs": "\n" * 10,
            "bindings-python/python/nats_eventbus/_generated/x.py": "\n" * 500,
            "bindings-node/ts/a.ts": "\n" * 30,
            "bindings-node/ts/generated/a.ts": "\n" * 500,
            "bindings-node/ts/addon.d.ts": "\n" * 500,
        },
    )
    assert sizes.sums(root) == {"core": 100, "Python": 10, "Node": 30, "all": 40}
    assert sizes.ratios(root) == {"Python": 0.1, "Node": 0.3, "all": 0.4}
    assert sizes.long_files(root, 50) == {"core/src/a.rs": 100}
