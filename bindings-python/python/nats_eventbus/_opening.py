"""Something that is opened by ``await`` or ``async with``, and closed on leaving."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable, Coroutine, Generator
from types import TracebackType
from typing import Any, Protocol, Self, TypeVar

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


class Opening(Coroutine[Any, Any, T]):
    """``x = await opening``, or ``async with opening as x`` which closes it on leaving.

    A coroutine to ``asyncio.create_task``, ``gather``, ``TaskGroup`` and ``run_coroutine_threadsafe``. Nothing is
    opened before it is awaited.
    """

    def __init__(self, open_: Callable[[], Coroutine[Any, Any, T]], shown: str) -> None:
        self._open = open_
        # As a task shows its coroutine.
        self.__name__ = self.__qualname__ = shown
        self._begun: Coroutine[Any, Any, T] | None = None
        self._opened: T | None = None

    def __await__(self) -> Generator[Any, None, T]:
        return self._open().__await__()

    def send(self, value: Any, /) -> Any:
        """A task's next step."""
        return self._coroutine().send(value)

    def throw(self, *raised: Any) -> Any:
        """A task's cancellation."""
        return self._coroutine().throw(*raised)

    def close(self) -> None:
        """Ends it where it waits; what is not begun needs no end."""
        if self._begun is not None:
            self._begun.close()

    def _coroutine(self) -> Coroutine[Any, Any, T]:
        if self._begun is None:
            self._begun = self._open()
        return self._begun

    async def __aenter__(self) -> T:
        self._opened = await self._open()
        return self._opened

    async def __aexit__(
        self, kind: type[BaseException] | None, value: BaseException | None, trace: TracebackType | None
    ) -> None:
        if self._opened is not None:
            await self._opened.close()

    def __repr__(self) -> str:
        return f"<{self.__name__}: use it with await or async with>"
