"""The checker itself: a clean run breaks nothing, and each planted violation is caught, by its letter and its words."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Iterable
from typing import Any

import pytest

from .audit import audit
from .checks import all_acked, buried, tried, waited
from .evidence import Evidence, Exit, Fault, Rules, Stored, Usage, Violation
from .ledger import Ledger, parse

ALL = "LDOHRMXT"
STREAM = "faults_events_STREAM"


class Book:
    """A run by hand: one producer, one worker, all as it should be, to be spoilt."""

    def __init__(self) -> None:
        self.producer: list[dict[str, Any]] = [{"e": "hello", "t": 0.0, "role": "producer", "pid": 1}]
        self.worker: list[dict[str, Any]] = [{"e": "hello", "t": 0.0, "role": "worker", "pid": 2}]
        self.stored: list[Stored] = []
        self.letters: list[Stored] = []
        self.faults = [Fault("SIGKILL", 2.0, 3.0)]
        self.exits = [Exit("p1", 0, 0, ""), Exit("w1", 0, 0, "")]
        self.usages: list[Usage] = []
        for n in range(1, 13):
            self.message(n, t=n / 2)
        for who, book in (("p1", self.producer), ("w1", self.worker)):
            self.usages += [Usage(who, "baseline", 50 << 20, 20), Usage(who, "end", 60 << 20, 20)]
            counts = {"sent": 12, "acked": 12, "rejected": 0, "unknown": 0, "received": 12, "settled": 12}
            book.append({"e": "metrics", "t": 9.0, "counts": counts})

    def message(self, n: int, t: float) -> None:
        """Sent, acked, stored, handled; two keys in turn."""
        id_, key = f"p1-{n}", f"k{n % 2}"
        self.producer += [
            {"e": "sent", "t": t, "id": id_, "key": key, "n": n, "within": 5},
            {"e": "acked", "t": t + 0.01, "id": id_, "stream": STREAM, "seq": n, "dup": False},
        ]
        self.stored.append(Stored(n, id_, key, n, "p1", t))
        self.handled(n, t + 0.02)

    def handled(self, n: int, t: float, *, how: str | None = "ok", attempt: int = 1, took: float = 0.01) -> None:
        """One handling."""
        call = len(self.worker)
        key = f"k{n % 2}"
        start = {"id": f"p1-{n}", "key": key, "n": n, "from": "p1", "attempt": attempt, "seq": n, "call": call}
        self.worker.append({"e": "start", "t": t, **start})
        if how:
            self.worker.append({"e": "end", "t": t + took, "call": call, "how": how})

    def line(self, event: str, id_: str) -> dict[str, Any]:
        """The producer's line about a message."""
        return next(r for r in self.producer if r["e"] == event and r["id"] == id_)

    def fail(self, id_: str, how: str, code: str, **fields: Any) -> None:
        """Turns an ack into a failure."""
        named = {"topic": "faults.events", "stream": STREAM}
        self.line("acked", id_).update(e=how, code=code, text="why", **{**named, **fields})

    def unhandle(self, n: int) -> None:
        """As if no handler had seen it."""
        calls = [r["call"] for r in self.worker if r.get("id") == f"p1-{n}"]
        self.worker = [r for r in self.worker if r.get("call") not in calls]

    def ledgers(self) -> list[Ledger]:
        """As the audit takes them."""
        return [parse("p1", self.producer), parse("w1", self.worker)]

    def evidence(self) -> Evidence:
        """All of it."""
        return Evidence(self.ledgers(), self.stored, self.letters, self.faults, self.usages, self.exits)


def _restore(b: Book, index: int, **changes: Any) -> None:
    b.stored[index] = dataclasses.replace(b.stored[index], **changes)


def lost(b: Book) -> None:
    """Skip the retry: an ack for what is not stored."""
    b.stored.pop(4)
    b.unhandle(5)


def acked_before_the_handler(b: Book) -> None:
    b.unhandle(6)


def acked_while_the_handler_fails(b: Book) -> None:
    b.unhandle(6)
    b.handled(6, 3.1, how="raised")


def buried_alive(b: Book) -> None:
    b.unhandle(6)
    b.letters.append(Stored(1, "dlq.6", "k0", 6, "p1", 4.0, {"Dlq-Id": "p1-6"}))


def killed_in_the_handler(b: Book) -> None:
    b.unhandle(6)
    b.handled(6, 3.1, how=None)


def id_used_twice(b: Book) -> None:
    b.producer += [
        {"e": "sent", "t": 6.5, "id": "p1-12", "key": "k0", "n": 13, "within": 5},
        {"e": "acked", "t": 6.6, "id": "p1-12", "stream": STREAM, "seq": 12, "dup": True},
    ]


def another_sequence(b: Book) -> None:
    b.line("acked", "p1-3")["seq"] = 99


def stored_twice(b: Book) -> None:
    b.stored.append(dataclasses.replace(b.stored[2], seq=13, t=6.9))


def stored_without_an_id(b: Book) -> None:
    b.stored.append(Stored(13, None, "k1", 99, "p1", 6.9))


