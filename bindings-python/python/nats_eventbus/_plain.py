"""What has one obvious form in JSON, and why the rest has none."""

from __future__ import annotations

import dataclasses
import datetime
import decimal
import enum
import inspect
import math
import pathlib
import sys
import uuid
from collections import UserList, UserString, deque
from collections.abc import Callable, Iterator, Mapping, MappingView, Set
from typing import Any, NamedTuple

from .errors import ConfigError

__all__ = ["plain", "refusal", "words"]

_DEEPEST = 500
"""Levels of nesting that a body may surely have; Python's own limit lies above."""
_NOT_A_NUMBER = "NaN and infinity have no JSON form: give None, or a string"
_ENCODER = "convert it, or give an encoder= to connect or to the producer"


class _NoForm(Exception):
    """Why a value has no JSON form."""


def plain(value: Any) -> Any:
    """What JSON has for a value that is not JSON's own, one level of it.

    Times and dates as ISO 8601, Decimal and UUID as strings, enumerations by their value, paths as strings, sets and
    deques as lists, mappings as objects; dataclasses, pydantic models and msgspec structs by their fields; numpy's
    scalars as Python's.
    """
    known = _KNOWN.get(value.__class__)
    if known is not None:
        return known(value)
    if isinstance(value, type):
        raise _NoForm(f"it is the class {value.__name__}: give an instance")
    for kinds, form in _KINDS:
        if isinstance(value, kinds):
            return form(value)
    dump: Any = getattr(value, "model_dump", None)  # pydantic
    if dump is not None:
        return dump(mode="json", by_alias=True)
    if dataclasses.is_dataclass(value):
        # Field by field, so that nested values come through here too.
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    if hasattr(value, "__struct_fields__"):
        import msgspec  # pyright: ignore[reportMissingImports]

        return msgspec.to_builtins(value)  # pyright: ignore
    numpy: Any = sys.modules.get("numpy")
    if numpy is not None and isinstance(value, numpy.generic):
        return _numpy(numpy, value)
    raise _NoForm(_why_not(value))


def _time(value: datetime.date | datetime.time) -> str:
    text = value.isoformat()
    if text == "NaT":  # pandas
        raise _NoForm(_NOT_A_NUMBER)
    return text


def _decimal(value: decimal.Decimal) -> str:
    # A float would lose digits.
    if not value.is_finite():
        raise _NoForm(_NOT_A_NUMBER)
    return str(value)


def _timedelta(_: datetime.timedelta) -> str:
    raise _NoForm("a timedelta has more than one JSON form: give .total_seconds()")


_KNOWN: dict[type, Callable[[Any], Any]] = {
    datetime.datetime: _time,
    datetime.date: _time,
    datetime.time: _time,
    datetime.timedelta: _timedelta,
    decimal.Decimal: _decimal,
    uuid.UUID: str,
    set: list,
    frozenset: list,
    deque: list,
}
_KINDS: list[tuple[tuple[type[Any], ...], Callable[[Any], Any]]] = [
    ((enum.Enum,), lambda value: value.value),
    ((datetime.date, datetime.time), _time),
    ((datetime.timedelta,), _timedelta),
    ((decimal.Decimal,), _decimal),
    ((uuid.UUID, pathlib.PurePath, UserString), str),
    ((Mapping,), dict),
    ((Set, MappingView, deque, UserList, range), list),
]


def _numpy(numpy: Any, value: Any) -> Any:
    if isinstance(value, numpy.datetime64):
        # As an item it may be a number of nanoseconds.
        return _numpy_time(str(value))
    item = value.item()
    if isinstance(item, numpy.generic | bytes | tuple):
        raise _NoForm(f"{type(value).__name__} has no JSON form: {_ENCODER}")
    return item


def _numpy_time(text: str) -> str:
    if text == "NaT":
        raise _NoForm(_NOT_A_NUMBER)
    return text


def _why_not(value: Any) -> str:
    name = type(value).__name__
    if isinstance(value, bytes | bytearray):
        return "bytes have no JSON form: decode them, or write them as base64"
    if hasattr(value, "tolist"):
        return f"{name} has more than one form: give .tolist(), or send its .tobytes() as the body"
    if inspect.isawaitable(value):
        return f"it is an awaitable ({name}): await it first"
    if isinstance(value, Iterator) or inspect.isasyncgen(value):
        return f"{name} can be read only once: give a list"
    return f"{name} has no JSON form: {_ENCODER}"


class _Node(NamedTuple):
    """A value within a body, and the way to it."""

    value: Any
    parent: _Node | None
    step: str
    depth: int


def refusal(body: Any, cause: Exception) -> ConfigError:
    """The error for a body that could not be written: names the first part that has no JSON form, and why."""
    waiting = [_Node(body, None, "body", 0)]
    while waiting:
        node = waiting.pop()
        try:
            waiting += reversed(_parts(node))
        except _NoForm as e:
            return ConfigError(f"{_path(node)}: {e}")
        except Exception as e:
            # A model's own code.
            return ConfigError(f"{_path(node)}: {type(node.value).__name__} cannot be written: {words(e)}")
    return ConfigError(f"body: it cannot be written as JSON: {words(cause)}")


def words(e: Exception) -> str:
    """What an exception says; its class where it says nothing."""
    try:
        return str(e) or type(e).__name__
    except Exception:
        return type(e).__name__


def _path(node: _Node) -> str:
    steps: list[str] = []
    at: _Node | None = node
    while at is not None:
        steps.append(at.step)
        at = at.parent
    steps.reverse()
    if len(steps) > 12:
        steps[7:-4] = ["…"]
    return "".join(steps)


def _parts(node: _Node) -> list[_Node]:
    """What a value consists of; raises when it has no JSON form itself."""
    value = node.value
    if isinstance(value, str):
        _check_text(value)
        return []
    if isinstance(value, float):
        if not math.isfinite(value):
            raise _NoForm(_NOT_A_NUMBER)
        return []
    if isinstance(value, int):
        int.__repr__(value)  # It has a limit of digits.
        return []
    if value is None:
        return []
    _check_nesting(node)
    if isinstance(value, dict):
        return [_Node(v, node, _key(k), node.depth + 1) for k, v in value.items()]  # pyright: ignore
    if isinstance(value, list | tuple):
        return [_Node(v, node, f"[{n}]", node.depth + 1) for n, v in enumerate(value)]  # pyright: ignore
    return [_Node(plain(value), node, "", node.depth + 1)]


def _check_text(text: str) -> None:
    try:
        text.encode()
    except UnicodeEncodeError as e:
        raise _NoForm(f"its character {e.start} is half of a surrogate pair, which UTF-8 has not") from None


def _check_nesting(node: _Node) -> None:
    if node.depth > _DEEPEST:
        raise _NoForm(f"it is nested deeper than {_DEEPEST} levels")
    above = node.parent
    while above is not None:
        if above.value is node.value:
            raise _NoForm("it holds itself")
        above = above.parent


def _key(key: Any) -> str:
    if not isinstance(key, str | int | float | None):
        raise _NoForm(f"a key of it is a {type(key).__name__}: give strings as keys")
    if isinstance(key, str):
        try:
            _check_text(key)
        except _NoForm as e:
            raise _NoForm(f"a key of it is not text: {e}") from None
        return f'["{key[:60]}"]'
    return f"[{key!r}]"
