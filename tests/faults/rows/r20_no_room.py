"""Row 20: stream full with discard new; disk full.

A full stream rejects every send, at once, and takes them again when it is made larger. On a full disk the server says
nothing: sends end unknown by their deadline, none is acked that is not stored. It does not try the disk again by
itself: once there is room it has to be started anew.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncGenerator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path

from nats.js.api import DiscardPolicy

from ..audit import audit
from ..checks import unbroken
from ..children import Child
from ..evidence import Evidence, Rules
from ..rig import Rig, Skipped
from ..run import Row

SOON = 1.0
FULL = "publish.rejected.stream_full"


def _failed(producer: Child, code: str) -> int:
    return sum(x.error is not None and x.error.code == code for x in producer.ledger.ended)


async def _stream(rig: Rig) -> Evidence:
    server = await rig.server()
    room = 200
    await rig.prepare(server.url, max_msgs=room, discard=DiscardPolicy.NEW)
    producer, worker = rig.producer(server.url), rig.worker(server.url)
    await rig.flowing(producer, worker)
    for _ in range(4 if rig.long else 1):
        async with rig.fault("stream full"):
            before = _failed(producer, FULL)
            await rig.until(lambda n=before: _failed(producer, FULL) > n + 100, 20, "rejections of a full stream")
            room += 1500
            async with await rig.witness(server.url) as w:
                config = (await w.js.stream_info(rig.stream)).config
                config.max_msgs = room
                await w.js.update_stream(config)  # pyright: ignore[reportUnknownMemberType]
        await rig.resumed()
    await rig.settle()
    e = await rig.evidence(server.url)
    sent = {s.id: s.t for s in producer.ledger.sent}
    slow = max((x.t - sent[x.id] for x in producer.ledger.ended if x.how == "rejected"), default=0.0)
    rig.facts["slowest rejection"] = f"{slow:.2f} s"
    rig.require(slow < SOON, "T", f"that the stream is full was told after {slow:.2f} s, expected {SOON:.0f} s")
    rig.require(len(e.stored) <= room, "row", f"{len(e.stored)} messages are stored, and there was room for {room}")
    rig.violations += audit(e, "T", Rules(codes=frozenset({FULL})))
    rig.violations += unbroken(producer.ledger)
    return e


async def _run(*command: str) -> str:
    """What it said on stderr if it failed; empty if not."""
    try:
        process = await asyncio.create_subprocess_exec(*command, stderr=asyncio.subprocess.PIPE)
    except OSError as e:
        return str(e)
    _, err = await process.communicate()
    return (err.decode().strip() or f"{command[0]} failed") if process.returncode else ""


@asynccontextmanager
async def _small_disk(folder: Path) -> AsyncGenerator[Path]:
    """A file system of 32 MiB in memory."""
    if not hasattr(os, "geteuid") or os.geteuid() != 0:
        raise Skipped("a small disk can be mounted by root alone")
    await asyncio.to_thread(folder.mkdir)
    if failed := await _run("mount", "-t", "tmpfs", "-o", "size=32m", "faults", str(folder)):
        raise Skipped(f"no small disk can be mounted here: {failed}")
    try:
        yield folder
    finally:
        # Lazily: a server that still runs is killed later.
        await _run("umount", "-l", str(folder))


async def _disk(rig: Rig) -> Evidence:
    async with _small_disk(rig.folder / "disk") as disk:
        # A little room, and the rest as soon as the ballast is thrown off.
        ballast = disk / "ballast"
        config = f'jetstream {{ store_dir: "{disk}/js", max_file_store: 10TB }}'
        server = await rig.server(jetstream=False, config=config)
        await rig.prepare(server.url)
        producer = rig.producer(server.url, within=2.0, size=4096, rate=200)
        worker = rig.worker(server.url)
        await rig.flowing(producer, worker)
        for _ in range(3 if rig.long else 1):
            async with rig.fault("disk full"):
                before = _failed(producer, "publish.unknown")
                await asyncio.to_thread(_fill, ballast)
                await rig.until(lambda n=before: _failed(producer, "publish.unknown") > n + 100, 20, "sends that fail")
                ballast.unlink()
                server.kill()
                await server.start()
            await rig.resumed()
        await rig.settle()
        e = await rig.evidence(server.url)
        log = (rig.folder / "server" / "log").read_text()
        rig.require("no space left on device" in log, "rig", "the disk was never full")
        rig.violations += audit(e, "T")
        return e


def _fill(ballast: Path) -> None:
    """Takes all the room there is."""
    with contextlib.suppress(OSError), ballast.open("wb", buffering=0) as f:
        while f.write(b"x" * (64 << 10)):
            pass


CASES: dict[str, Callable[[Rig], Awaitable[Evidence]]] = {"stream full": _stream, "disk full": _disk}


async def scenario(rig: Rig) -> Evidence:
    """One of the cases."""
    return await CASES[rig.case](rig)


ROW = Row(20, "stream full with discard new; disk full", "LDHRX", scenario, cases=tuple(CASES))
