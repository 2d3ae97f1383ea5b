"""What the rows of clusters ask beyond the invariants, each with a planted violation; what the short form must have."""

from __future__ import annotations

import dataclasses
from typing import Any

from .audit import audit
from .checks import acked_by_nobody, each_resumed, never_still, none_told
from .cluster import behind
from .evidence import Fault
from .ledger import parse
from .rows import ROWS
from .schedule import plans
from .test_checker import STREAM, Book


def test_errors_that_reach_the_application() -> None:
    """An error of a producer, of a worker, a handler made to fail: each is told, and a kill in a handler is none."""
    b = Book()
    assert list(none_told(b.evidence())) == []
    b.handled(5, 6.8, how=None)
    assert list(none_told(b.evidence())) == []
    error = {"e": "error", "t": 7.0, "code": "connection", "text": "why"}
    for book in (b.producer, b.worker):
        book.append(error)
    b.handled(6, 6.9, how="cancelled")
    assert [v.text for v in none_told(b.evidence())] == [
        "p1 was told connection (why) at 7.000",
        "w1 was told connection (why) at 7.000",
        "the handling of p1-6 at w1 ended cancelled",
    ]


def test_traffic_that_stands_still() -> None:
    """A pause is told even where no fault is; acks and handlings each by themselves."""
    b = Book()
    assert list(never_still(b.evidence(), 1)) == []
    b.message(13, t=12.0)
    assert [v.text for v in never_still(b.evidence(), 5)] == [
        "nothing was acked for 6.0 s, expected 5 s at most",
        "nothing was handled for 6.0 s, expected 5 s at most",
    ]
    b.unhandle(13)
    assert [v.text[:17] for v in never_still(b.evidence(), 5)] == ["nothing was acked"]


def test_acks_that_no_majority_gave() -> None:
    """Sent and acked while the fault lasted, by a producer it concerns; not what was sent before or acked after it."""
    b, fault = Book(), Fault("SIGSTOP n2 and n3", 1.8, 3.2)
    assert list(acked_by_nobody(b.evidence(), fault, ["p2"])) == []
    assert list(acked_by_nobody(b.evidence(), Fault("short", 1.505, 1.9), ["p1"])) == []
    found = [v.text for v in acked_by_nobody(b.evidence(), fault, ["p1"])]
    assert len(found) == 3
    assert found[0] == (
        "p1-4 was acked to p1 at 2.010 as #4, one of 3 sent and acked while 'SIGSTOP n2 and n3' kept it from a majority"
    )
    for id_ in ("p1-4", "p1-5", "p1-6"):
        b.line("acked", id_)["t"] = 3.3
    assert list(acked_by_nobody(b.evidence(), fault, ["p1"])) == []


def test_a_producer_that_does_not_resume() -> None:
    """Another one's acks are no help to it, though R of the whole is content with them."""
    b = Book()
    assert list(each_resumed(b.evidence())) == []
    other = parse(
        "p2",
        [
            {"e": "hello", "t": 0.0, "role": "producer", "pid": 3},
            {"e": "sent", "t": 4.0, "id": "p2-1", "key": None, "n": 1, "within": 20},
            {"e": "acked", "t": 17.0, "id": "p2-1", "stream": STREAM, "seq": 99, "dup": False},
        ],
    )
    e = dataclasses.replace(b.evidence(), ledgers=[*b.ledgers(), other])
    assert audit(e, "R") == []
    [found] = each_resumed(e)
    assert found.invariant == "R"
    assert found.text == ("nothing p2 sent after the end of 'SIGKILL' was acked in time: the first was after 14.00 s")


def test_a_cluster_that_is_not_whole() -> None:
    """What an operator looks at before the next server may go: each lack is told."""

    def report(name: str, *, current: bool = True, leader: str = "n1", health: str = "ok") -> dict[str, Any]:
        replicas = [{"name": f"n{i}", "current": current} for i in (1, 2, 3) if f"n{i}" != name]
        cluster = {"leader": leader, "replicas": replicas}
        stream = {"name": "S", "cluster": cluster, "consumer_detail": [{"name": "d", "cluster": cluster}]}
        accounts = [{"stream_detail": [stream]}]
        return {"health": {"status": health}, "meta_cluster": cluster, "account_details": accounts}

    def lacks(**changed: dict[str, Any]) -> list[str]:
        return list(behind({**{n: report(n) for n in ("n1", "n2", "n3")}, **changed}))

    assert lacks() == []
    # What is not the leader does not know.
    assert lacks(n2=report("n2", current=False)) == []
    behind_n2, *_ = lacks(n1=report("n1", current=False))
    assert behind_n2 == "meta group is not current on n2"
    assert "stream S is not current on n3" in lacks(n1=report("n1", current=False))
    assert "consumer d of S is not current on n3" in lacks(n1=report("n1", current=False))
    assert lacks(n3=report("n3", health="unavailable")) == ["n3 is not healthy: {'status': 'unavailable'}"]
    assert lacks(n1=report("n1", leader="n2")) == [
        "meta group has 0 leaders",
        "stream S has 0 leaders",
        "consumer d of S has 0 leaders",
    ]
    assert "meta group has 0 leaders" in lacks(n1={"health": {}})
    assert "n1 is not healthy: no answer" in lacks(n1={"health": {}})


def test_the_short_form_meets_every_version() -> None:
    """With every row among them, and in both languages; the long form leaves nothing out."""
    row = ROWS[25]
    short, whole = (plans([row], ("python", "node"), whole=w) for w in (False, True))
    for part in range(2):
        assert {p.case.split(", ")[part] for p in short} == {p.case.split(", ")[part] for p in whole}
    assert {p.language for p in short} == {"python", "node"}
    assert len(whole) == 2 * len(row.cases)
