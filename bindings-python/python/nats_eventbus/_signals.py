"""SIGTERM and SIGINT while a bus runs: what was there before is called too, and is there again afterwards."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import os
import signal
import threading
from collections.abc import Callable, Generator
from types import FrameType, MethodType
from typing import Any

__all__ = ["signals_taken"]

_OURS = 2
"""Signals of one kind that a run makes use of: the first drains, the second gives up. A further one has its default."""


@contextlib.contextmanager
def signals_taken(on_signal: Callable[[], None]) -> Generator[None]:
    """Calls ``on_signal`` with each SIGTERM and SIGINT. Does nothing on other threads than the main one.

    ``on_signal`` is called between any two steps of the program: it must be safe there.
    """
    taken: list[_Taken] = []
    if threading.current_thread() is threading.main_thread():
        for number in (signal.SIGTERM, signal.SIGINT):
            # One that is ignored, or that C code handles, stays as it is.
            if signal.getsignal(number) not in (None, signal.SIG_IGN):
                # In a subinterpreter there are no signals.
                with contextlib.suppress(ValueError):
                    taken.append(_Taken(number, on_signal))
    try:
        yield
    finally:
        for one in reversed(taken):
            one.give_back()


class _Taken:
    """Our handler of one signal, in the place of the one before it."""

    def __init__(self, number: signal.Signals, on_signal: Callable[[], None]) -> None:
        self._number = number
        self._on_signal = on_signal
        self._count = 0
        self._is_over = False
        self._process = os.getpid()
        self._previous: Any = signal.signal(number, self)

    def _before(self) -> Any:
        """What was there before, without other runs' handlers that are over."""
        found = self._previous
        while isinstance(found, _Taken) and found._is_over:
            found = found._previous
        return found

    def __call__(self, number: int, frame: FrameType | None) -> None:
        before = self._before()
        # A forked child has a copy of this, and of a loop that does not run there.
        if not self._is_over and os.getpid() == self._process:
            self._count += 1
            self._on_signal()
            if self._count <= _OURS and _is_default(before):
                return
        if callable(before):
            before(number, frame)
        elif before == signal.SIG_DFL:
            signal.signal(number, signal.SIG_DFL)
            signal.raise_signal(number)

    def give_back(self) -> None:
        """From now on it only passes the signal on, where another owner has kept it."""
        self._is_over = True
        if signal.getsignal(self._number) is self:
            signal.signal(self._number, self._before())


def _is_default(handler: Any) -> bool:
    """Whether the interpreter, or `asyncio.run`, put it there: they would end the program, where we end the run."""
    if handler in (signal.SIG_DFL, signal.default_int_handler):
        return True
    function = handler.func if isinstance(handler, functools.partial) else handler
    return isinstance(function, MethodType) and isinstance(function.__self__, asyncio.Runner)
