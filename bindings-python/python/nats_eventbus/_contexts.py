"""The context handlers start in, and how code knows that a handler runs it.

Every handler starts in a copy of the context its run was started in. Handlers that run one at a time share a task, so
the loop that calls them runs in a copy, and gets a new one after a handler that has changed it: a handler that changes
nothing costs one comparison.
"""

from __future__ import annotations

import asyncio
import types
from collections.abc import Coroutine, Generator
from contextvars import Context, ContextVar, copy_context
from typing import Any, TypeVar

__all__ = ["handler_context", "is_inside", "mark", "renewed", "running_in_copies", "task_outside"]

T = TypeVar("T")

_owners: ContextVar[frozenset[object]] = ContextVar("nats_eventbus.in_handler", default=frozenset())
"""Whose handlers this code runs in: what must not wait for its own end."""

_RENEW = object()


def is_inside(owner: object) -> bool:
    """Whether a handler of ``owner`` runs this code."""
    return owner in _owners.get()


def mark(owner: object) -> None:
    """From now on the code of this context is a handler's of ``owner``."""
    _owners.set(_owners.get() | {owner})


def handler_context(owner: object) -> Context:
    """A copy of the current context, for the handlers of ``owner``."""
    context = copy_context()
    context.run(mark, owner)
    return context


def task_outside(coroutine: Coroutine[Any, Any, T]) -> asyncio.Task[T]:
    """A task that is no part of the handler that starts it, if one does: it may wait for that handler's end."""
    context = copy_context()
    context.run(_owners.set, frozenset[object]())
    return context.run(asyncio.create_task, coroutine)


@types.coroutine
def renewed() -> Generator[Any, None, None]:
    """Gives a coroutine in :func:`running_in_copies` a new copy of the context from here on."""
    yield _RENEW


@types.coroutine
def running_in_copies(work: Coroutine[Any, Any, T], context: Context) -> Generator[Any, Any, T]:
    """Runs a coroutine in a copy of a context, in the same task; in a new copy where it awaits :func:`renewed`."""
    run = context.copy().run
    step: Any = work.send
    value: Any = None
    while True:
        try:
            waited_for = run(step, value)
        except StopIteration as end:
            return end.value
        if waited_for is _RENEW:
            run, step, value = context.copy().run, work.send, None
            continue
        try:
            value = yield waited_for
        except GeneratorExit:
            run(work.close)
            raise
        except BaseException as e:
            step, value = work.throw, e
        else:
            step = work.send
