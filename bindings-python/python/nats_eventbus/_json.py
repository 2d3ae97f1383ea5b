"""Bodies that are not bytes or text: JSON, as the platform writes it."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any, TypeAlias

from ._plain import plain, refusal, words
from .errors import ConfigError

__all__ = ["Encode", "Encoder", "encode", "ready", "using"]

Encoder: TypeAlias = Callable[[Any], bytes | bytearray | str]
"""What an application gives to write bodies in another way."""
Encode: TypeAlias = Callable[[Any], bytes]
"""Writes a body that is neither bytes-like nor a string."""

_dumps = json.JSONEncoder(default=plain, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode


def encode(value: Any) -> bytes:
    """The value as compact UTF-8 JSON; integers stay exact.

    Raises:
        ConfigError: it has no JSON form; the error names the part that has none.
    """
    try:
        return _dumps(value).encode()
    except Exception as e:
        # Also what a model's own code raises.
        raise refusal(value, e) from e


def using(encoder: Encoder | None) -> Encode | None:
    """The application's encoder, with errors that say what went wrong."""
    if encoder is None:
        return None
    if not callable(encoder):
        raise ConfigError("encoder: give a function of one value that gives bytes or a string")

    def encode(value: Any) -> bytes:
        try:
            given: Any = encoder(value)
        except Exception as e:
            raise ConfigError(f"body: the encoder failed on a {type(value).__name__}: {words(e)}") from e
        if isinstance(given, str):
            return given.encode()
        if isinstance(given, bytes | bytearray):
            return bytes(given)
        raise ConfigError(f"body: the encoder gave a {type(given).__name__}: it must give bytes or a string")

    return encode


_AS_IT_IS: tuple[type[Any], ...] = (bytes, bytearray, memoryview, str)


def ready(body: Any, encode: Encode | None) -> Any:
    """A body as it may be handed to the native module, which writes JSON itself."""
    return body if encode is None or isinstance(body, _AS_IT_IS) else encode(body)
