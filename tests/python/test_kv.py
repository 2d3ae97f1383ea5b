"""Key-value buckets from Python, and beside nats-py. Contract lines are named in the docstrings."""

from __future__ import annotations

import asyncio
import dataclasses
import itertools
from datetime import UTC, datetime, timedelta
from typing import Any

import nats
import nats_eventbus as eb
import pytest
from nats.js.errors import KeyNotFoundError

from tests.support.server import Server

_numbers = itertools.count()


@pytest.fixture
def bucket() -> str:
    return f"bucket-{next(_numbers)}"


async def test_writes_and_reads(bus: eb.Bus, bucket: str) -> None:
    """Key-value: put, get, create, update, delete and purge, by revision; values as bodies are."""
    kv = await bus.kv(bucket, create=eb.KvConfig(history=5))
    assert (kv.bucket, repr(kv)) == (bucket, f"<Kv bucket={bucket!r}>")
    assert await kv.get("a") is None
    assert [await kv.put("a", b"1"), await kv.put("a", {"n": 2**60}), await kv.put("b", "text")] == [1, 2, 3]
    entry = await kv.get("a")
    assert entry
    assert (entry.key, entry.revision, entry.operation, entry.json()) == ("a", 2, "put", {"n": 2**60})
    assert datetime.now(UTC) - entry.time < timedelta(minutes=1)
    assert repr(entry) == "<KvEntry key='a' revision=2 operation='put' value=25 bytes>"
    first, text = await kv.get("a", revision=1), await kv.get("b")
    assert first
    assert text
    assert (first.value, text.text()) == (b"1", "text")
    with pytest.raises(eb.ConflictError, match="revision 2"):
        await kv.create("a", b"x")
    with pytest.raises(eb.ConflictError, match="revision 2 and not 1"):
        await kv.update("a", b"x", 1)
    assert await kv.update("a", b"3", 2) == 4
    await kv.delete("a")
    assert await kv.get("a") is None
    assert await kv.keys() == ["b"]
    assert await kv.create("a", b"4") == 6
    assert [e.operation async for e in kv.history("a")] == ["put", "put", "put", "delete", "put"]
    await kv.purge("a")
    assert [e.operation async for e in kv.history("a")] == ["purge"]
    status = await kv.status()
    assert (status.bucket, status.history, status.storage) == (bucket, 5, "file")


async def test_watched(bus: eb.Bus, bucket: str) -> None:
    """Key-value: a watch gives what there is, then every change; it says when it has caught up."""
    kv = await bus.kv(bucket, create=eb.KvConfig())
    await kv.put("a.1", b"1")
    await kv.put("b", b"2")
    watch = kv.watch(["a.*"])
    first = await anext(watch)
    assert (first.key, first.initial, watch.caught_up) == ("a.1", True, False)
    waiting = asyncio.create_task(watch.next())
    await asyncio.sleep(0)
    waiting.cancel()
    await kv.delete("a.1")
    second = await anext(watch)
    assert (second.operation, second.initial, watch.caught_up) == ("delete", False, True)
    with pytest.raises(eb.ConfigError, match="give one"):
        kv.watch(history=True, updates_only=True)


async def test_times_to_live(bus: eb.Bus, bucket: str) -> None:
    """Key-value: a key with a time to live expires, its watchers are told so, and it can be created again."""
    kv = await bus.kv(bucket, create=eb.KvConfig(limit_marker_ttl="5s"))
    watch = kv.watch()
    await kv.put("k", b"1", ttl=1)
    assert [(await anext(watch)).operation, (await anext(watch)).operation] == ["put", "expired"]
    assert await kv.get("k") is None
    assert await kv.keys() == []
    assert await kv.create("k", b"2") == 3
    plain = await bus.kv(bucket + "-plain", create=eb.KvConfig())
    with pytest.raises(eb.NotSupportedError, match="limit_marker_ttl"):
        await plain.put("k", b"1", ttl=1)


async def test_one_that_exists(bus: eb.Bus, bucket: str) -> None:
    """Key-value: a bucket that exists stays as it is; other settings are a conflict, and none is an error."""
    with pytest.raises(eb.NotFoundError, match=bucket):
        await bus.kv(bucket)
    await bus.kv(bucket, create=eb.KvConfig(history=3))
    await bus.kv(bucket, create=eb.KvConfig())
    with pytest.raises(eb.ConflictError, match="history is 3 and 2"):
        await bus.kv(bucket, create=eb.KvConfig(history=2))
    for bad in ({"history": 0}, {"ttl": 0.1}, {"storage": "tape"}, {"replicas": 9}):
        with pytest.raises(eb.ConfigError):
            await bus.kv(bucket + "-bad", create=eb.KvConfig(**bad))  # pyright: ignore[reportArgumentType]
    kv = await bus.kv(bucket)
    for key in ("", "a b", "a..b", "*"):
        with pytest.raises(eb.ConfigError, match="key"):
            await kv.put(key, b"")


async def test_beside_nats_py(bus: eb.Bus, jetstream: Server, bucket: str) -> None:
    """Key-value: what nats-py writes is read here, and the other way round: values, deletions, buckets."""
    peer = await nats.connect(jetstream.url)  # pyright: ignore[reportUnknownMemberType]
    js: Any = peer.jetstream()  # pyright: ignore[reportUnknownMemberType]
    theirs: Any = await js.create_key_value(bucket=bucket, history=3)
    ours = await bus.kv(bucket)
    await theirs.put("a", b"1")
    found = await ours.get("a")
    assert found
    assert found.value == b"1"
    await ours.put("b", b"2")
    assert (await theirs.get("b")).value == b"2"
    await ours.delete("a")
    with pytest.raises(KeyNotFoundError):
        await theirs.get("a")
    await theirs.delete("b")
    assert await ours.get("b") is None
    assert await ours.keys() == []
    made = await bus.kv(bucket + "-ours", create=eb.KvConfig(history=2))
    await made.put("c", b"3")
    opened: Any = await js.key_value(bucket + "-ours")
    assert (await opened.get("c")).value == b"3"
    assert dataclasses.asdict(await made.status())["values"] == 1
    await peer.close()
