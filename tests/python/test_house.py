"""The checker of the structure is checked: it finds circles and counts lines."""

from __future__ import annotations

from pathlib import Path

from tests.house import circles, sizes


def write(root: Path, files: dict[str, str]) -> None:
    for name, text in files.items():
        (root / name).parent.mkdir(parents=True, exist_ok=True)
        (root / name).write_text(text)


def names(groups: list[list[Path]], root: Path) -> list[list[str]]:
    return [[f.relative_to(root).as_posix() for f in group] for group in groups]


def test_circles_of_rust(tmp_path: Path) -> None:
    """A re-export leads to the file behind it, tests and visibilities count for nothing."""
    write(
        tmp_path,
        {
            "lib.rs": "mod a; mod b; mod c; pub use b::B;",
            "a/mod.rs": "mod inner; pub(crate) use inner::A; pub(in crate::c) fn f() {}",
            "a/inner.rs": "use crate::{b::{self, B}, c::C}; pub struct A;",
            "b.rs": "use crate::a::A; pub struct B;",
            "c.rs": "pub struct C;\n#[cfg(test)]\nmod tests { use crate::a::A; }",
        },
    )
    assert names(circles.circles(circles.rust(tmp_path)), tmp_path) == [["a/inner.rs", "b.rs"]]


def test_circles_of_python_and_typescript(tmp_path: Path) -> None:
    """Imports for types alone, and those within functions, make no circle."""
    write(
        tmp_path,
        {
            "py/a.py": "from .b import x\n",
            "py/b.py": "def f():\n    from .a import y\n",
            "py/c.py": "from . import d\n",
            "py/d.py": "from .c import z\n",
            "ts/a.ts": 'import { b } from "./b";\n',
            "ts/b.ts": 'import type { A } from "./a";\nimport { type B, c } from "./c";\n',
            "ts/c.ts": 'import { b } from "./b";\n',
        },
    )
    assert names(circles.circles(circles.python(tmp_path / "py")), tmp_path) == [["py/c.py", "py/d.py"]]
    assert names(circles.circles(circles.typescript(tmp_path / "ts")), tmp_path) == [["ts/b.ts", "ts/c.ts"]]


def test_lines_by_hand(tmp_path: Path) -> None:
    """Generated files count for nothing."""
    write(
        tmp_path,
        {
            "core/src/a.rs": "\n" * 100,
            "bindings-python/src/a.rs": "\n" * 10,
            "bindings-python/python/p/_generated/x.py": "\n" * 500,
            "bindings-node/ts/a.ts": "\n" * 30,
            "bindings-node/ts/generated/a.ts": "\n" * 500,
        },
    )
    assert sizes.ratios(tmp_path) == {"Python": 0.1, "Node": 0.3, "all": 0.4}
    assert sizes.long_files(tmp_path, 50) == {"core/src/a.rs": 100}
