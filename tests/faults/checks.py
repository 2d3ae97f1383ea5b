"""What rows ask of single messages, beyond the invariants. Pure, as the audit is."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise

from .audit import acked, first_after, producers, workers
from .evidence import Evidence, Fault, Violation
from .ledger import Handling


def handlings(e: Evidence) -> dict[str, list[Handling]]:
    """All handlings of each message, by all workers, in the order they began."""
    found: defaultdict[str, list[Handling]] = defaultdict(list)
    for h in sorted((h for w in workers(e) for h in w.handlings), key=lambda h: h.start):
        found[h.id].append(h)
    return found


def all_acked(e: Evidence) -> Iterator[Violation]:
    """Every send: where outages are far shorter than `delivery_timeout`, retries leave no other outcome."""
    others = [end for p in producers(e) for end in p.ended if end.how != "acked"]
    for end in others[:3]:
        why = f" ({end.error.code}: {end.error.text})" if end.error else ""
        yield Violation("row", f"{end.id} ended {end.how}{why}, one of {len(others)} that were not acked")


def tried(e: Evidence, ids: Iterable[str], times: int) -> Iterator[Violation]:
    """Each was handed to a handler exactly so many times, its attempts counted from 1."""
    found = handlings(e)
    for id_ in ids:
        attempts = [h.attempt for h in found.get(id_, [])]
        if attempts != list(range(1, times + 1)):
            yield Violation("row", f"{id_} was handed out in attempts {attempts}, expected {times}")


def waited(e: Evidence, ids: Iterable[str], bounds: Mapping[int, tuple[float, float]]) -> Iterator[Violation]:
    """Between attempt n and the next one, at least and at most so long passed."""
    found = handlings(e)
    for id_ in ids:
        for a, b in pairwise(found.get(id_, [])):
            gap = b.start - (a.end or b.start)
            least, most = bounds[a.attempt]
            if not least <= gap <= most:
                want = f"{least:.2f} to {most:.2f} s"
                yield Violation("row", f"{id_} was tried again {gap:.3f} s after attempt {a.attempt}, expected {want}")


def buried(e: Evidence, reasons: Mapping[str, str]) -> Iterator[Violation]:
    """The dead letters are exactly these, one each, for the reasons given (patterns)."""
    found: defaultdict[str, list[str]] = defaultdict(list)
    for letter in e.letters:
        found[letter.headers.get("Dlq-Id", "")].append(letter.headers.get("Dlq-Reason", ""))
    for id_ in found.keys() - reasons.keys():
        yield Violation("row", f"{id_} became a dead letter and should not have: {found[id_]}")
    for id_, reason in reasons.items():
        letters = found.get(id_, [])
        if len(letters) != 1:
            yield Violation("row", f"{id_} has {len(letters)} dead letters, expected 1")
        elif not re.search(reason, letters[0]):
            yield Violation("row", f"{id_} is a dead letter because {letters[0]!r}, expected {reason!r}")


def none_told(e: Evidence) -> Iterator[Violation]:
    """No error reached the application: no process was told one, and no handler was made to fail."""
    for ledger in e.ledgers:
        for error in ledger.errors[:3]:
            yield Violation("row", f"{ledger.who} was told {error.code} ({error.text}) at {error.t:.3f}")
        for h in [h for h in ledger.handlings if h.how not in ("ok", None)][:3]:
            yield Violation("row", f"the handling of {h.id} at {ledger.who} ended {h.how}")


def pauses(e: Evidence) -> dict[str, float]:
    """The longest time without an ack, and without a handling, in seconds, between the first of them and the last."""
    times = {
        "acked": sorted(x.t for p in producers(e) for x in p.ended if x.how == "acked"),
        "handled": sorted(h.start for w in workers(e) for h in w.handlings),
    }
    return {what: max((b - a for a, b in pairwise(t)), default=0.0) for what, t in times.items()}


def never_still(e: Evidence, most: float) -> Iterator[Violation]:
    """Traffic went on all the time, faults or not, with pauses no longer than so many seconds."""
    for what, longest in pauses(e).items():
        if longest > most:
            yield Violation("R", f"nothing was {what} for {longest:.1f} s, expected {most:.0f} s at most")


def acked_by_nobody(e: Evidence, fault: Fault, who: Iterable[str]) -> Iterator[Violation]:
    """While no majority could be reached from a producer, nothing it sent could be stored: an ack is false."""
    names = set(who)
    false = [(p, s, x) for p, s, x in acked(e) if p.who in names and fault.start < s.t and x.t < fault.heal]
    for p, sent, end in false[:3]:
        yield Violation(
            "L",
            f"{sent.id} was acked to {p.who} at {end.t:.3f} as #{end.seq}, one of {len(false)} "
            f"sent and acked while {fault.name!r} kept it from a majority",
        )


def each_resumed(e: Evidence, within: float = 10.0) -> Iterator[Violation]:
    """R for each producer by itself: that another one goes on is of no help to it."""
    for fault in e.faults:
        for p in producers(e):
            first, _ = first_after([p], fault.heal)
            if first is None or first > fault.heal + within:
                when = "none was" if first is None else f"the first was after {first - fault.heal:.2f} s"
                yield Violation("R", f"nothing {p.who} sent after the end of {fault.name!r} was acked in time: {when}")
