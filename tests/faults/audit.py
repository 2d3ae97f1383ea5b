"""The checker: which invariants a run broke. Pure, from the ledgers, what is stored and the timeline of faults.

L every acked message is stored and handled · D each id is stored once · O keys in order, never overlapping · H every
send ends in time, once · R traffic resumes after each fault · M nothing is held for ever · X clean ends · T the right
errors, and none that lies.
"""

from __future__ import annotations

import re
from collections import Counter, defaultdict
from collections.abc import Callable, Iterable, Iterator
from itertools import pairwise

from .evidence import Evidence, Rules, Stored, Violation
from .ledger import Ended, Handling, Ledger, Sent, Told

_AWFUL = re.compile(
    r"panic|abort|segmentation|core dumped|fatal|traceback|unhandled|uncaught|InternalError|never (awaited|retrieved)",
    re.IGNORECASE,
)


def audit(e: Evidence, holds: str, rules: Rules | None = None) -> list[Violation]:
    """The violations of these invariants, by their letters."""
    rules = rules or Rules()
    return [Violation(letter, text) for letter in holds for text in _CHECKS[letter](e, rules)]


def producers(e: Evidence) -> list[Ledger]:
    """The ledgers of producers."""
    return [x for x in e.ledgers if x.role == "producer"]


def workers(e: Evidence) -> list[Ledger]:
    """The ledgers of workers."""
    return [x for x in e.ledgers if x.role == "worker"]


def acked(e: Evidence) -> Iterator[tuple[Ledger, Sent, Ended]]:
    """Sends with a word from the server."""
    for p in producers(e):
        sent = {s.id: s for s in p.sent}
        for end in p.ended:
            if end.how == "acked" and end.id in sent:
                yield p, sent[end.id], end


def _by_id(e: Evidence) -> dict[str | None, list[Stored]]:
    found: defaultdict[str | None, list[Stored]] = defaultdict(list)
    for s in e.stored:
        found[s.id].append(s)
    return found


def _few(items: Iterable[object], limit: int = 5) -> str:
    every = [str(i) for i in items]
    return ", ".join(every[:limit]) + (f" and {len(every) - limit} more" if len(every) > limit else "")


def _lost(e: Evidence, rules: Rules) -> Iterator[str]:
    """L."""
    by_id = _by_id(e)
    seen = [h for w in workers(e) for h in w.handlings]
    dead = {s.headers.get("Dlq-Id", "") for s in e.letters}
    # A dead letter was handled in its way, if a handler ever saw it.
    handled = {h.id for h in seen if h.how == "ok"} | ({h.id for h in seen} & dead)
    last = {s.id: s for p in producers(e) for s in p.sent}
    for p, sent, end in acked(e):
        copies = by_id.get(sent.id, [])
        if not copies:
            yield f"{sent.id} was acked to {p.who} as {end.stream}#{end.seq} at {end.t:.3f} and is not stored"
        elif end.seq is not None and end.seq not in [c.seq for c in copies]:
            yield f"{sent.id} was acked as #{end.seq} and is stored as #{copies[0].seq}"
        elif last[sent.id].n not in [c.n for c in copies]:
            what = f"n={copies[0].n} of {copies[0].origin} is stored under it"
            yield f"{sent.id} was acked for n={last[sent.id].n}, and {what}: the id was used twice"
        if sent.id not in handled and workers(e):
            starts = [h for h in seen if h.id == sent.id]
            tries = f"its {len(starts)} handlings failed or never ended" if starts else "no handler saw it"
            if sent.id in dead:
                tries += ", and yet it is a dead letter"
            yield f"{sent.id} was acked at {end.t:.3f} and is not handled: {tries}"


def _doubled(e: Evidence, rules: Rules) -> Iterator[str]:
    """D."""
    by_id = _by_id(e)
    for id_, copies in by_id.items():
        if id_ is None:
            yield f"{len(copies)} stored messages have no id: #{_few(c.seq for c in copies)}"
        elif len(copies) > 1:
            yield f"{id_} is stored {len(copies)} times: {_few(f'#{c.seq} at {c.t:.3f}' for c in copies)}"


