"""What rows ask of single messages, beyond the invariants. Pure, as the audit is."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping
from itertools import pairwise

from .audit import producers, workers
from .evidence import Evidence, Violation
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
