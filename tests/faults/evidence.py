"""What a run leaves behind, and what the checker says about it."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Literal

from .ledger import Ledger


@dataclass(frozen=True, slots=True)
class Fault:
    """From its beginning to its healing; a blow heals at once."""

    name: str
    start: float
    heal: float


@dataclass(frozen=True, slots=True)
class Stored:
    """A message as another client finds it in a stream."""

    seq: int
    id: str | None
    key: str | None
    n: int | None
    origin: str | None
    """The producer that sent it, by its body."""
    t: float
    """When it was stored, on the clock of the ledgers."""
    headers: dict[str, str] = field(default_factory=dict[str, str])


@dataclass(frozen=True, slots=True)
class Usage:
    """What a process held at a moment of rest."""

    who: str
    when: Literal["baseline", "end"]
    rss: int
    """Bytes."""
    fds: int


@dataclass(frozen=True, slots=True)
class Exit:
    """How a process ended."""

    who: str
    code: int | None
    """As waited for; negative for a signal, None when it had to be killed after its time."""
    expected: int
    stderr: str


@dataclass(frozen=True)
class Evidence:
    """All the checker looks at."""

    ledgers: Sequence[Ledger] = ()
    stored: Sequence[Stored] = ()
    letters: Sequence[Stored] = ()
    """Dead letters."""
    faults: Sequence[Fault] = ()
    usages: Sequence[Usage] = ()
    exits: Sequence[Exit] = ()


@dataclass(frozen=True, slots=True)
class Violation:
    """An invariant that did not hold, and where."""

    invariant: str
    text: str

    def __str__(self) -> str:
        return f"{self.invariant}: {self.text}"


@dataclass(frozen=True)
class Rules:
    """What a row asks beyond the letters of its invariants."""

    slack: float = 1.0
    """H: seconds a wait may end after its deadline."""
    resume: float = 10.0
    """R: seconds from the healing to the first ack and the first handling."""
    in_order: Literal["worker", "group"] = "worker"
    """O: whether a key's order holds within each worker, or all order within the whole group."""
    lost_on_the_way: bool = False
    """O: whether a message may come late whose first delivery reached nobody: it died with a server or a route, and the
    durable gives it again only after its ack wait."""
    growth: int = 32 << 20
    """M: bytes that a process at rest may hold beyond its baseline."""
    fds: int = 0
    """M: further descriptors."""
    codes: frozenset[str] = frozenset({"publish.unknown", "publish.rejected.not_sent"})
    """T: the errors that sends may end with."""
    names: tuple[Literal["topic", "stream", "group"], ...] = ("topic", "stream")
    """T: what every error names."""
