"""What a bus is told: topics, settings, the environment; and the classes of what it says is wrong with them."""

from __future__ import annotations

import pickle
import re
from pathlib import Path

import nats_eventbus as eb
import pytest
from nats_eventbus import errors

from tests.support.server import Server

ROOT = Path(__file__).parents[2]


def test_error_classes_are_the_cores() -> None:
    """Errors: one class tree, one stable code per kind, the same in every language."""
    row = re.compile(r"^\| `(\w+)` \| `([\w.]+)` \| `(\w+)` \| (yes)? *\|", re.MULTILINE)
    kinds = row.findall((ROOT / "docs" / "reference.md").read_text())
    assert {k[0] for k in kinds} == set(errors.CLASSES)
    for name, code, parent, retryable in kinds:
        cls = errors.CLASSES[name]
        assert (cls.code, cls.retryable) == (code, bool(retryable))
        assert cls.__bases__[0].__name__ == parent
        assert getattr(eb, name) is cls
        assert pickle.loads(pickle.dumps(cls("x"))).args == ("x",)


def test_topics_from_untrusted_parts() -> None:
    """Topics: a token with '.', wildcards, white space or control characters is an error, not an escape."""
    assert eb.topic("coze", "workflow", "42", "done") == "coze.workflow.42.done"
    for bad in ["a.b", "*", ">", "a b", "a\n", ""]:
        with pytest.raises(eb.InvalidTopic):
            eb.topic("coze", bad)


async def test_unknown_settings_are_errors(jetstream: Server) -> None:
    """Config: unknown keys, bad times and bad environment are errors naming the setting."""
    with pytest.raises(eb.ConfigError, match="connect_timeout"):
        await eb.connect(jetstream.url, connect_timeout="soon")
    with pytest.raises(eb.ConfigError, match="jitter"):
        await eb.connect(jetstream.url, reconnect=eb.Backoff(jitter=3))
    with pytest.raises(TypeError, match="sever"):
        eb.connect(sever="x")  # pyright: ignore[reportCallIssue]
    bus = await eb.connect(jetstream.url, jetstream=True)
    with pytest.raises(eb.ConfigError, match="dedupe"):
        await bus.producer("too.patient", delivery_timeout=300).send(b"x")
    await bus.close()


async def test_the_platforms_environment(jetstream: Server, monkeypatch: pytest.MonkeyPatch, topic: str) -> None:
    """Environment contract: no argument = the platform's variables; explicit beats environment."""
    monkeypatch.setenv("NATS_SERVER_URL", jetstream.url)
    monkeypatch.setenv("NATS_USE_JETSTREAM", "true")
    async with eb.connect() as bus:
        ack = await bus.producer(topic).send(b"x")
        assert ack is not None
    monkeypatch.setenv("COZE_MQ_TYPE", "kafka")
    with pytest.raises(eb.ConfigError, match="COZE_MQ_TYPE"):
        await eb.connect()
