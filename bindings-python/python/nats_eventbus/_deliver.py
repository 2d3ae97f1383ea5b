"""Calls waiters back, from Python and not from the native module.

A daemon thread that is inside of Python code when the interpreter ends is ended there by force, with all frames below
it: none of those may be the native module's.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

__all__ = ["deliverer"]


def deliverer(
    take: Callable[[bool], tuple[Callable[..., Any], tuple[Any, ...]] | None], failed: Callable[[BaseException], None]
) -> Callable[[], None]:
    """What a loop calls to deliver: ``take`` gives the next call to make, ``failed`` gets what it raises."""

    def deliver() -> None:
        first = True
        while (call := take(first)) is not None:
            first = False
            function, args = call
            try:
                function(*args)
            except (SystemExit, KeyboardInterrupt):
                raise
            except BaseException as e:
                failed(e)

    return deliver
