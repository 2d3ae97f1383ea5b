"""Row 21: JetStream off, stream missing, stream deleted, leader election: each has an outcome of its own.

Off: `connect` says so. Missing: every send says so at once, naming the topic. Deleted under a producer: sends are tried
until their deadline, since an election looks the same, and then are rejected. Election: sends are late, and acked.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace

from ..audit import audit
from ..evidence import Evidence, Rules
from ..ledger import Told
from ..rig import GROUP, Rig
from ..run import Row
from ..witness import Witness

RULES = Rules(codes=frozenset({"not_found", "publish.rejected"}), names=())


def _told(rig: Rig, errors: list[Told], code: str, words: str, **names: str) -> None:
    """The errors are of one kind, say what is the matter, and name what is concerned."""
    rig.require(bool(errors), "T", f"no error was told, expected {code}")
    for error in errors[:3]:
        rig.require(error.code == code, "T", f"{error.code} was told, expected {code}: {error.text}")
        rig.require(words in error.text, "T", f"{words!r} is not in {error.text!r}")
        for name, value in names.items():
            named = getattr(error, name)
            rig.require(
                named == value, "T", f"{error.code} names the {name} {named!r}, expected {value!r}: {error.text}"
            )


async def _off(rig: Rig) -> Evidence:
    server = await rig.server(jetstream=False)
    producer = rig.producer(server.url, count=10)
    producer.expected = 3
    await producer.ended(10)
    _told(rig, producer.ledger.errors, "not_found", "JetStream is not enabled")
    return await rig.evidence()


async def _missing(rig: Rig) -> Evidence:
    server = await rig.server()
    producer = rig.producer(server.url, rate=50, count=100, within=5.0, producer={"declare": False})
    await rig.settled(producer, "finish")
    await rig.end()
    ended = [x for x in producer.ledger.ended if x.error]
    _told(rig, [x.error for x in ended if x.error], "not_found", "no stream stores this topic", topic=rig.topic)
    sent = {s.id: s.t for s in producer.ledger.sent}
    slowest = max((x.t - sent[x.id] for x in ended), default=0.0)
    rig.facts["slowest answer"] = f"{slowest:.2f} s"
    rig.require(slowest < 1, "T", f"that the stream is missing was told after {slowest:.2f} s, expected 1 s at most")
    return await rig.evidence()


async def _deleted(rig: Rig) -> Evidence:
    server = await rig.server()
    await rig.prepare(server.url, durable=False)
    # With `declare` it would be declared again.
    producer = rig.producer(server.url, rate=50, count=25, within=3.0, producer={"declare": False})
    await rig.settled(producer, "finish")
    # Between sends: one whose answer is lost with the stream is unknown, and rightly so.
    async with await Witness.of(server.url) as w, rig.fault("stream deleted"):
        await w.js.delete_stream(rig.stream)
        await rig.settled(producer, "burst 100 50")
    await rig.end()
    errors = [x.error for x in producer.ledger.ended if x.error]
    _told(rig, errors, "publish.rejected", "the stream is gone", topic=rig.topic, stream=rig.stream)
    return await rig.evidence()


async def _election(rig: Rig) -> Evidence:
    cluster = await rig.cluster()
    await rig.prepare(cluster.url, num_replicas=3)
    producer, worker = (
        rig.producer(cluster.url, rate=200, within=20.0),
        rig.worker(cluster.url, connect={"replicas": 3}),
    )
    await rig.flowing(producer, worker)
    async with await Witness.of(cluster.url) as w:
        for _ in range(4 if rig.long else 1):
            stream, _ = await w.leaders(rig.stream, GROUP)
            leader = cluster[stream]
            async with rig.fault(f"no leader: {leader.name} killed"):
                leader.kill()
                # Until the others have elected new ones, for the stream and for the durable.
                while leader.name in await w.leaders(rig.stream, GROUP):
                    await rig.last(0.05)
            await rig.resumed()
            await leader.start()
            await rig.last(rig.random.uniform(2, 4))
    await rig.settle()
    e = await rig.evidence(cluster.url)
    rig.violations += audit(e, "LDRT", replace(RULES, codes=frozenset()))
    return e


CASES: dict[str, Callable[[Rig], Awaitable[Evidence]]] = {
    "JetStream off": _off,
    "stream missing": _missing,
    "stream deleted": _deleted,
    "leader election": _election,
}


async def scenario(rig: Rig) -> Evidence:
    """One of the cases."""
    return await CASES[rig.case](rig)


ROW = Row(21, "JetStream off; stream missing; leader election", "HTX", scenario, cases=tuple(CASES), rules=RULES)
