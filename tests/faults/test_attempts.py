"""What rows ask of attempts, shares, health and a Go worker: what is right gives nothing, each wrong a violation."""

from __future__ import annotations

import sys
from collections.abc import Iterable
from pathlib import Path
from typing import Any

import pytest

from .attempts import blamed, failures_shown, fair, handled_well, healthy, nothing_left, shares
from .evidence import Evidence, Stored, Violation
from .golang import GoWorker
from .ledger import Ledger, parse
from .test_checker import Book

JOB = 0.5


def _text(found: Iterable[Violation]) -> str:
    [one] = found
    return one.text


def _shown(b: Book, failures: dict[int, int]) -> None:
    """Every handling was shown no failures, but the n-th line those given."""
    for r in b.worker:
        if r["e"] == "start":
            r["failures"] = 0
    for index, shown in failures.items():
        b.worker[index]["failures"] = shown


def _again(b: Book, n: int, *hows: str | None) -> list[int]:
    """Message n is handled again and again, and ends so; returns where the handlings are."""
    b.unhandle(n)
    at = list[int]()
    for attempt, how in enumerate(hows, 1):
        at.append(len(b.worker))
        b.handled(n, n / 2 + attempt, how=how, attempt=attempt)
    return at


def test_failures_are_handlers_failures() -> None:
    """A failure counts; a handling that died with its process, or that another client gave back, does not."""
    b = Book()
    first, second, third = _again(b, 5, "raised", "cancelled", "ok")
    _shown(b, {first: 0, second: 1, third: 2})
    every = [f"p1-{n}" for n in range(1, 13)]
    assert not list(failures_shown(b.evidence(), every))
    _shown(b, {first: 0, second: 1, third: 3})
    assert _text(failures_shown(b.evidence(), every)) == (
        "p1-5 in attempt 3 had failures 3, expected 2, one of 1 such handlings"
    )
    b = Book()
    at = _again(b, 5, None, "nak", "ok")
    _shown(b, {at[2]: 1})
    assert "had failures 1, expected 0" in _text(failures_shown(b.evidence(), every))


def test_failures_that_are_not_shown() -> None:
    """A worker that shows none, unless it cannot."""
    b = Book()
    every = [f"p1-{n}" for n in range(1, 13)]
    assert "12 handlings were not shown the message's failures, first of p1-1" in _text(
        failures_shown(b.evidence(), every)
    )
    assert not list(failures_shown(b.evidence(), every, but=["w1"]))


@pytest.mark.parametrize(
    ("header", "words"),
    [
        ({"Dlq-Failures": "3"}, ""),
        ({"Dlq-Failures": "2"}, "says 2 failures, expected 3 to 4"),
        ({"Dlq-Failures": "5"}, "says 5 failures, expected 3 to 4"),
        ({"Dlq-Failures": "-3"}, "has the Dlq-Failures '-3', expected a number"),
        ({}, "has the Dlq-Failures '', expected a number"),
    ],
    ids=["right", "too few", "more than began", "no number", "none"],
)
def test_what_a_dead_letter_says_of_failures(header: dict[str, str], words: str) -> None:
    """Not fewer than the limit, and not more than handlings began."""
    b = Book()
    _again(b, 7, None, None, None, None)
    b.letters.append(Stored(1, "dlq.7", "k1", 7, "p1", 9.0, {"Dlq-Id": "p1-7", **header}))
    b.letters.append(Stored(2, "dlq.8", "k0", 8, "p1", 9.0, {"Dlq-Id": "p1-8"}))
    found = list(blamed(b.evidence(), "p1-7", 3))
    assert [words in v.text for v in found] == [True] * bool(words)


def test_what_is_handled_well_and_what_is_left() -> None:
    """One good end is enough; one that always died or failed is a violation."""
    b = Book()
    _again(b, 5, None, "raised", "ok")
    _again(b, 6, None, "raised")
    assert not list(handled_well(b.evidence(), ["p1-5"]))
    assert _text(handled_well(b.evidence(), ["p1-6"])) == (
        "p1-6 was never handled to its end: its handlings ended [None, 'raised']"
    )
    assert "its handlings ended []" in _text(handled_well(b.evidence(), ["p1-66"]))
    assert not list(nothing_left(0))
    assert "3 messages are left to the group" in _text(nothing_left(3))


