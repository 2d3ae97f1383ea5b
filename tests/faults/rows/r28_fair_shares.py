"""Row 28: equal workers of one group have equal shares of a backlog, and one that comes late has its share of the rest.

Default settings: without a `prefetch` no worker holds more than it can begin soon. A worker of the platform's Go
services takes one message at a time.
"""

from __future__ import annotations

from ..attempts import shares
from ..checks import handlings
from ..evidence import Evidence
from ..rig import Rig
from ..run import Row

JOBS = {"0.1 s": (0.1, 100, 200), "1 s": (1.0, 40, 120)}
"""How long a job takes, and how many there are, in the short form and in the long one."""
CASES = tuple(f"jobs of {each}{go}" for each in JOBS for go in ("", ", beside Go"))
WORKERS = 4


async def scenario(rig: Rig) -> Evidence:
    """The backlog is there first; four workers start together, a fifth when a quarter of the jobs is done."""
    kind, _, go = rig.case.removeprefix("jobs of ").partition(", ")
    each, few, many = JOBS[kind]
    jobs = many if rig.long else few
    server = await rig.server()
    await rig.prepare(server.url, ack_wait=10)
    producer = rig.producer(server.url, rate=0, count=jobs)
    await rig.settled(producer, "finish")
    program = await rig.go_program() if go else None
    ours = [f"w{n}" for n in range(1, WORKERS + (not go))]
    for who in ours:
        rig.worker(server.url, who=who, work=[each, each])
    if program:
        rig.go_worker(server.url, program, who="go", work=each)

    def done() -> int:
        return sum(h.how == "ok" for c in rig.children for h in c.ledger.handlings)

    await rig.until(lambda: done() >= jobs // 4, 20 + jobs * each, "the first quarter of the jobs")
    rig.worker(server.url, who="late", work=[each, each])
    await rig.comes(lambda: done() >= jobs, 20 + jobs * each)
    await rig.end()
    e = await rig.evidence(server.url)
    rig.facts["shares"] = ", ".join(f"{c.who} {len(c.ledger.handlings)}" for c in rig.children if c is not producer)
    rig.violations += shares(e)
    twice = [id_ for id_, hs in handlings(e).items() if sum(h.how == "ok" for h in hs) > 1]
    rig.require(not twice, "row", f"{len(twice)} jobs were done twice: {twice[:5]}")
    return e


ROW = Row(
    28,
    "four workers and a late fifth share a backlog fairly",
    "LDHX",
    scenario,
    cases=CASES,
    # What each worker does in a second is compared.
    crowd=True,
)