def _disordered(e: Evidence, rules: Rules) -> Iterator[str]:
    """O."""
    yield from _stored_out_of_order(e)
    if rules.in_order == "group":
        every = [(w, h) for w in workers(e) for h in w.handlings]
        yield from _handled_out_of_order("the group", every, lambda h: "the stream")
    for w in workers(e):
        if rules.in_order == "worker":
            lost = lost_on_the_way(e) if rules.lost_on_the_way else set[str]()
            kept = [(w, h) for h in w.handlings if h.id not in lost]
            yield from _handled_out_of_order(w.who, kept, lambda h: h.key and f"key {h.key}")
        yield from _overlapping(w)


def lost_on_the_way(e: Evidence) -> set[str]:
    """Messages whose first delivery no handler saw."""
    every = [h for w in workers(e) for h in w.handlings]
    return {h.id for h in every} - {h.id for h in every if h.attempt == 1}


def _stored_out_of_order(e: Evidence) -> Iterator[str]:
    place = {s.id: s.seq for s in e.stored}
    lanes: defaultdict[tuple[str, str], list[Sent]] = defaultdict(list)
    for p, sent, _ in acked(e):
        if sent.key is not None and sent.id in place:
            lanes[p.who, sent.key].append(sent)
    for (who, key), lane in lanes.items():
        lane.sort(key=lambda s: s.n)
        for a, b in pairwise(lane):
            if place[b.id] < place[a.id]:
                yield (
                    f"key {key} of {who}: {b.id} was sent after {a.id} and is stored before it "
                    f"(#{place[b.id]} < #{place[a.id]})"
                )


def _handled_out_of_order(
    who: str, handlings: Iterable[tuple[Ledger, Handling]], lane: Callable[[Handling], str | None]
) -> Iterator[str]:
    first: dict[str, tuple[Ledger, Handling]] = {}
    for w, h in sorted(handlings, key=lambda x: x[1].end or 0):
        if h.how == "ok" and lane(h):
            first.setdefault(h.id, (w, h))
    latest: dict[str | None, tuple[Ledger, Handling]] = {}
    for w, h in sorted(first.values(), key=lambda x: x[1].start):
        before = latest.get(lane(h))
        if before and before[1].seq > h.seq:
            b = before[1]
            yield (
                f"{lane(h)} at {who}: #{h.seq} {h.id} (attempt {h.attempt}, {w.who}) was first handled "
                f"at {h.start:.3f}, after #{b.seq} {b.id} (attempt {b.attempt}, {before[0].who}) at {b.start:.3f}"
            )
        else:
            latest[lane(h)] = (w, h)


def _overlapping(w: Ledger) -> Iterator[str]:
    lanes: defaultdict[str, list[Handling]] = defaultdict(list)
    for h in w.handlings:
        if h.key is not None:
            lanes[h.key].append(h)
    for key, lane in lanes.items():
        lane.sort(key=lambda h: h.start)
        running = lane[0]
        for h in lane[1:]:
            if running.end is None or running.end > h.start:
                until = "did not end" if running.end is None else f"ran until {running.end:.3f}"
                yield f"key {key} at {w.who}: {h.id} was started at {h.start:.3f} while {running.id} {until}"
            if h.end is None or running.end is None or h.end > running.end:
                running = h


def _late(e: Evidence, rules: Rules) -> Iterator[str]:
    """H."""
    for p in producers(e):
        sends = Counter(s.id for s in p.sent)
        ends: defaultdict[str, list[Ended]] = defaultdict(list)
        for end in p.ended:
            ends[end.id].append(end)
        deadline = {s.id: s.deadline for s in p.sent}
        for id_, due in deadline.items():
            got = ends.get(id_, [])
            if len(got) < sends[id_]:
                yield f"{id_} of {p.who} has no outcome, {sends[id_] - len(got)} of {sends[id_]} sends"
            elif len(got) > sends[id_]:
                yield f"{id_} of {p.who} has {len(got)} outcomes: {_few(x.how for x in got)}"
            elif got[0].t > due + rules.slack:
                yield f"{id_} of {p.who} ended ({got[0].how}) {got[0].t - due:.2f} s after its deadline"
        for id_ in ends.keys() - deadline.keys():
            yield f"{id_} of {p.who} has an outcome and was never sent"


