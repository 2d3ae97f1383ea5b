"""Nouns that give one thing after another, as async iterators; and nouns with bytes."""

from __future__ import annotations

import json
from abc import ABC, abstractmethod
from typing import Any, Generic, Self, TypeVar

from . import _native
from .errors import DecodeError

__all__ = ["Cursor", "Decoded"]

T = TypeVar("T")


class Cursor(ABC, Generic[T]):
    """One thing after another: ``async for``. Cancelling a wait skips none."""

    @abstractmethod
    async def next(self) -> T | None: ...

    def __aiter__(self) -> Self:
        return self

    async def __anext__(self) -> T:
        found = await self.next()
        if found is None:
            raise StopAsyncIteration
        return found


class Decoded:
    """Something with bytes."""

    _handle: _native.Handle
    truncated: int | None = None

    def _bytes(self) -> bytes:
        return self._handle.body or b""

    def _size(self) -> str:
        kept = self.truncated is None
        return f"{len(self._bytes())} bytes" if kept else f"{self.truncated} bytes, not kept"

    def text(self) -> str:
        """The bytes as text. Raises DecodeError when they are not UTF-8."""
        try:
            return self._bytes().decode()
        except UnicodeDecodeError:
            raise DecodeError(f"not UTF-8: {self!r}") from None

    def json(self) -> Any:
        """The bytes decoded as JSON, integers exact. Raises DecodeError when they are not JSON."""
        try:
            return json.loads(self._bytes())
        except ValueError as e:
            raise DecodeError(f"not JSON ({e}): {self!r}") from e
