"""Says where the native module cannot be loaded."""

from __future__ import annotations

import importlib
from typing import Any

from .errors import ConfigError

__all__: list[str] = []


class Unloadable(ConfigError, ImportError):
    """The native module cannot be loaded here."""


def _in_main_interpreter() -> bool:
    for name in ("_interpreters", "_xxsubinterpreters"):
        try:
            interpreters: Any = importlib.import_module(name)
            return interpreters.get_current() == interpreters.get_main()
        except (ImportError, AttributeError):
            continue
    return True


# Python 3.11 loads it there, too, and then two interpreters share its objects.
if not _in_main_interpreter():
    raise Unloadable(
        "nats-eventbus runs in the main interpreter only, and this is a subinterpreter: give the work a thread or a "
        "process instead"
    )
