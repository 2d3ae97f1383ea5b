"""The error classes as Python code meets them: caught as Python's own, pickled, copied, shown."""

from __future__ import annotations

import asyncio
import builtins
import copy
import errno
import pickle
from collections.abc import Callable

import nats_eventbus as eb
import pytest
from nats_eventbus.errors import CLASSES

from tests.support.server import Server, free_port

KINDS = sorted(CLASSES.values(), key=lambda kind: kind.__name__)
OS = [kind for kind in KINDS if issubclass(kind, OSError)]


def test_kinds_are_pythons_own_where_it_has_one() -> None:
    """Errors: ``except ValueError``, ``TimeoutError``, ``ConnectionError`` and ``PermissionError`` catch ours."""
    pythons: dict[type[BaseException], set[type[eb.EventBusError]]] = {
        ValueError: {eb.ConfigError, eb.InvalidTopic, eb.InvalidHeader, eb.DecodeError},
        TimeoutError: {eb.Timeout},
        builtins.ConnectionError: {eb.ConnectionError, eb.AuthError, eb.TlsError},
        builtins.PermissionError: {eb.PermissionError},
    }
    for kind, ours in pythons.items():
        assert {k for k in KINDS if issubclass(k, kind)} == ours, kind
    assert set(OS) == {eb.Timeout, eb.ConnectionError, eb.AuthError, eb.TlsError, eb.PermissionError}


@pytest.mark.parametrize("kind", [eb.EventBusError, *KINDS], ids=lambda kind: kind.__name__)
def test_an_error_is_made_like_any_exception(kind: type[eb.EventBusError]) -> None:
    """Errors: without a text, with one, with fields; OSError's own making does not get in the way."""
    assert str(kind()) == ""
    assert kind().args == ()
    e = kind("it went wrong", topic="a.b", stream="S", group="g", server="no", id="7", failures=[kind("one")])
    assert type(e) is kind
    assert str(e) == "it went wrong"
    assert e.args == ("it went wrong",)
    assert repr(e) == f"{kind.__name__}('it went wrong')"
    assert (e.topic, e.stream, e.group, e.server, e.id) == ("a.b", "S", "g", "no", "7")
    assert [str(f) for f in e.failures] == ["one"]


@pytest.mark.parametrize("kind", OS, ids=lambda kind: kind.__name__)
def test_an_os_error_takes_a_number_too(kind: type[eb.EventBusError]) -> None:
    """Errors: what is an OSError may be made of a number and a text, and stays of its kind."""
    # OSError itself would pick BrokenPipeError for this number.
    e = kind(errno.EPIPE, "broken", topic="a")
    assert type(e) is kind
    assert isinstance(e, OSError)
    assert (e.errno, e.strerror, str(e), e.topic) == (errno.EPIPE, "broken", "[Errno 32] broken", "a")
    again = pickle.loads(pickle.dumps(e))
    assert (type(again), again.args, again.errno, again.topic) == (kind, e.args, errno.EPIPE, "a")


COPIES: dict[str, Callable[[eb.EventBusError], eb.EventBusError]] = {
    "copy": copy.copy,
    "deepcopy": copy.deepcopy,
    **{f"pickle {n}": lambda e, n=n: pickle.loads(pickle.dumps(e, n)) for n in range(pickle.HIGHEST_PROTOCOL + 1)},
}


@pytest.mark.parametrize("way", COPIES)
@pytest.mark.parametrize("kind", [eb.EventBusError, *KINDS], ids=lambda kind: kind.__name__)
def test_a_copy_says_the_same(kind: type[eb.EventBusError], way: str) -> None:
    """Errors: pickled, as process pools and task queues do, and copied, nothing is lost."""
    e = kind("it went wrong", topic="a.b", stream="S", group="g", server="no", id="7", failures=[kind("one")])
    e.add_note("seen by a test")
    again = COPIES[way](e)
    assert type(again) is kind
    assert (str(again), repr(again), again.args) == (str(e), repr(e), e.args)
    assert (again.code, again.retryable) == (kind.code, kind.retryable)
    assert (again.topic, again.stream, again.group, again.server, again.id) == ("a.b", "S", "g", "no", "7")
    assert [(type(f), str(f)) for f in again.failures] == [(kind, "one")]
    assert again.__notes__ == ["seen by a test"]


async def test_python_code_catches_them_by_its_own_names(bus: eb.Bus, password: Server, topic: str) -> None:
    """Errors: real failures are caught by the classes of Python that mean the same."""
    with pytest.raises(ValueError, match="ping_interval"):
        await eb.connect(password.url, ping_interval=-1)
    with pytest.raises(builtins.ConnectionError):
        await eb.connect(f"nats://127.0.0.1:{free_port()}")
    with pytest.raises(builtins.ConnectionError):
        await eb.connect(password.url, user="app", password="wrong")

    asked = asyncio.Event()

    async def answer(_: eb.Message) -> None:
        await asked.wait()

    await bus.respond(topic, answer)
    with pytest.raises(TimeoutError):
        await bus.request(topic, b"x", timeout=0.1)
    asked.set()
