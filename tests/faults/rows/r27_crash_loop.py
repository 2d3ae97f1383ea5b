"""Row 27: a message that kills its process whenever its handler runs, among others that are innocent.

The worker is started again, as a supervisor would, until the message is a dead letter. At each death the whole backlog
is in the worker's buffer, and where several handlers run at once, some of the innocent are in their hands.
"""

from __future__ import annotations

import signal
import time

from ..attempts import blamed, handled_well, nothing_left
from ..checks import buried
from ..children import Child, Language
from ..evidence import Evidence
from ..rig import GROUP, Rig
from ..run import Row
from ..witness import Witness
from ..workers.inside import CODE

MESSAGES = 40
ACK_WAIT = 1.5
MAX_DELIVER = 3
RESTARTS = 2 * MAX_DELIVER + 2
WAYS = {"exit": CODE, "kill": -signal.SIGKILL}
"""How the process dies, and the exit code it has then."""
CASES = {f"{at_once} at once, {way}": (at_once, way) for at_once in (1, 8) for way in WAYS}
SHORT: frozenset[tuple[str, Language]] = frozenset(
    {
        ("1 at once, exit", "python"),
        ("8 at once, kill", "python"),
        ("1 at once, kill", "node"),
        ("8 at once, exit", "node"),
    }
)


async def _dead(rig: Rig, w: Witness, poison: str, worker: Child) -> bool:
    """Waits until the message is a dead letter, or the worker has died with it; says which."""
    until = time.monotonic() + 30
    while worker.running:
        if poison in await w.letters(rig.stream):
            return True
        if time.monotonic() > until:
            rig.require(False, "row", f"{worker.who} neither died nor is {poison} a dead letter: {worker.state}")
            return True
        await rig.last(0.1)
    return False


async def _supervise(rig: Rig, url: str, poison: str, at_once: int, way: str) -> int:
    """Starts the worker again and again; returns how often it died. The last one still runs."""
    deaths = 0
    async with await rig.witness(url) as w:
        while True:
            worker = rig.worker(
                url,
                who=f"w{deaths + 1}",
                work=[0.02, 0.1],
                crash=way,
                consumer={"concurrency": at_once, "prefetch": MESSAGES, "max_deliver": MAX_DELIVER},
            )
            if await _dead(rig, w, poison, worker):
                return deaths
            deaths += 1
            rig.require(deaths <= RESTARTS, "row", f"the worker died {deaths} times, expected {RESTARTS} at most")
            # Anything else than this death is for the checker.
            worker.expected = WAYS[way]
            async with rig.fault(f"{worker.who} died"):
                await worker.ended(1)
            if deaths > RESTARTS:
                return deaths


async def scenario(rig: Rig) -> Evidence:
    """One poison, in the first half of the backlog."""
    at_once, way = CASES[rig.case]
    server = await rig.server()
    await rig.prepare(server.url, ack_wait=ACK_WAIT)
    n = rig.random.randrange(3, MESSAGES // 2)
    poison = f"p1-{n}"
    producer = rig.producer(server.url, rate=0, count=MESSAGES, marks={str(n): "crash"})
    await rig.settled(producer, "finish")
    deaths = await _supervise(rig, server.url, poison, at_once, way)
    rig.facts["deaths"] = str(deaths)
    innocent = [s.id for s in producer.ledger.sent if s.id != poison]

    def handled() -> bool:
        seen = {h.id for c in rig.children for h in c.ledger.handlings if h.how == "ok"}
        return seen >= set(innocent)

    await rig.settle(within=20, expect=handled)
    async with await rig.witness(server.url) as w:
        rig.violations += nothing_left(await w.left(rig.stream, GROUP))
    e = await rig.evidence(server.url)
    rig.violations += buried(e, {poison: "died"})
    rig.violations += blamed(e, poison, MAX_DELIVER)
    rig.violations += handled_well(e, innocent)
    rig.require(deaths >= MAX_DELIVER, "row", f"{poison} is a dead letter after {deaths} deaths, not {MAX_DELIVER}")
    return e


ROW = Row(
    27,
    "a crash loop: a poison that kills its process, among innocents",
    "LDHX",
    scenario,
    cases=tuple(CASES),
    short=SHORT,
)