def stored_out_of_order(b: Book) -> None:
    for index, seq in ((2, 5), (4, 3)):
        _restore(b, index, seq=seq)
        b.line("acked", f"p1-{index + 1}")["seq"] = seq


def handled_out_of_order(b: Book) -> None:
    b.unhandle(3)
    b.handled(3, 2.8, attempt=2)


def overlapping(b: Book) -> None:
    b.unhandle(3)
    b.handled(3, 1.52, took=1.1)


def overtaken_by_the_next_of_its_key(b: Book) -> None:
    b.unhandle(3)
    b.handled(3, 1.52, how=None)
    b.handled(3, 1.52, attempt=2)


def no_outcome(b: Book) -> None:
    b.producer.remove(b.line("acked", "p1-3"))


def two_outcomes(b: Book) -> None:
    b.producer.append({**b.line("acked", "p1-3"), "t": 7.0})


def too_late(b: Book) -> None:
    b.line("acked", "p1-12")["t"] = 12.5


def out_of_nothing(b: Book) -> None:
    b.producer.append({**b.line("acked", "p1-3"), "id": "p1-77"})


def never_resumed(b: Book) -> None:
    b.faults.append(Fault("black hole", 7.0, 8.0))


def resumed_late(b: Book) -> None:
    b.faults[0] = Fault("SIGKILL", 2.0, 6.2)
    b.message(13, t=20.0)


def only_echoes_after_the_fault(b: Book) -> None:
    """What was sent before is acked and handled after it; nothing new gets through."""
    b.faults[0] = Fault("half-close up", 6.005, 6.005)


def memory_kept(b: Book) -> None:
    b.usages[1] = Usage("p1", "end", 90 << 20, 20)


def descriptors_kept(b: Book) -> None:
    b.usages[3] = Usage("w1", "end", 60 << 20, 25)


def sends_in_flight(b: Book) -> None:
    b.producer[-1]["counts"]["acked"] = 9


def messages_unsettled(b: Book) -> None:
    b.worker[-1]["counts"]["settled"] = 9


def never_at_rest(b: Book) -> None:
    b.usages.pop()


def crashed(b: Book) -> None:
    b.exits[0] = Exit("p1", -6, 0, "")


def hung(b: Book) -> None:
    b.exits[1] = Exit("w1", None, 0, "")


def panicked(b: Book) -> None:
    b.exits[1] = Exit("w1", 0, 0, "thread 'eventbus' panicked at core/src/bus.rs:1")


def rejected_and_stored(b: Book) -> None:
    b.fail("p1-3", "rejected", "publish.rejected.not_sent")


def refused_and_stored(b: Book) -> None:
    b.fail("p1-3", "refused", "backpressure")


def wrong_code(b: Book) -> None:
    b.fail("p1-3", "unknown", "internal")


def nameless(b: Book) -> None:
    b.fail("p1-3", "unknown", "publish.unknown", topic=None)


PLANTED: list[tuple[Callable[[Book], None], str, str]] = [
    (lost, "L", "p1-5 was acked to p1"),
    (lost, "L", "no handler saw it"),
    (acked_before_the_handler, "L", "p1-6 was acked at 3.010 and is not handled: no handler saw it"),
    (acked_while_the_handler_fails, "L", "its 1 handlings failed"),
    (buried_alive, "L", "no handler saw it, and yet it is a dead letter"),
    (killed_in_the_handler, "L", "its 1 handlings failed or never ended"),
    (id_used_twice, "L", "the id was used twice"),
    (another_sequence, "L", "p1-3 was acked as #99 and is stored as #3"),
    (stored_twice, "D", "p1-3 is stored 2 times"),
    (stored_without_an_id, "D", "no id"),
    (stored_out_of_order, "O", "p1-5 was sent after p1-3 and is stored before it"),
    (handled_out_of_order, "O", "#3 p1-3 (attempt 2, w1) was first handled at 2.800, after #5 p1-5"),
    (overlapping, "O", "p1-5 was started at 2.520 while p1-3 ran until 2.620"),
    (overtaken_by_the_next_of_its_key, "O", "did not end"),
    (no_outcome, "H", "p1-3 of p1 has no outcome"),
    (two_outcomes, "H", "p1-3 of p1 has 2 outcomes: acked, acked"),
    (too_late, "H", "1.50 s after its deadline"),
    (out_of_nothing, "H", "p1-77 of p1 has an outcome and was never sent"),
    (never_resumed, "R", "nothing sent after the end of 'black hole' at 8.000 was acked within 10 s: none was"),
    (never_resumed, "R", "was handled within 10 s: none was"),
    (resumed_late, "R", "the first was after 13.8"),
    (only_echoes_after_the_fault, "R", "none was"),
    (memory_kept, "M", "90.0 MiB at rest, 50.0 MiB at its baseline"),
    (descriptors_kept, "M", "25 descriptors"),
    (sends_in_flight, "M", "3 sends in flight"),
    (messages_unsettled, "M", "3 messages unsettled"),
    (never_at_rest, "M", "w1 never came to rest"),
    (crashed, "X", "ended with -6"),
    (hung, "X", "did not end in its time"),
    (panicked, "X", "wrote 'panic'"),
    (rejected_and_stored, "T", "was rejected (publish.rejected.not_sent) and is stored all the same"),
    (refused_and_stored, "T", "was refused (backpressure) and is stored all the same"),
    (wrong_code, "T", "was told internal"),
    (nameless, "T", "do not name their topic"),
]