def _worker(who: str, began: float, jobs: int, *, first: float = 0.1, each: float = JOB) -> Ledger:
    """A worker that begins its first job after a moment, and then has one after the other."""
    lines: list[dict[str, Any]] = [{"e": "hello", "t": began, "role": "worker", "pid": 1}]
    for n in range(jobs):
        t = began + first + n * each
        start = {"id": f"{who}-{n}", "n": n, "from": "p1", "attempt": 1, "seq": 0, "call": n}
        lines += [{"e": "start", "t": t, **start}, {"e": "end", "t": t + each, "call": n, "how": "ok"}]
    return parse(who, lines)


def _shared(*ledgers: Ledger) -> list[Violation]:
    return list(shares(Evidence(ledgers)))


def test_fair_shares() -> None:
    """Equal workers differ by two jobs at most; one that came late has a share by its time."""
    assert fair(10, {"a": 3.0, "b": 2.0}) == {"a": 6.0, "b": 4.0}
    assert fair(10, {"a": 0.0}) == {"a": 0.0}
    equal = [_worker("w1", 0, 20), _worker("w2", 0, 20), _worker("w3", 0, 18)]
    assert not _shared(*equal)
    assert "w1 had too many jobs and w4 too few" in _text(_shared(*equal, _worker("w4", 0, 17)))
    assert not _shared(*equal, _worker("late", 5, 10))
    assert "late too few" in _text(_shared(*equal, _worker("late", 5, 6)))
    assert "late had too many" in _text(_shared(*equal, _worker("late", 5, 20, each=0.24)))


def test_a_worker_that_has_nothing() -> None:
    """One to which no message comes was there all the same; nothing handled at all is no fairness."""
    assert "w2 too few, expected within 2: w1 20 of" in _text(_shared(_worker("w1", 0, 20), _worker("w2", 0, 0)))
    starved = _worker("late", 1, 4, first=8)
    assert "late too few" in _text(_shared(_worker("w1", 0, 20), starved))
    assert "no worker handled anything" in _text(_shared(_worker("w1", 0, 0)))


def test_health() -> None:
    """Well, with its consumer, as often as it was asked."""

    def says(*answers: dict[str, Any]) -> Ledger:
        return parse(
            "w1", [{"e": "health", "t": 1.0, "ok": True, "problems": [], "consumers": 1, **a} for a in answers]
        )

    assert not list(healthy(says({}, {}), 2))
    assert "was asked 2 times how it is, and answered 1" in _text(healthy(says({}), 2))
    assert "is not well: ['no server']" in _text(healthy(says({"ok": False, "problems": ["no server"]}), 1))
    assert "says that it is well, and has no consumer" in _text(healthy(says({"consumers": 0}), 1))


PRINTS = """#!{python}
import json, sys, time
print(json.dumps({{"ready": True}}), flush=True)
for n, settled in enumerate(["nak", "ack"], 1):
    event = {{"id": "p1-7", "n": 7, "from": "p1", "do": "ok"}}
    print(json.dumps({{"event": event, "attempt": n, "settled": settled}}), flush=True)
"""


async def test_a_go_worker_has_a_ledger(tmp_path: Path) -> None:
    """What the Go program prints is what a worker of ours would have written."""
    program = tmp_path / "interop"
    program.write_text(PRINTS.format(python=sys.executable))
    program.chmod(0o755)
    child = GoWorker(program, tmp_path, "nats://127.0.0.1:4", "go", "faults.events", "workers", work=0.25)
    assert (await child.ended(10)).code == 0
    ledger = child.ledger
    assert (ledger.who, ledger.role, ledger.marks) == ("go", "worker", ["ready"])
    assert [(h.id, h.n, h.attempt, h.how) for h in ledger.handlings] == [("p1-7", 7, 1, "nak"), ("p1-7", 7, 2, "ok")]
    assert [round((h.end or 0) - h.start, 3) for h in ledger.handlings] == [0.25, 0.25]
