"""Row 25: servers of other versions, through rows 1, 2, 6 and 13: the same must hold."""

from __future__ import annotations

import asyncio

from ..audit import audit
from ..children import Language
from ..evidence import Evidence
from ..releases import VERSIONS, release
from ..rig import Rig
from ..run import Row
from . import r01_server_killed, r02_rolling_restart, r06_acks_dropped, r13_poison

ROWS = {f"row {m.ROW.number}": m.ROW for m in (r01_server_killed, r02_rolling_restart, r06_acks_dropped, r13_poison)}
CASES = {f"{version}, {name}": (version, row) for version in VERSIONS for name, row in ROWS.items()}
SHORT: frozenset[tuple[str, Language]] = frozenset(
    {
        ("2.10.26, row 1", "python"),
        ("2.10.26, row 13", "node"),
        ("2.11.11, row 2", "node"),
        ("2.12.8, row 6", "python"),
        ("2.12.8, row 13", "node"),
        ("2.14.6, row 1", "node"),
        ("2.14.6, row 13", "python"),
        ("2.15.1, row 6", "node"),
    }
)
"""In the short form every version is met, and every row; the long form has all of it."""

HOLDS = "LDHX"
"""What all of them hold; the rest is asked of each by itself."""


async def scenario(rig: Rig) -> Evidence:
    """The other row, in its short form, by its own scenario and rules."""
    version, row = CASES[rig.case]
    rig.executable = await asyncio.to_thread(release, version)
    rig.long = False
    e = await row.scenario(rig)
    rig.violations += audit(e, "".join(c for c in row.holds if c not in HOLDS), row.rules)
    return e


ROW = Row(25, "server versions through rows 1, 2, 6 and 13", HOLDS, scenario, cases=tuple(CASES), short=SHORT)
