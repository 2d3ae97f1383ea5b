"""SIGTERM and SIGINT while a bus runs, alone and beside others' handlers.

Contract lines are named in the docstrings.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Generator
from pathlib import Path
from typing import IO, Any

import nats_eventbus as eb
import pytest

from tests.support.server import Server

from .test_bus import until
from .test_consuming import reaches
from .test_leaving import Gate, others_get

PROGRAM = Path(__file__).parent / "processes" / "signalled.py"
WEB = PROGRAM.with_name("web.py")
both_signals = pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])


@contextlib.contextmanager
def program(
    server: Server, topic: str, kind: str, path: Path = PROGRAM
) -> Generator[tuple[subprocess.Popen[str], IO[str]]]:
    process = subprocess.Popen(
        [sys.executable, str(path), server.url, topic, kind], stdout=subprocess.PIPE, text=True, env=dict(os.environ)
    )
    try:
        assert process.stdout
        yield process, process.stdout
    finally:
        process.kill()
        process.wait()
        if process.stdout:
            process.stdout.close()


@both_signals
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_a_signal_drains_and_closes(
    jetstream: Server, bus: eb.Bus, topic: str, number: signal.Signals, loop: str
) -> None:
    """Leaving: SIGTERM and SIGINT: `run()` drains, closes the bus and returns; the program goes on to its end."""
    await bus.producer(topic).send("0")
    with program(jetstream, topic, loop) as (process, out):
        assert out.readline() == "handling 0\n"
        process.send_signal(number)
        assert await asyncio.to_thread(out.read) == "handled 0\nrun has ended closed\nleft\n"
        assert process.wait(10) == 0


@both_signals
@pytest.mark.parametrize("kind", ["stuck", "stuck several", "stuck uvloop"])
async def test_a_second_signal_stops_at_once(
    jetstream: Server, bus: eb.Bus, topic: str, number: signal.Signals, kind: str
) -> None:
    """Leaving: a second signal while it drains stops at once: handlers are cancelled, their messages go to others."""
    await bus.producer(topic).send("0")
    with program(jetstream, topic, kind) as (process, out):
        assert out.readline() == "handling 0\n"
        process.send_signal(number)
        # It drains: it asks for no more messages.
        await reaches(jetstream, topic, num_waiting=0)
        process.send_signal(number)
        assert await asyncio.to_thread(out.read) == "cancelled 0\nrun has ended closed\nleft\n"
        assert process.wait(10) == 0
        assert await others_get(jetstream, topic, 1) < 10


@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_what_was_there_is_there_again(jetstream: Server, bus: eb.Bus, topic: str, loop: str) -> None:
    """Leaving: after the run SIGINT and SIGTERM are as before: Ctrl-C cancels the main task, as `asyncio.run` does."""
    await bus.producer(topic).send("0")
    with program(jetstream, topic, f"afterwards {loop}") as (process, out):
        assert await asyncio.to_thread(out.readline) == "run has ended closed True\n"
        process.send_signal(signal.SIGINT)
        assert await asyncio.to_thread(out.read) == "clean-up\n"
        # As the interpreter ends at a KeyboardInterrupt.
        assert process.wait(10) in (1, -signal.SIGINT)


@both_signals
@pytest.mark.parametrize("kind", ["signals taken", "signals left alone"])
async def test_a_web_server_shuts_down(
    jetstream: Server, bus: eb.Bus, topic: str, number: signal.Signals, kind: str
) -> None:
    """Leaving: beside a web server, both end: the handler finishes, the bus closes, the lifespan ends."""
    pytest.importorskip("uvicorn")
    await bus.producer(topic).send("0")
    with program(jetstream, topic, kind, WEB) as (process, out):
        assert await asyncio.to_thread(out.readline) == "handling 0\n"
        process.send_signal(number)
        assert await asyncio.to_thread(out.read) == "handled 0\nclosed closed\n"
        process.wait(10)
        await reaches(jetstream, topic, num_ack_pending=0)


@pytest.mark.skipif(sys.platform == "win32", reason="there is no fork")
@pytest.mark.parametrize("loop", ["asyncio", "uvloop"])
async def test_a_forked_child_ends_by_its_own_signals(jetstream: Server, bus: eb.Bus, topic: str, loop: str) -> None:
    """Leaving: a child that was forked during the run ends by SIGTERM as ever, and the parent's run goes on."""
    await bus.producer(topic).send("0")
    with program(jetstream, topic, f"forking {loop}") as (process, out):
        assert await asyncio.to_thread(out.read) == "child ended by SIGTERM\nleft\n"
        assert process.wait(10) == 0


