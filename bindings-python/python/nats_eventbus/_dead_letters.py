"""What dead letters have besides their calls: iteration, and their bodies."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from collections.abc import AsyncIterator
from typing import Any, Generic, Protocol, TypeVar

from . import _native
from .errors import DecodeError

__all__ = ["Body", "Listing"]


class Body:
    """A letter with a body."""

    topic: str
    position: int
    truncated: int | None
    _handle: _native.Handle

    @property
    def body(self) -> bytes:
        """Its body; empty when it was too large to be kept, see ``truncated``."""
        return self._handle.body or b""

    def text(self) -> str:
        """The body as text. Raises DecodeError when it is not UTF-8."""
        try:
            return self.body.decode()
        except UnicodeDecodeError:
            raise DecodeError("the body is not UTF-8", topic=self.topic) from None

    def json(self) -> Any:
        """The body decoded as JSON, integers exact. Raises DecodeError when it is not JSON."""
        try:
            return json.loads(self.body)
        except ValueError as e:
            raise DecodeError(f"the body is not JSON: {e}", topic=self.topic) from e

    def _size(self) -> str:
        kept = self.truncated is None
        return f"{len(self.body)} bytes" if kept else f"{self.truncated} bytes, not kept"


LetterT = TypeVar("LetterT", bound=Body, covariant=True)


class Cursor(Protocol[LetterT]):
    """A listing."""

    async def next(self) -> LetterT | None: ...


class Listing(ABC, Generic[LetterT]):
    """Letters, listed one after another."""

    @abstractmethod
    def list(self) -> Cursor[LetterT]: ...

    async def __aiter__(self) -> AsyncIterator[LetterT]:
        listing = self.list()
        while (letter := await listing.next()) is not None:
            yield letter