def first_after(ledgers: Iterable[Ledger], t: float) -> tuple[float | None, float | None]:
    """When the first message that was sent after `t` was acked, and when one was handled.

    Acks and messages that were on their way all the time prove nothing.
    """
    every = list(ledgers)
    sent = {s.id for ledger in every for s in ledger.sent if s.t > t}
    acks = (x.t for ledger in every for x in ledger.ended if x.how == "acked" and x.t > t and x.id in sent)
    starts = (h.start for ledger in every for h in ledger.handlings if h.start > t and h.id in sent)
    return min(acks, default=None), min(starts, default=None)


def _stalled(e: Evidence, rules: Rules) -> Iterator[str]:
    """R."""
    for fault in e.faults:
        ack, handling = first_after(e.ledgers, fault.heal)
        for what, first, asked in (("acked", ack, producers(e)), ("handled", handling, workers(e))):
            after = None if first is None else first - fault.heal
            if asked and (after is None or after > rules.resume):
                when = "none was" if after is None else f"the first was after {after:.2f} s"
                yield (
                    f"nothing sent after the end of {fault.name!r} at {fault.heal:.3f} was {what} "
                    f"within {rules.resume:.0f} s: {when}"
                )


def _held(e: Evidence, rules: Rules) -> Iterator[str]:
    """M."""
    for ledger in e.ledgers:
        base = [u for u in e.usages if u.who == ledger.who and u.when == "baseline"]
        end = [u for u in e.usages if u.who == ledger.who and u.when == "end"]
        if base and not end:
            yield f"{ledger.who} never came to rest"
        if not base or not end:
            continue
        if end[-1].rss > base[0].rss + rules.growth:
            before, after = base[0].rss / 2**20, end[-1].rss / 2**20
            yield f"{ledger.who} holds {after:.1f} MiB at rest, {before:.1f} MiB at its baseline"
        if end[-1].fds > base[0].fds + rules.fds:
            yield f"{ledger.who} holds {end[-1].fds} descriptors at rest, {base[0].fds} at its baseline"
        if not ledger.metrics:
            yield f"{ledger.who} told no metrics"
        elif left := ledger.metrics[-1].unsettled_sends:
            yield f"{ledger.who} has {left} sends in flight at the end"
        elif left := ledger.metrics[-1].unsettled_messages:
            yield f"{ledger.who} has {left} messages unsettled at the end"


def _crashed(e: Evidence, rules: Rules) -> Iterator[str]:
    """X."""
    for x in e.exits:
        if x.code != x.expected:
            how = "did not end in its time" if x.code is None else f"ended with {x.code}"
            yield f"{x.who} {how}, expected {x.expected}: {x.stderr.strip()[-300:] or 'nothing on stderr'}"
        if found := _AWFUL.search(x.stderr):
            at = max(0, found.start() - 150)
            yield f"{x.who} wrote {found[0]!r} on stderr: …{x.stderr[at : found.end() + 150].strip()}…"


def _lied(e: Evidence, rules: Rules) -> Iterator[str]:
    """T."""
    stored = {s.id for s in e.stored}
    for p in producers(e):
        for end in p.ended:
            if end.how in ("rejected", "refused") and end.id in stored:
                yield f"{end.id} of {p.who} was {end.how} ({end.error and end.error.code}) and is stored all the same"
        errors = [end.error for end in p.ended if end.error]
        for error in (*errors, *p.errors):
            if error.code not in rules.codes:
                yield f"{p.who} was told {error.code} ({error.text}); expected {_few(sorted(rules.codes)) or 'none'}"
        yield from _nameless(p, (*errors, *p.errors), rules)
    for w in workers(e):
        yield from _nameless(w, w.errors, rules)


def _nameless(ledger: Ledger, errors: Iterable[Told], rules: Rules) -> Iterator[str]:
    faulty: Counter[tuple[str, str]] = Counter()
    example: dict[tuple[str, str], str] = {}
    for error in errors:
        missing = [name for name in rules.names if not getattr(error, name)]
        if missing and error.code != "backpressure":
            kind = error.code, " and ".join(missing)
            faulty[kind] += 1
            example.setdefault(kind, error.text)
    for (code, missing), count in faulty.items():
        yield f"{count} errors {code} told to {ledger.who} do not name their {missing}: {example[code, missing]}"


_CHECKS: dict[str, Callable[[Evidence, Rules], Iterator[str]]] = {
    "L": _lost,
    "D": _doubled,
    "O": _disordered,
    "H": _late,
    "R": _stalled,
    "M": _held,
    "X": _crashed,
    "T": _lied,
}
