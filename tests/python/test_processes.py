"""Processes: forks, spawned ones, threads and loops, and the interpreter's end with everything live; from Python."""

from __future__ import annotations

import asyncio
import gc
import multiprocessing
import pickle
import re
import sys
import threading
import time
from collections.abc import Callable
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from pathlib import Path
from typing import Any

import nats_eventbus as eb
import pytest

from tests.support.server import Server

from .processes import ending, forking, spawned
from .test_docs import known
from .test_leaving import others_get

ROOT = Path(__file__).parents[2]

CLOSED = """
import asyncio, sys
import nats_eventbus as eb

async def main():
    bus = await eb.connect(sys.argv[1], jetstream=True)
    await bus.producer(sys.argv[2]).send(b"x")
    await bus.close()

asyncio.run(main())
"""


async def program(*args: str, within: float = 60) -> tuple[int | None, str, str]:
    """Runs Python to its end: the exit code, and what it wrote."""
    pipe = asyncio.subprocess.PIPE
    process = await asyncio.create_subprocess_exec(sys.executable, *args, stdout=pipe, stderr=pipe, cwd=ROOT)
    try:
        out, err = await asyncio.wait_for(process.communicate(), within)
    finally:
        if process.returncode is None:
            process.kill()
    return process.returncode, out.decode(), err.decode()


def descriptors() -> int:
    """How many this process has open."""
    return len(list(Path("/proc/self/fd").iterdir()))


async def test_interpreter_exit_is_clean_when_closed(jetstream: Server, topic: str) -> None:
    """Exit: no crash, no abort, no traceback, again and again, with everything closed."""
    for _ in range(3):
        ends = await asyncio.gather(*(program("-c", CLOSED, jetstream.url, topic) for _ in range(2)))
        assert ends == [(0, "", "")] * 2


ENDS: dict[str, tuple[int, str, str]] = {
    "live": (0, "", ""),
    "live on uvloop": (0, "", ""),
    "loop open": (0, "", ""),
    "atexit": (0, "closed", ""),
    "sys.exit in a handler": (7, "", ""),
    "sys.exit in a plain handler": (7, "", ""),
    "sys.exit in a run": (7, "", ""),
    "daemon threads": (0, "", ""),
    "an exception": (1, "", "the end"),
    "SIGINT": (9, "", ""),
}
"""Exit code, standard output, and the last line of standard error."""


def test_every_end_is_tested() -> None:
    assert ENDS.keys() == ending.CASES.keys()


def test_the_page_names_tests_that_exist() -> None:
    """Each claim of docs/processes.md has a test, and each test named there exists."""
    there = known()
    languages = {"Python": there.python, "Node": there.node}
    named = 0
    for section in (ROOT / "docs" / "processes.md").read_text().split("\n## ")[1:]:
        titles = languages[section.partition(":")[0].partition("\n")[0]]
        prefix = "test_processes::" if titles is there.python else "processes: "
        for claim in re.findall(r"^\| .* \| (.*) \|$", section, re.MULTILINE):
            if claim == "proved by":
                continue
            tests, rows = re.findall(r"`([^`\[]+)(?:\[\w+\])?`", claim), re.findall(r"row (\d+)", claim)
            assert tests or rows, claim
            assert not [t for t in tests if prefix + t not in titles], claim
            assert not [r for r in rows if there.rows and int(r) not in there.rows], claim
            named += len(tests)
    assert named > 20


@pytest.mark.parametrize("how", ENDS)
async def test_interpreter_exit_is_clean_with_everything_live(how: str, jetstream: Server, topic: str) -> None:
    """Exit: the same with a bus, an iteration, handlers, a responder, sends and requests live, however it is left."""
    code, out, last = ENDS[how]
    for n in range(2):
        ends = await asyncio.gather(
            *(program("-m", ending.__name__, jetstream.url, f"{topic}.{n}.{k}", how) for k in range(2))
        )
        for end in ends:
            assert end[:2] == (code, out), end
            assert end[2].strip().rpartition("\n")[2] == last, end[2]
            assert "panic" not in end[2]
            assert "Fatal" not in end[2]


async def test_what_a_handler_had_when_it_left_goes_to_others(jetstream: Server, topic: str) -> None:
    """`sys.exit` in a handler under `bus.run`: the bus is closed on the way out, the message is another's at once."""
    code, _, err = await program("-m", ending.__name__, jetstream.url, topic, "sys.exit in a run")
    assert (code, err) == (7, "")
    assert await others_get(jetstream, topic, 1) < 8


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
@pytest.mark.parametrize("case", forking.CASES)
async def test_fork(case: str, jetstream: Server, topic: str) -> None:
    """Fork: in the child a typed error at once, or a connection of its own; the parent, in traffic, is unharmed."""
    assert await program("-m", forking.__name__, jetstream.url, topic, case, within=110) == (0, "", "")


