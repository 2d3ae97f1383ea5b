"""What rows ask of attempts and shares: who failed how often, who is a dead letter for it, who had how much. Pure."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from itertools import permutations

from .audit import workers
from .checks import handlings
from .evidence import Evidence, Violation
from .ledger import Ledger

NO_FAILURE = ("ok", "nak", None)
"""How a handling ends that is no failure of ours: well, given back by another client, or with its process."""


def failures_shown(e: Evidence, ids: Iterable[str], *, but: Iterable[str] = ()) -> Iterator[Violation]:
    """Each handling of ours was shown how often handlers had failed on the message, deliveries without one apart.

    `but`: workers on another client, which show none.
    """
    silent, wrong = list[str](), list[str]()
    others = {id(h) for w in workers(e) if w.who in set(but) for h in w.handlings}
    found = handlings(e)
    for id_ in ids:
        failed = 0
        for h in found.get(id_, []):
            if id(h) not in others and h.failures is None:
                silent.append(id_)
            elif id(h) not in others and h.failures != failed:
                wrong.append(f"{id_} in attempt {h.attempt} had failures {h.failures}, expected {failed}")
            failed += h.how not in NO_FAILURE
    if silent:
        yield Violation("row", f"{len(silent)} handlings were not shown the message's failures, first of {silent[0]}")
    if wrong:
        yield Violation("row", f"{wrong[0]}, one of {len(wrong)} such handlings")


def blamed(e: Evidence, id_: str, least: int) -> Iterator[Violation]:
    """A dead letter says how often handlers failed or died: `least` times or more, and no more than began."""
    began = len(handlings(e).get(id_, []))
    for letter in e.letters:
        if letter.headers.get("Dlq-Id") != id_:
            continue
        text = letter.headers.get("Dlq-Failures", "")
        if not text.isdecimal():
            yield Violation("row", f"the dead letter of {id_} has the Dlq-Failures {text!r}, expected a number")
        elif not least <= int(text) <= began:
            yield Violation("row", f"the dead letter of {id_} says {text} failures, expected {least} to {began}")


def handled_well(e: Evidence, ids: Iterable[str]) -> Iterator[Violation]:
    """A handler of each ended well, at least once."""
    found = handlings(e)
    for id_ in ids:
        hows = [h.how for h in found.get(id_, [])]
        if "ok" not in hows:
            yield Violation("row", f"{id_} was never handled to its end: its handlings ended {hows}")


def nothing_left(left: int) -> Iterator[Violation]:
    """By the server's count, all messages of the group are settled."""
    if left:
        yield Violation("row", f"{left} messages are left to the group, by the server's count")


def _since(w: Ledger, soon: float) -> float:
    """From when a worker could have had work: its first message, or a moment after it began, whichever is earlier."""
    return min([*(h.start for h in w.handlings[:1]), w.began + soon])


def shares(e: Evidence, *, within: int = 2, soon: float = 1.0) -> Iterator[Violation]:
    """Equal workers of a group had equal shares of the work, one that came late a share by its time.

    Any two that were there equally long had numbers of jobs that differ by `within` at most, beyond what their times
    make of it; where their times differ by half a job or more, one job more, for there is no part of a job.
    `soon`: seconds after its beginning in which the first message must come to a worker.
    """
    ends = [h.start for w in workers(e) for h in w.handlings]
    if not ends:
        yield Violation("row", "no worker handled anything")
        return
    lives = {w.who: max(max(ends) - _since(w, soon), 0.0) for w in workers(e)}
    had = {w.who: sum(h.how == "ok" for h in w.handlings) for w in workers(e)}
    due = fair(sum(had.values()), lives)

    def beyond(pair: tuple[str, str]) -> float:
        a, b = pair
        gap = due[a] - due[b]
        return had[a] - had[b] - gap - within - (abs(gap) >= 0.5)

    most, least = max(permutations(had, 2), key=beyond, default=("", ""))
    if most and beyond((most, least)) > 0:
        each = ", ".join(f"{who} {had[who]} of {due[who]:.1f}" for who in had)
        yield Violation("row", f"{most} had too many jobs and {least} too few, expected within {within}: {each}")


def fair(jobs: int, lives: Mapping[str, float]) -> dict[str, float]:
    """Splits a number of jobs by the time each worker was there, in seconds."""
    whole = sum(lives.values())
    return {who: jobs * life / whole if whole else 0.0 for who, life in lives.items()}


def healthy(ledger: Ledger, times: int) -> Iterator[Violation]:
    """The bus answered `times` times, and each time that it is well and its consumer open."""
    if len(ledger.healths) < times:
        yield Violation("row", f"{ledger.who} was asked {times} times how it is, and answered {len(ledger.healths)}")
    for h in ledger.healths:
        if not h.ok:
            yield Violation("row", f"{ledger.who} says that it is not well: {h.problems}")
        elif not h.consumers:
            yield Violation("row", f"{ledger.who} says that it is well, and has no consumer")