@pytest.fixture
def handlers() -> Generator[None]:
    """Whatever a test does to them, the test run keeps its own handlers."""
    before = {number: signal.getsignal(number) for number in (signal.SIGTERM, signal.SIGINT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


async def going(bus: eb.Bus, topic: str, gate: Gate, **how: Any) -> asyncio.Task[None]:
    """A run that has a message."""
    await bus.producer(topic).send("x")
    bus.on(topic, group="g")(gate)
    running = asyncio.create_task(bus.run(**how))
    await gate.entered.wait()
    return running


@both_signals
@pytest.mark.parametrize("kind", ["signal.signal", "add_signal_handler"])
@pytest.mark.usefixtures("handlers")
def test_others_handlers_are_called_too(
    jetstream: Server, topic: str, run: Callable[[Any], Any], kind: str, number: signal.Signals
) -> None:
    """Leaving: a handler that was there, a web server's, is called after ours, and is there again afterwards."""

    async def main() -> None:
        calls: list[int] = []
        loop, gate = asyncio.get_running_loop(), Gate()
        if kind == "signal.signal":
            signal.signal(number, lambda n, _: calls.append(n))
        else:
            loop.add_signal_handler(number, calls.append, number)
        theirs = signal.getsignal(number)
        bus = await eb.connect(jetstream.url, jetstream=True)
        running = await going(bus, topic, gate)
        os.kill(os.getpid(), number)
        await until(lambda: calls == [number])
        gate.go.set()
        await running
        assert bus.state == "closed"
        assert gate.finished == ["x"]
        assert signal.getsignal(number) is theirs
        os.kill(os.getpid(), number)
        await until(lambda: calls == [number] * 2)
        if kind == "add_signal_handler":
            loop.remove_signal_handler(number)

    run(main())


@both_signals
@pytest.mark.usefixtures("handlers")
async def test_signals_may_be_left_alone(jetstream: Server, topic: str, number: signal.Signals) -> None:
    """Leaving: `run(signals=False)` takes no signal."""
    calls: list[int] = []
    signal.signal(number, lambda n, _: calls.append(n))
    gate = Gate()
    async with eb.connect(jetstream.url, jetstream=True) as bus:
        theirs = signal.getsignal(number)
        running = await going(bus, topic, gate, signals=False)
        assert signal.getsignal(number) is theirs
        os.kill(os.getpid(), number)
        await until(lambda: calls == [number])
        gate.go.set()
        await until(lambda: bus.metrics()["settled"] == 1)
        assert not running.done()
        bus.stop()
        await running


@pytest.mark.usefixtures("handlers")
async def test_ignored_signals_stay_ignored(jetstream: Server, topic: str) -> None:
    """Leaving: a signal that the program ignores is not taken."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    gate = Gate()
    async with eb.connect(jetstream.url, jetstream=True) as bus:
        running = await going(bus, topic, gate)
        assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN
        gate.go.set()
        bus.stop()
        await running
    assert signal.getsignal(signal.SIGINT) is signal.SIG_IGN


@pytest.mark.usefixtures("handlers")
@pytest.mark.parametrize("first_to_end", [0, 1])
async def test_two_buses_share_the_signals(jetstream: Server, topic: str, first_to_end: int) -> None:
    """Leaving: one signal ends the runs of all buses; whichever ends first, what was there is there again."""
    before = signal.getsignal(signal.SIGTERM)
    async with eb.connect(jetstream.url, jetstream=True) as a, eb.connect(jetstream.url, jetstream=True) as b:
        gates = [Gate(), Gate()]
        running = [await going(bus, f"{topic}.{n}", gates[n]) for n, bus in enumerate((a, b))]
        os.kill(os.getpid(), signal.SIGTERM)
        for n in (first_to_end, 1 - first_to_end):
            assert not running[n].done()
            gates[n].go.set()
            await running[n]
        assert (a.state, b.state) == ("closed", "closed")
    assert signal.getsignal(signal.SIGTERM) is before


@pytest.mark.usefixtures("handlers")
async def test_handlers_installed_during_a_run_stay(jetstream: Server, topic: str) -> None:
    """Leaving: what others install while the bus runs is theirs; if they put ours back later, it passes signals on."""
    first: list[int] = []
    later: list[int] = []
    signal.signal(signal.SIGTERM, lambda n, _: first.append(n))
    gate = Gate()
    gate.go.set()
    async with eb.connect(jetstream.url, jetstream=True) as bus:
        running = await going(bus, topic, gate)
        ours = signal.signal(signal.SIGTERM, lambda n, _: later.append(n))
        bus.stop()
        await running
    os.kill(os.getpid(), signal.SIGTERM)
    await until(lambda: later == [signal.SIGTERM])
    signal.signal(signal.SIGTERM, ours)
    os.kill(os.getpid(), signal.SIGTERM)
    await until(lambda: first == [signal.SIGTERM])


def test_other_threads_take_no_signals(jetstream: Server, topic: str) -> None:
    """Leaving: on another thread than the main one `run()` takes no signal, and `stop()` ends it from any thread."""
    before = signal.getsignal(signal.SIGTERM)
    gate = Gate()
    opened: list[eb.Bus] = []
    entered = threading.Event()

    async def main() -> None:
        async with eb.connect(jetstream.url, jetstream=True) as bus:
            opened.append(bus)
            running = await going(bus, topic, gate)
            gate.go.set()
            entered.set()
            await running

    thread = threading.Thread(target=lambda: asyncio.run(main()))
    thread.start()
    assert entered.wait(20)
    assert signal.getsignal(signal.SIGTERM) is before
    opened[0].stop()
    thread.join(20)
    assert not thread.is_alive()
