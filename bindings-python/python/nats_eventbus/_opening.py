"""Something that is opened by ``await`` or ``async with``, and closed on leaving."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Generator
from types import TracebackType
from typing import Any, Generic, Protocol, Self, TypeVar

__all__ = ["Closing", "Opening"]


class _Closable(Protocol):
    async def close(self) -> None: ...


class Closing(ABC):
    """Something that ``async with`` closes on leaving."""

    @abstractmethod
    async def close(self) -> None:
        """Ends it."""

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        await self.close()


T = TypeVar("T", bound=_Closable)


class Opening(Generic[T]):
    """``x = await opening``, or ``async with opening as x`` which closes it on leaving."""

    def __init__(self, open_: Callable[[], Awaitable[T]], shown: str) -> None:
        self._open = open_
        self._shown = shown
        self._opened: T | None = None

    def __await__(self) -> Generator[Any, None, T]:
        return self._open().__await__()

    async def __aenter__(self) -> T:
        self._opened = await self._open()
        return self._opened

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._opened is not None:
            await self._opened.close()

    def __repr__(self) -> str:
        return f"<{self._shown}: use it with await or async with>"
