"""Bodies that are not bytes or text: JSON, as the platform writes it."""

from __future__ import annotations

import dataclasses
import json
from typing import Any


def _default(value: Any) -> Any:
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        # Field by field, so that nested values come through here too.
        return {f.name: getattr(value, f.name) for f in dataclasses.fields(value)}
    dump: Any = getattr(value, "model_dump", None)  # pydantic
    if dump is not None:
        return dump(mode="json", by_alias=True)
    if hasattr(value, "__struct_fields__"):  # msgspec
        import msgspec  # pyright: ignore[reportMissingImports]

        return msgspec.to_builtins(value)  # pyright: ignore
    raise TypeError(f"a {type(value).__name__} cannot be a body: give bytes, str, or something JSON can hold")


def encode(value: Any) -> bytes:
    """The value as compact UTF-8 JSON; integers stay exact."""
    return json.dumps(value, default=_default, ensure_ascii=False, separators=(",", ":"), allow_nan=False).encode()
