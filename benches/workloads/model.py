"""What a workload is, and what several share."""

from __future__ import annotations

import dataclasses
import json
from collections.abc import Mapping
from typing import Any, Literal, TypeAlias

Kind: TypeAlias = Literal["rate", "latency", "startup", "memory", "idle"]
Modes: TypeAlias = Mapping[str, tuple[str, ...]]

EVENT = json.dumps(
    {
        "op_type": "updated",
        "project_document": {
            "id": 7412281404246959965,
            "type": 1,
            "status": 3,
            "name": "知识库 knowledge agent",
            "space_id": 7412281404246959001,
            "owner_id": 7412281404246951234,
            "has_published": 1,
            "update_time": 1763900000000,
        },
        "meta": {"send_time_ms": 1763900000000, "receive_time_ms": 0},
        "extra": None,
    },
    ensure_ascii=False,
)
"""An event as the platform sends it."""


@dataclasses.dataclass(frozen=True)
class Workload:
    """One table of the report."""

    id: str
    title: str
    what: str
    """What the clients call it."""
    modes: Modes
    """Who can do it, and how."""
    setup: str = "none"
    kind: Kind = "rate"
    spec: Mapping[str, Any] = dataclasses.field(default_factory=dict[str, Any])
    quick: Modes | None = None
    """Who does it in `bench-quick`; None: nobody."""
    rounds: int | None = None
    """At most so many."""
    share: float = 0.0
    """Paced at this share of the client's own sustainable rate."""
    without: frozenset[str] = frozenset()
    """Clients left out, for their twins on another event loop take part."""
    curve: tuple[str, int] | None = None
    """The curve it is a point of, and where on it."""
    note: str = ""


ONE = ("",)
"""One way only."""
ALL: Modes = dict.fromkeys(("async-nats", "nats.go", "ours-python", "nats-py", "natsrpy", "ours-node", "nats.js"), ONE)
"""All clients that are libraries."""
HOSTS: Modes = dict.fromkeys(("ours-python", "nats-py", "natsrpy", "ours-node", "nats.js"), ONE)
"""Those of Python and Node."""
ONE_LOOP = frozenset({"ours-python-uvloop", "nats-py"})
"""Left out where one event loop is enough: ours on asyncio, nats-py on the one it is better on."""


def curve(what: str, title: str, values: tuple[int, ...], modes: Modes, **more: Any) -> list[Workload]:
    """The same work at several sizes."""
    made: list[Workload] = []
    for value in values:
        spec = {**more.get("spec", {}), more["vary"]: value}
        rest = {k: v for k, v in more.items() if k not in ("spec", "vary", "id")}
        name = f"{more['id']}_{value}"
        made.append(Workload(name, title, what, modes, spec=spec, curve=(more["id"], value), **rest))
    return made
