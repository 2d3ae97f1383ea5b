"""Row 1: one server, SIGKILL mid-publish, restart, five times."""

from __future__ import annotations

from ..checks import all_acked
from ..evidence import Evidence
from ..rig import Rig
from ..run import Row


async def scenario(rig: Rig) -> Evidence:
    """Traffic goes on all the time; the server dies in the middle of it and comes back with what it had stored."""
    server = await rig.server()
    await rig.prepare(server.url)
    producer = rig.producer(server.url)
    worker = rig.worker(server.url, consumer={"order": "key", "concurrency": 8}, work=[0, 0.004])
    await rig.flowing(producer, worker)
    for _ in range(5):
        await rig.last(rig.random.uniform(0.5, 1.5) * (4 if rig.long else 1))
        async with rig.fault("SIGKILL"):
            server.kill()
            await rig.last(rig.random.uniform(0.1, 1.0) * (4 if rig.long else 1))
            await server.start()
        await rig.resumed()
    await rig.settle()
    e = await rig.evidence(server.url)
    rig.violations += all_acked(e)
    return e


ROW = Row(1, "one server, SIGKILL mid-publish, restart, five times", "LDOHRX", scenario)
