"""Where no asyncio loop runs: one typed error that says why, and what to do."""

from __future__ import annotations

import importlib.util
import subprocess
import sys
from typing import Any

import nats_eventbus as eb
import pytest

from tests.support.server import Server


def test_without_a_loop(core: Server) -> None:
    """API: a call without a loop is a ConfigError that names the way out, not a bare RuntimeError."""
    opening: Any = eb.connect(core.url)
    with pytest.raises(eb.ConfigError, match=r"none runs in this thread.*asyncio\.run"):
        opening.send(None)


def test_under_trio(core: Server) -> None:
    """API: under trio the error names trio, and trio-asyncio."""
    trio: Any = pytest.importorskip("trio")

    async def main() -> None:
        await eb.connect(core.url)

    with pytest.raises(eb.ConfigError, match=r"under trio.*trio-asyncio"):
        trio.run(main)


SUBINTERPRETER = """
import nats_eventbus
try:
    import _xxsubinterpreters as interpreters
except ImportError:
    import _interpreters as interpreters
code = '''
try:
    import nats_eventbus
except ImportError as e:
    assert type(e).__name__ == "Unloadable", repr(e)
    assert e.code == "config" and "subinterpreter" in str(e) and "process" in str(e), repr(e)
else:
    raise AssertionError("it was loaded")
'''
failed = interpreters.run_string(interpreters.create(), code)
assert failed is None, failed
print("refused")
"""


@pytest.mark.skipif(
    not any(importlib.util.find_spec(name) for name in ("_xxsubinterpreters", "_interpreters")),
    reason="this Python has no subinterpreters to try",
)
def test_in_a_subinterpreter() -> None:
    """API: in a subinterpreter the import fails with a ConfigError that is an ImportError, and says what to do."""
    run = subprocess.run(
        [sys.executable, "-W", "ignore", "-c", SUBINTERPRETER], capture_output=True, text=True, timeout=60, check=False
    )
    assert run.stdout == "refused\n", run.stderr
