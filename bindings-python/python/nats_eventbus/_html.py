"""Small cards for Jupyter."""

from __future__ import annotations

import html
from collections.abc import Mapping

__all__ = ["table"]


def table(title: str, rows: Mapping[str, object]) -> str:
    cells = "".join(f"<tr><th>{html.escape(k)}</th><td>{html.escape(str(v))}</td></tr>" for k, v in rows.items())
    return f"<table><caption><b>{html.escape(title)}</b></caption>{cells}</table>"
