"""How a send is called: what is wrong comes by the awaitable, in any thread; headers and encoders of all kinds."""

from __future__ import annotations

import asyncio
import gc
import pickle
import types
from typing import Any

import nats_eventbus as eb
import pytest

from tests.support.server import Server

from .test_bus import until

BAD: dict[str, tuple[dict[str, Any], type[eb.EventBusError]]] = {
    "a body without a form": ({"body": {"a": object()}}, eb.ConfigError),
    "a body that is too large": ({"body": b"x" * (9 << 20)}, eb.TooLarge),
    "a header of bytes": ({"body": b"x", "headers": {"a": b"b"}}, eb.InvalidHeader),
    "a key that is a number": ({"body": b"x", "key": 7}, eb.InvalidHeader),
    "an id that is a number": ({"body": b"x", "id": 7}, eb.InvalidHeader),
    "a ttl that is none": ({"body": b"x", "ttl": "soon"}, eb.ConfigError),
    "a sequence below 0": ({"body": b"x", "expected_last_sequence": -1}, eb.InvalidHeader),
}


@pytest.mark.parametrize("case", BAD)
@pytest.mark.parametrize("mode", ["jetstream", "core"])
async def test_a_bad_send_fails_where_it_is_awaited(
    bus: eb.Bus, core_bus: eb.Bus, topic: str, case: str, mode: str
) -> None:
    """Publishing: a send raises where it is awaited, never where it is called, so that ``gather`` reports each."""
    kwargs, kind = BAD[case]
    p = (bus if mode == "jetstream" else core_bus).producer(topic)
    body = kwargs["body"]
    wait = p.send(**kwargs)
    with pytest.raises(kind) as caught:
        await wait
    assert type(caught.value) is kind
    # Each wait raises it.
    with pytest.raises(kind):
        await wait
    got = await asyncio.gather(p.send(b"1"), p.send(**kwargs), p.send(b"2"), return_exceptions=True)
    assert [isinstance(x, eb.EventBusError) for x in got] == [False, True, False]
    task = asyncio.create_task(p.send(**kwargs))
    with pytest.raises(kind):
        await asyncio.wait_for(task, 10)
    if kwargs == {"body": body}:
        if kind is eb.ConfigError:
            with pytest.raises(kind):
                await p.send_many([b"3", body])
        with pytest.raises(kind):
            p.send_nowait(body)


async def test_sends_on_a_closed_bus_fail_where_they_are_awaited(jetstream: Server, topic: str) -> None:
    """Publishing: what a closed bus refuses comes by the awaitable, of every call."""
    bus = await eb.connect(jetstream.url, jetstream=True)
    p = bus.producer(topic)
    await bus.close()
    waits = [p.send(b"x"), p.send_many([b"x"]), p.flush()]
    got = await asyncio.gather(*waits, return_exceptions=True)
    assert isinstance(got[0], eb.ClosedError)
    [one] = await p.send_many([b"x"])
    assert isinstance(one, eb.ClosedError), "one outcome each"


async def test_a_bad_send_that_is_never_awaited_is_reported(bus: eb.Bus, topic: str) -> None:
    """Publishing: nothing is lost in silence: the loop's exception handler hears of it."""
    heard: list[Any] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: heard.append(context["exception"]))
    wait = bus.producer(topic).send({"a": object()})
    del wait
    gc.collect()
    [e] = heard
    assert isinstance(e, eb.ConfigError)
    for wait in (bus.producer(topic).send({"a": object()}) for _ in range(2)):
        wait.close()
    cancelled = asyncio.create_task(bus.producer(topic).send({"a": object()}))
    cancelled.cancel()
    with pytest.raises(asyncio.CancelledError):
        await cancelled
    gc.collect()
    assert len(heard) == 1


async def test_another_thread_sends(bus: eb.Bus, core_bus: eb.Bus, topic: str) -> None:
    """Publishing: ``run_coroutine_threadsafe(producer.send(...), loop)`` sends from a thread without a loop."""
    loop = asyncio.get_running_loop()

    def work(p: eb.Producer) -> list[Any]:
        calls = [p.send(b"1", key="k"), p.send_many(b"%d" % n for n in range(2)), p.flush()]
        return [asyncio.run_coroutine_threadsafe(call, loop).result(10) for call in calls]

    ack, acks, flushed = await asyncio.to_thread(work, bus.producer(topic))
    assert (ack.sequence, [a.sequence for a in acks], flushed) == (1, [2, 3], None)
    assert await asyncio.to_thread(work, core_bus.producer(topic)) == [None, [None, None], None]