def test_spawned_processes(jetstream: Server, topic: str) -> None:
    """Spawn: a process connects for itself; a bus cannot be handed to it, and pickling says so."""
    with ProcessPoolExecutor(2, mp_context=multiprocessing.get_context("spawn")) as pool:
        results = list(pool.map(spawned.send_and_receive, [jetstream.url] * 4, [f"{topic}.{n}" for n in range(4)]))
    assert results == [[f"{n}" for n in range(10)]] * 4


async def test_a_bus_is_not_pickled(bus: eb.Bus, topic: str) -> None:
    """Spawn: what is of one process is not handed to another: pickling it is an error that names it."""
    producer = bus.producer(topic)
    consumer = await bus.consumer(topic, group="g")
    for o in (bus, producer, consumer):
        with pytest.raises(TypeError, match=f"cannot pickle .*{type(o).__name__}"):
            pickle.dumps(o)


def test_loops_in_threads_share_a_bus(jetstream: Server, topic: str) -> None:
    """Threads: several loops, each on its own thread, use one bus at a time, and one each besides."""
    count, each = 4, 200
    shared = asyncio.Runner()
    bus = shared.run(_opened(jetstream.url))

    async def work(n: int) -> set[str]:
        async with eb.connect(jetstream.url, jetstream=True) as own:
            got = set[str]()
            for b, t in ((bus, f"{topic}.shared{n}"), (own, f"{topic}.own{n}")):
                p, c = b.producer(t), await b.consumer(t, group="g")
                acks = await asyncio.gather(*(p.send(f"{t}-{k}") for k in range(each)))
                assert len({a.sequence for a in acks if a}) == each
                mine = 0
                async for m in c:
                    got.add(m.text())
                    m.ack()
                    mine += 1
                    if mine == each:
                        break
                await c.close()
            return got

    def on_a_loop(n: int) -> set[str]:
        return asyncio.run(work(n))

    with ThreadPoolExecutor(count) as pool:
        for n, got in enumerate(pool.map(on_a_loop, range(count))):
            assert got == {f"{topic}.{b}{n}-{k}" for b in ("shared", "own") for k in range(each)}
    shared.run(bus.close())
    shared.close()


async def _opened(url: str) -> eb.Bus:
    return await eb.connect(url, jetstream=True)


def test_sequential_loops_leave_nothing(run: Callable[[Any], Any], jetstream: Server, topic: str) -> None:
    """Loops: one after the other, each closed with sends, a flush, a request and a wait pending: nothing is held."""

    async def once() -> None:
        bus = await eb.connect(jetstream.url, jetstream=True)
        p, c = bus.producer(topic), await bus.consumer(topic, group="g")
        await p.send(b"x")
        calls = [*(p.send(b"x") for _ in range(50)), p.send_many([b"x"] * 50), p.flush()]
        calls += [asyncio.create_task(bus.request(topic, timeout=30)), asyncio.create_task(c.fetch(1000, 30))]
        await asyncio.sleep(0)
        del calls

    for _ in range(3):
        run(once())
    before = descriptors()
    for _ in range(10):
        run(once())
    until = time.monotonic() + 10
    # Connections end on threads of the core.
    while (now := descriptors()) > before:
        assert time.monotonic() < until, f"{now} descriptors, {before} before"
        gc.collect()
        time.sleep(0.01)


def test_a_closed_loops_failures_are_the_next_flushs(run: Callable[[Any], Any], topic: str) -> None:
    """Loops: sends whose loop was closed before they ended fail in a flush on the next loop."""
    with Server("-js") as server:

        async def begin() -> tuple[eb.Bus, eb.Producer]:
            bus = await eb.connect(server.url, jetstream=True, drain_timeout=0.1)
            p = bus.producer(topic, delivery_timeout=3, ack_timeout=0.3)
            await p.send(b"x")
            server.pause()
            sends = [p.send(b"x") for _ in range(3)]
            await asyncio.sleep(0)
            del sends
            return bus, p

        async def end(bus: eb.Bus, p: eb.Producer) -> None:
            with pytest.raises(eb.PublishUnknown) as told:
                await p.flush()
            assert len(told.value.failures) == 3
            server.resume()
            await bus.close()

        run(end(*run(begin())))


def test_a_loop_in_a_thread_that_ends(jetstream: Server, topic: str) -> None:
    """Threads: a bus outlives the thread that opened it."""
    opened: list[eb.Bus] = []

    async def open_() -> None:
        bus = await eb.connect(jetstream.url, jetstream=True)
        await bus.producer(topic).send(b"x")
        opened.append(bus)

    thread = threading.Thread(target=lambda: asyncio.run(open_()))
    thread.start()
    thread.join()

    async def use() -> None:
        (bus,) = opened
        async with bus:
            ack = await bus.producer(topic).send(b"x")
            assert ack
            assert ack.sequence == 2

    asyncio.run(use())
