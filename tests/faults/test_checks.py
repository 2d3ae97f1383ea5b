"""What rows ask of errors, events and connections: each check is silent where all is well, and tells what is wrong."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from .checks import in_clear, no_secret, refused, told, turned_away, unbroken, unsent
from .evidence import Exit, Violation
from .ledger import Ledger, parse
from .test_checker import Book


def _event(b: Book, t: float, kind: str, cause: str = "why", server: str = "s:1") -> None:
    b.producer.append({"e": "event", "t": t, "kind": kind, "cause": cause, "server": server, "topic": None})


def _text(found: Iterable[Violation]) -> str:
    [one] = found
    return one.text


def test_what_is_told_of_a_connection() -> None:
    """An event in time, of the server, with its cause; an error of `connect`; a connection that lives."""
    b = Book()
    b.producer[-1]["counts"]["reconnects"] = 0
    assert not list(unbroken(b.ledgers()[0]))
    _event(b, 3.0, "auth_failed", "expired")
    p = b.ledgers()[0]
    assert not list(told(p, "auth_failed", 2.5, 1, server="s:1", cause="EXPIRED"))
    assert "was never told 'closed'" in _text(told(p, "closed", 0, 5))
    assert "only ['auth_failed: expired']" in _text(told(p, "auth_failed", 0, 5, cause="revoked"))
    assert "was never told" in _text(told(p, "auth_failed", 3.1, 1))
    assert "after 1.50 s, expected 1 s" in _text(told(p, "auth_failed", 1.5, 1))
    assert "names the server 's:1', expected 's:2'" in _text(told(p, "auth_failed", 2.5, 1, server="s:2"))
    _event(b, 4.0, "disconnected", "the server hung up")
    assert "lost its connection 1 times, first because of 'the server hung up'" in _text(unbroken(b.ledgers()[0]))
    b.producer.pop()
    b.producer[-2]["counts"]["reconnects"] = 2
    assert "counts 2 reconnects" in _text(unbroken(b.ledgers()[0]))

    def late(*errors: dict[str, Any]) -> Ledger:
        lines = [{"e": "error", "code": "connection.auth", "text": "no: s:1", **e} for e in errors]
        return parse("p2", [{"e": "hello", "t": 1.0, "role": "producer", "pid": 3}, *lines])

    assert not list(turned_away(late({"t": 2.0}), "connection.auth", 2, words=["s:1"]))
    assert "told 0 errors" in _text(turned_away(late(), "connection.auth", 2, words=[]))
    assert "told 2 errors" in _text(turned_away(late({"t": 2.0}, {"t": 2.1}), "connection.auth", 2, words=[]))
    assert "expected connection.tls" in _text(turned_away(late({"t": 2.0}), "connection.tls", 2, words=[]))
    assert "after 2.50 s" in _text(turned_away(late({"t": 3.5}), "connection.auth", 2, words=[]))
    assert "does not name 's:2'" in _text(turned_away(late({"t": 2.0}), "connection.auth", 2, words=["s:2"]))


def test_what_leaks() -> None:
    """A secret in an outcome, in an error, in an event, on stderr; words on the wire; what was rejected, sent."""
    secret = {"the password": "hunter2"}
    assert not list(no_secret(Book().evidence(), secret))
    for leak in ("outcome", "error", "event", "stderr"):
        b = Book()
        if leak == "outcome":
            b.fail("p1-3", "rejected", "publish.rejected", topic="faults.events")
            b.line("rejected", "p1-3")["text"] = "hunter2 is wrong"
        elif leak == "error":
            b.worker.append({"e": "error", "t": 9.0, "code": "connection", "text": "hunter2@host"})
        elif leak == "event":
            _event(b, 3.0, "connecting", "hunter2 was refused")
        else:
            b.exits[1] = Exit("w1", 0, 0, "debug: hunter2")
        found = _text(no_secret(b.evidence(), secret))
        assert "the password was told 1 times" in found
        assert "hunter2" not in found
    assert not list(in_clear(b"\x17\x03\x03", {"the topic": b"faults.events"}))
    assert "the topic was sent in clear, first at byte 4" in _text(
        in_clear(b"PUB faults.events", {"the topic": b"fau"})
    )
    b = Book()
    b.fail("p1-3", "rejected", "publish.rejected.too_large")
    p = b.ledgers()[0]
    assert not list(unsent(p, {"p1-2", "p1-4"}))
    assert "p1-3 was rejected (publish.rejected.too_large) and was sent" in _text(unsent(p, {"p1-2", "p1-3"}))
    t, code = "faults.events", "publish.rejected.too_large"
    assert not list(refused(p, "p1-3", code, 1, topic=t, words="why"))
    assert "names the topic" in _text(refused(p, "p1-3", code, 1, topic="other"))
    assert "does not say 'limit'" in _text(refused(p, "p1-3", code, 1, topic=t, words="limit"))
    assert "after 0.01 s, expected 0 s" in _text(refused(p, "p1-3", code, 0.001, topic=t))
    assert "expected permission" in _text(refused(p, "p1-3", "permission", 1, topic=t))
    assert "p1-4 ended with acked, expected permission" in _text(refused(p, "p1-4", "permission", 1, topic=t))
    assert "p1-99 has no outcome" in _text(refused(p, "p1-99", "permission", 1, topic=t))