async def test_letters_are_replayed_from_another_thread(bus: eb.Bus, topic: str) -> None:
    """Dead letters: what they hand out is awaited in the loop that it is given to."""
    await bus.producer(topic).send_many([b"1", b"2"])

    async def reject(_: eb.Message) -> None:
        raise eb.Reject("no")

    async with bus.consumer(topic, group="g") as c:
        running = asyncio.create_task(c.run(reject))
        letters: list[eb.DeadLetter] = []
        async with asyncio.timeout(10):
            while len(letters) < 2:
                letters = [letter async for letter in bus.dead_letters(topic, group="g")]
    await running
    loop = asyncio.get_running_loop()

    def work() -> list[Any]:
        calls: list[Any] = [letters[0].replay(), letters[1].discard()]
        return [asyncio.run_coroutine_threadsafe(call, loop).result(10) for call in calls]

    assert await asyncio.to_thread(work) == [None, True]


async def test_a_thread_starts_a_loop_of_its_own(bus: eb.Bus, topic: str) -> None:
    """Publishing: ``asyncio.run(producer.send(...))`` in a thread sends."""
    p = bus.producer(topic)
    call: Any = await asyncio.to_thread(lambda: asyncio.run(p.send(b"x")))
    assert call.sequence == 1
    await asyncio.to_thread(lambda: asyncio.run(p.flush()))


def test_a_send_without_a_loop_says_so(jetstream: Server, topic: str) -> None:
    """Publishing: awaited where no loop runs, a send is a ConfigError that names the way out."""

    async def main() -> eb.Producer:
        bus = await eb.connect(jetstream.url, jetstream=True)
        return bus.producer(topic)

    call: Any = asyncio.run(main()).send(b"x", key="k")
    with pytest.raises(eb.ConfigError, match="run_coroutine_threadsafe"):
        call.send(None)


HEADERS: dict[str, tuple[Any, list[tuple[str, str]]]] = {
    "numbers": ({"a": 1, "b": 0.5, "c": True, "d": False, "e": -(2**70)}, [("a", "1"), ("b", "0.5"), ("c", "true")]),
    "a mapping": (types.MappingProxyType({"a": "b"}), [("a", "b")]),
    "a list": ({"a": ["x", 2], "b": ("y",), "c": []}, [("a", "x"), ("b", "y")]),
    "text": ({"n": "日本"}, [("n", "日本")]),
}


@pytest.mark.parametrize("case", HEADERS)
async def test_headers_are_taken(bus: eb.Bus, topic: str, case: str) -> None:
    """Publishing: headers are a mapping of names to strings, numbers, True and False, or lists of those."""
    given, want = HEADERS[case]
    p = bus.producer(topic)
    await p.send(b"x", headers=given)
    await p.send_many([b"x"], headers=given)
    p.send_nowait(b"x", headers=given)
    await p.flush()
    async with bus.consumer(topic, group="g") as c:
        for m in await c.fetch(3):
            assert {k: m.headers[k] for k, _ in want} == dict(want)

    async def answer(m: eb.Message) -> dict[str, str]:
        return m.headers

    async with await bus.respond(f"{topic}.ask", answer):
        got = (await bus.request(f"{topic}.ask", b"", headers=given)).json()
        assert {k: got[k] for k, _ in want} == dict(want)


WRONG_HEADERS: dict[str, tuple[Any, str]] = {
    "None": ({"a": None}, "header 'a': None is no value: leave the header out"),
    "bytes": ({"a": b"x"}, "header 'a': bytes are not text: decode them"),
    "NaN": ({"a": float("nan")}, "header 'a': nan is not a number"),
    "surrogate": ({"a": "x\ud83d"}, "header 'a': its character 1 is half of a surrogate pair"),
    "dict": ({"a": {}}, "header 'a': a dict has no one text"),
    "a list in a list": ({"a": [["x"]]}, "header 'a': a list has no one text"),
    "name": ({7: "x"}, "headers: a name is a int"),
    "pairs": ([("a", "b")], "headers: give a mapping of names to values, not a list"),
}


