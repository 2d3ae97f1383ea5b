"""Row 12: handlers that raise, reject, panic, hang: retried with backoff while the others go on.

A panic is a stack that runs out. A handler that hangs is left alone after `max_processing`: the server delivers its
message again, and after the last attempt it is a dead letter.
"""

from __future__ import annotations

from ..checks import buried, handlings, tried, waited
from ..evidence import Evidence
from ..rig import Rig
from ..run import Row

MESSAGES = 300
DOINGS = {"raise": 4, "once": 6, "reject": 4, "panic": 4, "later": 4, "hang": 2}
INITIAL, JITTER = 0.2, 0.2
LATER = 0.5
SLOW = 2.0
"""What a machine with other work may add to a wait."""
REASONS = {"raise": "always fails", "reject": "refused", "panic": "recursion|Maximum call stack", "hang": "3"}
TRIES = {"raise": 3, "once": 2, "reject": 1, "panic": 3, "later": 2, "hang": 3, "ok": 1}


async def scenario(rig: Rig) -> Evidence:
    """One worker with places enough for those that hang."""
    server = await rig.server()
    await rig.prepare(server.url, ack_wait=2)
    chosen = rig.random.sample(range(1, MESSAGES + 1), sum(DOINGS.values()))
    kinds = [kind for kind, count in DOINGS.items() for _ in range(count)]
    marks = {str(n): kind for n, kind in zip(chosen, kinds, strict=True)}
    producer = rig.producer(server.url, count=MESSAGES, marks=marks)
    backoff = {"initial": f"{INITIAL}s", "max": "2s", "jitter": JITTER}
    worker = rig.worker(
        server.url,
        connect={"drain_timeout": "2s"},
        later=f"{LATER}s",
        consumer={"concurrency": 16, "max_deliver": 3, "max_processing": "3s", "backoff": backoff},
    )
    ids: dict[str, list[str]] = {kind: [] for kind in TRIES}
    for n in range(1, MESSAGES + 1):
        ids[marks.get(str(n), "ok")].append(f"p1-{n}")
    await rig.settled(producer, "finish")
    dead = sum(len(ids[kind]) for kind in REASONS)
    await rig.settle(expect=lambda: worker.ledger.metrics[-1].counts["dead_letters"] >= dead)
    e = await rig.evidence(server.url)
    for kind, times in TRIES.items():
        rig.violations += tried(e, ids[kind], times)
    steps = {attempt: INITIAL * 2 ** (attempt - 1) for attempt in (1, 2)}
    backoffs = {n: (step * (1 - JITTER), step * (1 + JITTER) + SLOW) for n, step in steps.items()}
    for kind in ("raise", "panic"):
        rig.violations += waited(e, ids[kind], backoffs)
    rig.violations += waited(e, ids["later"], {1: (LATER, LATER + SLOW)})
    rig.violations += buried(e, {id_: REASONS[kind] for kind in REASONS for id_ in ids[kind]})
    found = handlings(e)
    last = max(h.start for id_ in ids["ok"] for h in found[id_])
    rig.require(
        last < producer.ledger.sent[-1].t + SLOW,
        "row",
        f"the messages after those that hang waited for more than {SLOW} s",
    )
    return e


ROW = Row(12, "handlers raise, reject, panic, hang", "LDHX", scenario)
