"""Bodies that are not bytes or text: JSON, as the platform writes it."""

from __future__ import annotations

import json
from typing import Any

from ._plain import plain, refusal

__all__ = ["encode"]

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