@pytest.mark.parametrize("case", WRONG_HEADERS)
async def test_headers_are_refused(bus: eb.Bus, topic: str, case: str) -> None:
    """Publishing: a header without one text is a typed error that says what to give."""
    given, want = WRONG_HEADERS[case]
    with pytest.raises(eb.InvalidHeader) as caught:
        await bus.producer(topic).send(b"x", headers=given)
    assert want in str(caught.value)
    with pytest.raises(eb.InvalidHeader):
        await bus.request(topic, b"x", headers=given)


async def test_an_encoder_writes_bodies(jetstream: Server, topic: str) -> None:
    """Bodies: ``encoder=`` of connect and of a producer writes what is neither bytes-like nor a string."""
    async with eb.connect(jetstream.url, jetstream=True, encoder=pickle.dumps) as bus:
        await bus.producer(topic).send_many([{"s": {1}}, b"raw", "text"])
        await bus.producer(topic, encoder=lambda value: f"<{value}>").send(5)
        async with bus.consumer(topic, group="g") as c:
            pickled, *others = [m.body for m in await c.fetch(4)]
        assert pickle.loads(pickled) == {"s": {1}}
        assert others == [b"raw", b"text", b"<5>"]

        async def answer(m: eb.Message) -> Any:
            return {"got": pickle.loads(m.body)}

        async with await bus.respond(f"{topic}.ask", answer):
            reply = await bus.request(f"{topic}.ask", {1, 2})
            assert pickle.loads(reply.body) == {"got": {1, 2}}


async def test_an_encoder_that_fails_says_so(bus: eb.Bus, topic: str) -> None:
    """Bodies: what an encoder raises, or gives that is no body, is a typed error."""

    def fails(value: Any) -> bytes:
        raise KeyError("no codec")

    with pytest.raises(eb.ConfigError, match="the encoder failed on a dict: 'no codec'") as caught:
        await bus.producer(topic, encoder=fails).send({})
    assert isinstance(caught.value.__cause__, KeyError)
    number: Any = int
    with pytest.raises(eb.ConfigError, match="the encoder gave a int: it must give bytes or a string"):
        await bus.producer(topic, encoder=number).send(3.5)
    no_function: Any = "json"
    with pytest.raises(eb.ConfigError, match="encoder: give a function"):
        bus.producer(topic, encoder=no_function)
    # Our own writing names the character.
    with pytest.raises(eb.ConfigError, match="half of a surrogate pair"):
        await bus.producer(topic, encoder=pickle.dumps).send("a\ud83d")


async def test_numpy_bodies_at_the_top(bus: eb.Bus, topic: str) -> None:
    """Bodies: one byte of numpy's is a number, a row of them is bytes-like, a shape is refused."""
    np: Any = pytest.importorskip("numpy")
    await bus.producer(topic).send_many([np.uint8(7), np.array([104, 105], dtype=np.uint8)])
    async with bus.consumer(topic, group="g") as c:
        assert [m.body for m in await c.fetch(2)] == [b"7", b"hi"]
    with pytest.raises(eb.ConfigError, match="tolist"):
        await bus.producer(topic).send(np.zeros((2, 2), dtype=np.uint8))


class WithoutReaders(asyncio.SelectorEventLoop):
    """A loop like Windows' default one."""

    def add_reader(self, fd: Any, callback: Any, *args: Any) -> None:
        raise NotImplementedError


def test_a_loop_without_readers(jetstream: Server, topic: str) -> None:
    """API: a loop that cannot watch a descriptor is woken in another way."""

    async def main() -> None:
        async with eb.connect(jetstream.url, jetstream=True) as bus:
            await asyncio.gather(*(bus.producer(topic).send(b"x") for _ in range(100)))
            async with bus.consumer(topic, group="g") as c:
                await until(lambda: bus.state == "connected")
                assert len(await c.fetch(100)) == 100

    with asyncio.Runner(loop_factory=WithoutReaders) as runner:
        runner.run(asyncio.wait_for(main(), 30))
