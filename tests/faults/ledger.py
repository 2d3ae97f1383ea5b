"""Ledgers: what a process did and when, one JSON line each, appended at once, so that SIGKILL loses nothing.

Times are CLOCK_MONOTONIC everywhere (`time.monotonic`, `process.hrtime`), and so are comparable between processes.

Producers write `sent` before a send, and its outcome: `acked`, `rejected`, `unknown` or `refused` (never accepted).
Workers write `start` and `end` of each handling, and `health` when asked. Both write `metrics` now and then, `error`
for what they were told besides, `event` for what happened to the connection, and `left` as the last line of a clean
end.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Generator, Iterable
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

_encode = json.JSONEncoder(separators=(",", ":")).encode

Outcome = Literal["acked", "rejected", "unknown", "refused"]


class Writer:
    """Appends lines, each with one system call."""

    def __init__(self, path: str | Path) -> None:
        self._file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND | os.O_CLOEXEC, 0o644)
        self._held: list[bytes] | None = None

    def write(self, event: str, **fields: Any) -> None:
        """One line, with the time."""
        line = _encode({"e": event, "t": time.monotonic(), **fields}).encode() + b"\n"
        if self._held is None:
            os.write(self._file, line)
        else:
            self._held.append(line)

    @contextmanager
    def held(self) -> Generator[None]:
        """Keeps the lines until the end of the block: for crowds, where writing costs more than what is measured."""
        self._held = []
        try:
            yield
        finally:
            lines, self._held = b"".join(self._held), None
            while lines:
                lines = lines[os.write(self._file, lines) :]


@dataclass(frozen=True, slots=True)
class Told:
    """An error as the application saw it."""

    t: float
    code: str
    text: str
    topic: str | None = None
    stream: str | None = None
    group: str | None = None


@dataclass(frozen=True, slots=True)
class Happened:
    """An event of the connection, as the application saw it."""

    t: float
    kind: str
    cause: str = ""
    server: str | None = None
    topic: str | None = None


@dataclass(frozen=True, slots=True)
class Sent:
    """A send, written down before it was made."""

    t: float
    id: str
    key: str | None
    n: int
    deadline: float
    """When it must have ended."""


@dataclass(frozen=True, slots=True)
class Ended:
    """How a send ended."""

    t: float
    id: str
    how: Outcome
    stream: str | None = None
    seq: int | None = None
    duplicate: bool = False
    error: Told | None = None


@dataclass(slots=True)
class Handling:
    """One call of a handler."""

    id: str
    key: str | None
    n: int
    origin: str
    """The producer that sent it."""
    attempt: int
    seq: int
    """0 for a message that was never stored."""
    start: float
    end: float | None = None
    how: str | None = None
    """`ok`, or how it failed; None while it runs, and for ever if its process was killed."""
    failures: int | None = None
    """What the message says that handlers did before: its `failures`; None where it says nothing."""


@dataclass(frozen=True, slots=True)
class Metrics:
    """The bus's own counters."""

    t: float
    counts: dict[str, int]

    @property
    def unsettled_sends(self) -> int:
        """Sends without an outcome."""
        c = self.counts
        return c["sent"] - c["acked"] - c["rejected"] - c["unknown"]

    @property
    def unsettled_messages(self) -> int:
        """Messages received and not settled."""
        return self.counts["received"] - self.counts["settled"]


@dataclass(frozen=True, slots=True)
class Health:
    """What the bus says of itself."""

    t: float
    ok: bool
    problems: list[str]
    consumers: int
    """Consumers that are open or have failed."""


@dataclass(slots=True)
class Ledger:
    """All of one process."""

    who: str
    role: str = ""
    pid: int = 0
    began: float = 0.0
    """When it was about to connect."""
    sent: list[Sent] = field(default_factory=list[Sent])
    ended: list[Ended] = field(default_factory=list[Ended])
    handlings: list[Handling] = field(default_factory=list[Handling])
    metrics: list[Metrics] = field(default_factory=list[Metrics])
    errors: list[Told] = field(default_factory=list[Told])
    events: list[Happened] = field(default_factory=list[Happened])
    healths: list[Health] = field(default_factory=list[Health])
    marks: list[str] = field(default_factory=list[str])
    """Other events, by name: `ready`, `settled`, `rested`, `left`."""
    _running: dict[int, Handling] = field(default_factory=dict[int, Handling])

    def add(self, r: dict[str, Any]) -> None:
        """Takes one line in."""
        match r["e"]:
            case "hello":
                self.role, self.pid, self.began = r["role"], r["pid"], r["t"]
            case "sent":
                self.sent.append(Sent(r["t"], r["id"], r.get("key"), r["n"], r["t"] + r["within"]))
            case "acked":
                self.ended.append(Ended(r["t"], r["id"], "acked", r.get("stream"), r.get("seq"), r["dup"]))
            case ("rejected" | "unknown" | "refused") as how:
                self.ended.append(Ended(r["t"], r["id"], how, error=_told(r)))
            case "start":
                h = Handling(r["id"], r.get("key"), r["n"], r["from"], r["attempt"], r.get("seq") or 0, r["t"])
                h.failures = r.get("failures")
                self.handlings.append(h)
                self._running[r["call"]] = h
            case "end":
                h = self._running.pop(r["call"])
                h.end, h.how = r["t"], r["how"]
            case "metrics":
                self.metrics.append(Metrics(r["t"], r["counts"]))
            case "health":
                self.healths.append(Health(r["t"], r["ok"], r["problems"], r["consumers"]))
            case "error":
                self.errors.append(_told(r))
            case "event":
                happened = Happened(r["t"], r["kind"], r.get("cause") or "", r.get("server"), r.get("topic"))
                self.events.append(happened)
            case other:
                self.marks.append(other)


def _told(r: dict[str, Any]) -> Told:
    return Told(r["t"], r["code"], r["text"], r.get("topic"), r.get("stream"), r.get("group"))


class Reader:
    """Follows a ledger that is still being written."""

    def __init__(self, path: str | Path, who: str) -> None:
        self._path = Path(path)
        self._offset = 0
        self.ledger = Ledger(who)

    def poll(self) -> Ledger:
        """The ledger with what was written since; a line half-written stays for later."""
        if self._path.exists():
            with self._path.open("rb") as f:
                f.seek(self._offset)
                text = f.read()
            whole = text[: text.rfind(b"\n") + 1]
            self._offset += len(whole)
            for line in whole.splitlines():
                self.ledger.add(json.loads(line))
        return self.ledger


def parse(who: str, records: Iterable[dict[str, Any]]) -> Ledger:
    """A ledger from its records."""
    ledger = Ledger(who)
    for r in records:
        ledger.add(r)
    return ledger
