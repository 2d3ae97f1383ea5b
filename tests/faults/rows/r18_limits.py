"""Row 18: payload at max and max + 1, headers over, topics empty, `a..b`, `*`, CRLF, 10 KB.

What is at the limit passes, what is beyond is rejected before it is sent: a proxy writes down whatever goes by. The
connection lives, and the messages around it are stored.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field

from ..audit import audit
from ..checks import refused, unbroken, unsent
from ..children import Child
from ..evidence import Evidence, Rules, Violation
from ..frames import Frame
from ..proxy import Proxy, Way
from ..rig import Rig
from ..run import Row

LIMIT = 64 << 10
SOON = 1.0
TOPIC, HEADER, SIZE = "publish.rejected.invalid_topic", "publish.rejected.invalid_header", "publish.rejected.too_large"


@dataclass(frozen=True)
class Odd:
    """A send out of the ordinary."""

    name: str
    code: str | None
    """What it is rejected with; None: it is acked."""
    topic: str = "faults.events"
    size: int = 200
    headers: dict[str, str | int] = field(default_factory=dict[str, str | int])
    words: str = ""

    @property
    def named(self) -> str | None:
        """What the error calls the topic: one too long to be shown is told by its beginning, in words."""
        return self.topic if 0 < len(self.topic) <= 1024 else None


TOPICS = [
    ("empty", "", "empty"),
    ("a..b", "faults..events", "'..'"),
    ("leading dot", ".faults", "start"),
    ("star", "*", '"*"'),
    ("star inside", "faults.*", "*"),
    ("all", "faults.>", ">"),
    ("blank", "faults events", "' '"),
    ("CRLF", "faults.x\r\nPUB faults.smuggled 2\r\nhi", "'\\r'"),
    ("tab", "faults.\tx", "'\\t'"),
    ("nul", "faults.\0", "'\\0'"),
    ("10 KB", "faults." + "x" * 10_233, "faults.xxx"),
    ("server's own", "$JS.API.STREAM.PURGE.faults_events_STREAM", "server"),
    ("inbox", "_INBOX.x.y", "server"),
]


def _sizes(overhead: int) -> Iterator[Odd]:
    """At the limit, and one byte beyond it: by the body, and by a header."""
    for name, code, more in (("at max", None, 0), ("max + 1", SIZE, 1), ("far over", SIZE, 9 * LIMIT)):
        body = f"body {name}"
        yield Odd(body, code, size=LIMIT - overhead - len(body) + more, words="max_payload" if code else "")
        headers = f"headers {name}"
        line = LIMIT - overhead - len(headers) - 200 - len("tenant: \r\n") + more
        yield Odd(headers, code, headers={"tenant": line}, words="max_payload" if code else "")


HEADERS = [
    Odd("CRLF in a value", HEADER, headers={"tenant": "a\r\nX: y"}),
    Odd("colon in a name", HEADER, headers={"a:b": "c"}),
    Odd("blank in a name", HEADER, headers={"a b": "c"}),
    Odd("no name", HEADER, headers={"": "c"}),
]


class Wire:
    """What a client sends, as a proxy sees it."""

    def __init__(self, proxy: Proxy) -> None:
        self.sizes: dict[str, int] = {}
        """Of each message, headers and body, by its id."""
        self.overhead = 0
        """Bytes of the headers of a message that has only an id, without that."""
        self.subjects: set[str] = set()
        proxy.watchers.append(self._watch)

    def _watch(self, way: Way, frame: Frame) -> None:
        if way == "down" or frame.body is None:
            return
        self.subjects.add(frame.subject)
        if id_ := frame.message_id:
            self.sizes[id_] = len(frame.headers) + len(frame.body)
            if b"Sharding-Key" not in frame.headers:
                self.overhead = self.overhead or len(frame.headers) - len(id_)


def _ended(odd: Odd, id_: str, producer: Child, wire: Wire) -> Iterator[Violation]:
    ledger = producer.ledger
    if odd.code:
        yield from refused(ledger, id_, odd.code, SOON, topic=odd.named, words=odd.words)
        return
    end = next((x for x in ledger.ended if x.id == id_), None)
    if end is None or end.how != "acked":
        yield Violation("T", f"{id_} ended {end and (end.how, end.error)}, expected an ack")
    elif wire.sizes.get(id_) != LIMIT:
        yield Violation("row", f"{id_} had {wire.sizes.get(id_)} bytes on the wire, and was to have {LIMIT}")


async def scenario(rig: Rig) -> Evidence:
    """Odd sends between ordinary ones, on one connection."""
    server = await rig.server(config=f"max_payload: {LIMIT}")
    await rig.prepare(server.url)
    proxy = rig.proxy(server, buffer=1 << 20)
    wire = Wire(proxy)
    producer, worker = rig.producer(proxy.url), rig.worker(server.url)
    await rig.flowing(producer, worker)
    await rig.until(lambda: wire.overhead > 0, 5, "a message without a key")
    connections = set(proxy.connections)
    odds = [*_sizes(wire.overhead), *HEADERS, *(Odd(name, TOPIC, topic, words=words) for name, topic, words in TOPICS)]
    for turn in range(10 if rig.long else 1):
        rig.random.shuffle(odds)
        for odd in odds:
            id_ = odd.name if not turn else f"{odd.name[:-1]}{turn}"
            tried = producer.ledger.marks.count("tried")
            given = {"id": id_, "topic": odd.topic, "size": odd.size, "headers": odd.headers}
            producer.tell(f"try {json.dumps(given)}")
            await rig.until(lambda n=tried: producer.ledger.marks.count("tried") > n, 10, f"the outcome of {id_!r}")
            rig.violations += _ended(odd, id_, producer, wire)
    rig.require(set(proxy.connections) == connections, "T", "the connection was made anew")
    await rig.last(0.5)
    await rig.settle()
    e = await rig.evidence(server.url)
    codes = frozenset({TOPIC, HEADER, SIZE})
    rig.violations += audit(e, "T", Rules(codes=codes, names=()))
    rig.violations += unsent(producer.ledger, wire.sizes)
    rig.violations += unbroken(producer.ledger)
    # Besides the messages there are calls of the API, and what a client says to itself.
    strange = {s for s in wire.subjects if s != rig.topic and not s.startswith(("$JS.API.", "_INBOX."))}
    strange |= wire.subjects & {topic for _, topic, _ in TOPICS}
    rig.require(not strange, "T", f"messages were sent to {strange}")
    ordinary = [x for x in producer.ledger.ended if x.id.startswith("p1-") and x.how != "acked"]
    rig.require(not ordinary, "T", f"{len(ordinary)} ordinary messages were not acked, first {ordinary[:1]}")
    return e


ROW = Row(18, "payload at max and max + 1, headers over, topics no server takes", "LDHX", scenario)
