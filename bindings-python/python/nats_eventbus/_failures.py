"""What a handler says by what it raises, and the words for it."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import TypeVar, cast

__all__ = ["Reject", "RetryAfter", "described", "find", "reason"]

ErrorT = TypeVar("ErrorT", bound=BaseException)


class Reject(Exception):
    """Raised by a handler: no retry will help; the message becomes a dead letter at once."""


class RetryAfter(Exception):
    """Raised by a handler: deliver the message again after ``delay`` (seconds, timedelta or a string like "30s")."""

    def __init__(self, delay: float | timedelta | str) -> None:
        super().__init__(f"retry after {delay}")
        self.delay = delay


def find(e: BaseException, *kinds: type[ErrorT]) -> ErrorT | None:
    """The exception, or the first one in it if it is a group, that is of one of these kinds."""
    return next((leaf for leaf in _leaves(e) if isinstance(leaf, kinds)), None)


def _leaves(e: BaseException) -> Iterator[BaseException]:
    if not isinstance(e, BaseExceptionGroup):
        yield e
        return
    for one in cast("BaseExceptionGroup[BaseException]", e).exceptions:
        yield from _leaves(one)


def reason(e: Reject) -> str:
    """Why a handler rejected its message."""
    return _words(e) or "rejected"


def described(e: BaseException) -> str:
    """The exception's class and words, those of a group's first one too; the class alone where there are no words."""
    words = _words(e)
    text = f"{type(e).__name__}: {words}" if words else type(e).__name__
    leaf = next(_leaves(e))
    return text if leaf is e else f"{text}: {described(leaf)}"


def _words(e: BaseException) -> str:
    """What it says. Its ``__str__`` may raise, and what it gives may not be valid UTF-8."""
    try:
        return "".join(str(e)).encode("utf-8", "backslashreplace").decode()
    except Exception:
        return ""
