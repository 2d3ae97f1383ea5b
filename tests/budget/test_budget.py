"""The instructions of ours that a message costs on each hot path, against a budget.

Counted are those of the native module as Python calls it: core, client and binding; the core is the same in Node. A
budget is a tenth or so above what was counted when it was set; who needs more says why and raises it, who made it less
lowers it.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import socket
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from tests.support.server import Server

from . import callgrind

HERE = Path(__file__).parent
FEW, MANY = 4_000, 24_000
"""Messages of the two runs: their difference leaves out what starting and connecting cost."""

BUDGETS = {
    "core_publish": 2_350,
    "core_receive": 2_800,
    "js_publish": 11_700,
    "js_many": 8_500,
    "js_consume": 6_800,
}

pytestmark = pytest.mark.skipif(shutil.which("valgrind") is None, reason="valgrind is not installed")


@pytest.fixture
def server() -> Iterator[Server]:
    """With the stream that all of them use."""
    with Server("-js") as s:
        asyncio.run(s.api("STREAM.CREATE.budget_STREAM", {"name": "budget_STREAM", "subjects": ["budget"]}))
        yield s


def flood(server: Server, count: int) -> None:
    """Publishes so many messages by hand; returns when the server has them."""
    with socket.create_connection(("127.0.0.1", server.port)) as s:
        s.sendall(b'CONNECT {"verbose":false}\r\n' + b"PUB budget 128\r\n%b\r\n" % (b"x" * 128) * count + b"PING\r\n")
        seen = b""
        while b"PONG" not in seen:
            data = s.recv(65_536)
            assert data, "the server hung up"
            seen += data


def instructions(server: Server, workload: str, count: int) -> int:
    """Those of the native module."""
    command = [sys.executable, str(HERE / "hot.py"), workload, str(count), server.url]
    counts = callgrind.run(command, dict(os.environ), lambda: flood(server, count))
    ours = {library: n for library, n in counts.items() if "_native" in library}
    assert ours, f"no library of ours is among {sorted(counts)}"
    return sum(ours.values())


@pytest.mark.timeout(600)
@pytest.mark.parametrize("workload", BUDGETS)
def test_budget(server: Server, workload: str) -> None:
    """Within the budget, and not so far below it that the budget says nothing."""
    if workload == "js_consume":
        flood(server, FEW + MANY)
    few, many = (instructions(server, workload, n) for n in (FEW, MANY))
    cost, budget = (many - few) / (MANY - FEW), BUDGETS[workload]
    print(f"{workload}: {cost:,.0f} instructions a message, budget {budget:,}")
    assert cost <= budget
    assert cost >= budget / 2, "lower the budget"
