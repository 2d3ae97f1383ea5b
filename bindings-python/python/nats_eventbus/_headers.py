"""Headers as Python programs have them, for those that are not simply strings."""

from __future__ import annotations

import math
from collections.abc import Iterator, Mapping, Sequence
from typing import Any, TypeAlias

from .errors import InvalidHeader

__all__ = ["HeaderValue", "Headers", "MessageHeaders", "pairs"]

HeaderValue: TypeAlias = str | int | float | bool
Headers: TypeAlias = Mapping[str, HeaderValue | Sequence[HeaderValue]]


class MessageHeaders(dict[str, str]):
    """Headers of a message: a dict of the first value of each, by their names as they were sent.

    Lookup takes a name in any case: ``m.headers["trace-id"]`` finds ``Trace-Id``. :meth:`get_all` gives all values.
    """

    __slots__ = ("_all",)

    def __init__(self, all_: Sequence[tuple[str, str]]) -> None:
        super().__init__()
        self._all = all_
        for name, value in all_:
            super().setdefault(name, value)

    def __missing__(self, name: str) -> str:
        found = self.get_all(name)
        if not found:
            raise KeyError(name)
        return found[0]

    def __contains__(self, name: object) -> bool:
        return super().__contains__(name) or (isinstance(name, str) and bool(self.get_all(name)))

    def get(self, name: str, default: Any = None) -> Any:
        """The first value of a header; ``default`` where there is none."""
        try:
            return self[name]
        except KeyError:
            return default

    def get_all(self, name: str) -> list[str]:
        """All values of a header, in order; empty where there is none."""
        folded = name.lower()
        return [value for known, value in self._all if known.lower() == folded]

    def __reduce__(self) -> tuple[type[MessageHeaders], tuple[list[tuple[str, str]]]]:
        return MessageHeaders, (list(self._all),)


def pairs(headers: Any) -> list[tuple[str, str]]:
    """Name and text of each header; a list gives its header once for each of its items.

    Raises:
        InvalidHeader: a name is not a string, or a value has no one text; the error says what to give.
    """
    if not isinstance(headers, Mapping):
        raise InvalidHeader(f"headers: give a mapping of names to values, not a {type(headers).__name__}")
    return list(_pairs(headers))  # pyright: ignore[reportUnknownArgumentType]


def _pairs(headers: Mapping[Any, Any]) -> Iterator[tuple[str, str]]:
    for name, value in headers.items():
        if not isinstance(name, str):
            raise InvalidHeader(f"headers: a name is a {type(name).__name__}: give strings as names")
        values: tuple[Any, ...] = tuple(value) if isinstance(value, list | tuple) else (value,)  # pyright: ignore
        for one in values:
            yield str.__str__(name), _text(name, one)


def _text(name: str, value: Any) -> str:
    if isinstance(value, str):
        text = str.__str__(value)
        try:
            text.encode()
        except UnicodeEncodeError as e:
            raise _wrong(name, f"its character {e.start} is half of a surrogate pair, which UTF-8 has not") from None
        return text
    if isinstance(value, bool):
        # As JSON and the other languages write it.
        return "true" if value else "false"
    if isinstance(value, int):
        return int.__repr__(value)
    if isinstance(value, float):
        if not math.isfinite(value):
            raise _wrong(name, f"{value} is not a number: leave the header out")
        return float.__repr__(value)
    if value is None:
        raise _wrong(name, "None is no value: leave the header out, or give an empty string")
    if isinstance(value, bytes | bytearray | memoryview):
        raise _wrong(name, "bytes are not text: decode them, or write them as base64")
    raise _wrong(
        name, f"a {type(value).__name__} has no one text: give a string, a number, True, False, or a list of those"
    )


def _wrong(name: str, why: str) -> InvalidHeader:
    return InvalidHeader(f"header {name!r}: {why}")