def test_a_clean_run_breaks_nothing() -> None:
    assert audit(Book().evidence(), ALL) == []


@pytest.mark.parametrize(("plant", "letter", "words"), PLANTED, ids=lambda x: getattr(x, "__name__", x))
def test_a_planted_violation_is_caught(plant: Callable[[Book], None], letter: str, words: str) -> None:
    book = Book()
    plant(book)
    found = audit(book.evidence(), ALL)
    assert any(v.invariant == letter and words in v.text for v in found), found


def test_what_is_no_violation() -> None:
    """Unknown and stored or not, redelivered after its ack, a dead letter, a worker killed on purpose."""
    b = Book()
    b.fail("p1-3", "unknown", "publish.unknown")
    b.fail("p1-4", "unknown", "publish.unknown")
    b.stored.pop(3)
    b.handled(5, 6.9, attempt=2)
    b.unhandle(7)
    b.handled(7, 3.53, how="raised")
    b.letters.append(Stored(1, "dlq.7", "k1", 7, "p1", 4.0, {"Dlq-Id": "p1-7"}))
    b.exits[1] = Exit("w1", -9, -9, "")
    assert audit(b.evidence(), ALL) == []


def test_the_order_of_a_group() -> None:
    """`order="stream"` holds over all processes: a key does not matter, nor which worker handled what."""
    b = Book()
    moved = [r for r in b.worker if r.get("id") == "p1-5"]
    calls = {r["call"] for r in moved}
    theirs = [r for r in b.worker if r.get("call") in calls]
    b.worker = [r for r in b.worker if r not in theirs]
    other = parse(
        "w2", [{"e": "hello", "t": 0.0, "role": "worker", "pid": 3}, *({**r, "t": r["t"] + 1} for r in theirs)]
    )
    e = dataclasses.replace(b.evidence(), ledgers=[*b.ledgers(), other])
    assert audit(e, "O") == []
    [found] = audit(e, "O", Rules(in_order="group"))
    assert "the stream at the group: #5 p1-5 (attempt 1, w2)" in found.text


def test_a_message_that_was_lost_on_the_way_may_come_late() -> None:
    """Only where the row allows for it, and never one that a handler had seen: that would be a retry out of order."""
    b = Book()
    b.unhandle(3)
    b.handled(3, 2.8, attempt=2)
    allowed = Rules(lost_on_the_way=True)
    assert [v.invariant for v in audit(b.evidence(), ALL)] == ["O"]
    assert audit(b.evidence(), ALL, allowed) == []
    b.unhandle(3)
    b.handled(3, 1.52, how="raised")
    b.handled(3, 2.8, attempt=2)
    assert [v.invariant for v in audit(b.evidence(), ALL, allowed)] == ["O"]


def test_tries_waits_and_dead_letters() -> None:
    """What rows ask of single messages: the right is silent, each wrong is told."""
    b = Book()
    b.unhandle(7)
    for attempt, t in ((1, 3.52), (2, 3.75), (3, 4.2)):
        b.handled(7, t, how="raised", attempt=attempt)
    b.letters.append(Stored(1, "dlq.7", "k1", 7, "p1", 4.3, {"Dlq-Id": "p1-7", "Dlq-Reason": "ValueError: no"}))
    e = b.evidence()
    assert list(all_acked(e)) == []
    bounds = {1: (0.2, 0.3), 2: (0.4, 0.5)}
    assert not [*tried(e, ["p1-7"], 3), *waited(e, ["p1-7"], bounds), *buried(e, {"p1-7": "^ValueError"})]

    def text(found: Iterable[Violation]) -> str:
        [one] = found
        return one.text

    assert text(tried(e, ["p1-7"], 2)) == "p1-7 was handed out in attempts [1, 2, 3], expected 2"
    assert text(tried(e, ["p1-77"], 1)) == "p1-77 was handed out in attempts [], expected 1"
    assert "after attempt 2, expected 0.50 to 0.60 s" in text(waited(e, ["p1-7"], {**bounds, 2: (0.5, 0.6)}))
    assert text(buried(e, {})) == "p1-7 became a dead letter and should not have: ['ValueError: no']"
    assert text(buried(e, {"p1-7": "no", "p1-8": ""})) == "p1-8 has 0 dead letters, expected 1"
    assert "expected 'refused'" in text(buried(e, {"p1-7": "refused"}))
    b.fail("p1-3", "unknown", "publish.unknown")
    assert text(all_acked(b.evidence())) == "p1-3 ended unknown (publish.unknown: why), one of 1 that were not acked"
