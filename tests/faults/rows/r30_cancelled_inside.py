"""Row 30: what a handler waits for is cancelled from inside: a failed attempt like any other, and the run continues.

Python: a CancelledError of a task of the handler's own. Node: the AbortError of a controller of its own. In both, also
inside an error that groups others. Some messages fail at every attempt and become dead letters, some only at the first.
"""

from __future__ import annotations

from ..attempts import blamed, failures_shown, handled_well, healthy, nothing_left
from ..checks import buried, handlings, tried, waited
from ..evidence import Evidence
from ..rig import GROUP, Rig
from ..run import Row

MESSAGES = 120
DOINGS = {"inside": 8, "inside once": 12}
MAX_DELIVER = 3
INITIAL, JITTER = 0.1, 0.2
SLOW = 2.0
"""What a machine with other work may add to a wait."""
TRIES = {"inside": MAX_DELIVER, "inside once": 2, "ok": 1}
CASES = {"1 at once": 1, "8 at once": 8}


async def scenario(rig: Rig) -> Evidence:
    """One worker; it is asked how it is in the midst of them, and at the end."""
    server = await rig.server()
    await rig.prepare(server.url, ack_wait=5)
    chosen = rig.random.sample(range(1, MESSAGES + 1), sum(DOINGS.values()))
    kinds = [kind for kind, count in DOINGS.items() for _ in range(count)]
    marks = {str(n): kind for n, kind in zip(chosen, kinds, strict=True)}
    ids: dict[str, list[str]] = {kind: [] for kind in TRIES}
    for n in range(1, MESSAGES + 1):
        ids[marks.get(str(n), "ok")].append(f"p1-{n}")
    producer = rig.producer(server.url, rate=200, count=MESSAGES, marks=marks)
    backoff = {"initial": f"{INITIAL}s", "max": "300ms", "jitter": JITTER}
    settings = {"concurrency": CASES[rig.case], "max_deliver": MAX_DELIVER, "backoff": backoff}
    worker = rig.worker(server.url, work=[0.001, 0.01], consumer=settings)

    def failed() -> bool:
        return any(h.how not in ("ok", None) for h in worker.ledger.handlings)

    await rig.until(lambda: failed() or not worker.running, 20, "the first handler that fails")
    await rig.ask_health(worker)
    await rig.settled(producer, "finish")
    whole = sum(TRIES[kind] * len(ids[kind]) for kind in TRIES)
    dead = len(ids["inside"])

    def over() -> bool:
        ledger = worker.ledger
        ended = sum(h.how is not None for h in ledger.handlings)
        return not worker.running or (ended >= whole and ledger.metrics[-1].counts["dead_letters"] >= dead)

    await rig.comes(over, 30)
    await rig.ask_health(worker)
    rig.require(worker.running, "row", f"the worker ended by itself: {worker.state}")
    rig.require("left" not in worker.ledger.marks, "row", "the worker's run ended by itself")
    await rig.settle(within=5, expect=over)
    async with await rig.witness(server.url) as w:
        rig.violations += nothing_left(await w.left(rig.stream, GROUP))
    e = await rig.evidence(server.url)
    for kind, times in TRIES.items():
        rig.violations += tried(e, ids[kind], times)
    steps = {attempt: INITIAL * 2 ** (attempt - 1) for attempt in (1, 2)}
    backoffs = {n: (step * (1 - JITTER), step * (1 + JITTER) + SLOW) for n, step in steps.items()}
    rig.violations += waited(e, [*ids["inside"], *ids["inside once"]], backoffs)
    rig.violations += buried(e, dict.fromkeys(ids["inside"], "(?i)cancel|abort"))
    rig.violations += handled_well(e, [*ids["ok"], *ids["inside once"]])
    rig.violations += healthy(worker.ledger, 2)
    rig.violations += failures_shown(e, [id_ for kind in TRIES for id_ in ids[kind]])
    for id_ in ids["inside"]:
        rig.violations += blamed(e, id_, MAX_DELIVER)
    rig.facts["handled"] = str(len(handlings(e)))
    return e


ROW = Row(30, "handlers cancelled from inside", "LDHX", scenario, cases=tuple(CASES))
