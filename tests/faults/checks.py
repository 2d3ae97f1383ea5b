"""What rows ask of single messages, beyond the invariants. Pure, as the audit is."""

from __future__ import annotations

import re
from collections import defaultdict
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import pairwise

from .audit import acked, first_after, producers, workers
from .evidence import Evidence, Fault, Violation
from .ledger import Handling, Ledger


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
    for id_ in sorted(found.keys() - reasons.keys()):
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


def told(
    ledger: Ledger, kind: str, since: float, within: float, *, server: str | None = None, cause: str = ""
) -> Iterator[Violation]:
    """An event of the connection that says why (a pattern) came in time, and names the server concerned."""
    events = [x for x in ledger.events if x.t >= since and x.kind == kind]
    first = next((x for x in events if re.search(cause, x.cause, re.IGNORECASE)), None)
    if first is None:
        others = [f"{x.kind}: {x.cause}" for x in ledger.events if x.t >= since]
        yield Violation("T", f"{ledger.who} was never told {kind!r} because of {cause!r}, only {others[:5]}")
        return
    if first.t - since > within:
        yield Violation("T", f"{ledger.who} was told {kind!r} after {first.t - since:.2f} s, expected {within:.0f} s")
    if server and first.server != server:
        yield Violation("T", f"{kind!r} told to {ledger.who} names the server {first.server!r}, expected {server!r}")


def turned_away(ledger: Ledger, code: str, within: float, *, words: Sequence[str]) -> Iterator[Violation]:
    """`connect` failed, in time, with this code; its text holds these words."""
    if len(ledger.errors) != 1:
        yield Violation("T", f"{ledger.who} was told {len(ledger.errors)} errors when it connected, expected one")
    for e in ledger.errors[:1]:
        took = e.t - ledger.began
        if e.code != code:
            yield Violation("T", f"{ledger.who} was told {e.code} when it connected, expected {code}: {e.text}")
        if took > within:
            yield Violation("T", f"{ledger.who} was told {e.code} after {took:.2f} s, expected {within:.0f} s")
        for word in words:
            if word not in e.text:
                yield Violation("T", f"{e.code} told to {ledger.who} does not name {word!r}: {e.text}")


def no_secret(e: Evidence, secrets: Mapping[str, str]) -> Iterator[Violation]:
    """No secret in any error, event or line on stderr; what leaked is told by its name."""
    told: list[tuple[str, str]] = [(x.who, x.stderr) for x in e.exits]
    for ledger in e.ledgers:
        errors = [*ledger.errors, *(x.error for x in ledger.ended if x.error)]
        told += [(ledger.who, x.text) for x in errors] + [(ledger.who, x.cause) for x in ledger.events]
    for name, secret in secrets.items():
        found = [who for who, text in told if secret in text]
        if found:
            yield Violation("T", f"{name} was told {len(found)} times, to {found[0]} first")


def in_clear(wire: bytes, words: Mapping[str, bytes]) -> Iterator[Violation]:
    """Nothing of these was seen on the wire; what was is told by its name."""
    for name, word in words.items():
        if (at := wire.find(word)) >= 0:
            yield Violation("T", f"{name} was sent in clear, first at byte {at} of {len(wire)}")


def refused(
    ledger: Ledger, id_: str, code: str, within: float, *, topic: str | None, words: str = ""
) -> Iterator[Violation]:
    """A send was rejected in time, with this code; the error names the topic, and its text holds these words."""
    end = next((x for x in ledger.ended if x.id == id_), None)
    sent = next((x for x in ledger.sent if x.id == id_), None)
    if end is None or sent is None:
        yield Violation("T", f"{id_} has no outcome, expected {code}")
    elif end.error is None or end.error.code != code:
        got = f"{end.error.code}: {end.error.text}" if end.error else end.how
        yield Violation("T", f"{id_} ended with {got}, expected {code}")
    else:
        if end.t - sent.t > within:
            yield Violation("T", f"{id_} was told {code} after {end.t - sent.t:.2f} s, expected {within:.0f} s")
        if end.error.topic != topic:
            yield Violation("T", f"{code} of {id_} names the topic {end.error.topic!r}, expected {topic!r}")
        if words not in end.error.text:
            yield Violation("T", f"{code} of {id_} does not say {words!r}: {end.error.text}")


def unsent(ledger: Ledger, wire: Collection[str]) -> Iterator[Violation]:
    """What was rejected or refused was never written to a connection, by the ids that came by."""
    for end in ledger.ended:
        if end.how in ("rejected", "refused") and end.id in wire:
            yield Violation("T", f"{end.id} was {end.how} ({end.error and end.error.code}) and was sent all the same")


def unbroken(ledger: Ledger) -> Iterator[Violation]:
    """The connection lived, all the time."""
    if lost := [x for x in ledger.events if x.kind == "disconnected"]:
        yield Violation("T", f"{ledger.who} lost its connection {len(lost)} times, first because of {lost[0].cause!r}")
    elif again := ledger.metrics[-1].counts["reconnects"] if ledger.metrics else 0:
        yield Violation("T", f"{ledger.who} counts {again} reconnects, and was told of none")
