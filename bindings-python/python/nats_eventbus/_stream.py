"""Streams."""

from __future__ import annotations

import dataclasses

from . import _native
from ._html import table

__all__ = ["Stream", "StreamInfo"]


@dataclasses.dataclass(frozen=True)
class StreamInfo:
    """A stream as the server describes it."""

    name: str
    subjects: list[str]
    messages: int
    bytes: int
    first_sequence: int
    last_sequence: int
    consumers: int
    replicas: int
    duplicate_window: float
    """How long ids are remembered, in seconds."""

    def _repr_html_(self) -> str:
        return table(f"Stream {self.name}", dataclasses.asdict(self))


class Stream:
    """A stream by name. Made by :meth:`Bus.stream`."""

    def __init__(self, native: _native.Stream) -> None:
        self._native = native

    @property
    def name(self) -> str:
        """The stream's name."""
        return self._native.name

    async def info(self) -> StreamInfo:
        """Asks the server. Raises NotFoundError when there is no stream of that name."""
        return StreamInfo(**await self._native.info())

    def __repr__(self) -> str:
        return f"<Stream {self.name!r}>"
