"""What it takes to be there: idling, starting, memory over many messages."""

from __future__ import annotations

from .model import ALL, HOSTS, ONE_LOOP, Workload

FOOTPRINT = [
    Workload(
        "idle",
        "Idle: a connection with a waiting consumer",
        "idle",
        ALL,
        setup="durable",
        kind="idle",
        spec={"seconds": 5.0},
        without=ONE_LOOP,
    ),
    Workload(
        "startup",
        "Start-up: import and connect",
        "startup",
        HOSTS,
        kind="startup",
        quick=HOSTS,
        without=frozenset({"ours-python-uvloop", "nats-py-uvloop"}),
    ),
    *(
        Workload(
            f"memory_{where}",
            f"Memory over 10 million messages, {title}",
            "journey",
            HOSTS,
            setup="journey" if where == "js" else "core_journey",
            kind="memory",
            spec={"count": 10_000_000, "max_messages": 100_000, "cap": 60.0},
            rounds=1,
            without=ONE_LOOP,
            note="Sent and received by one process. The peers get a minute, and so fewer messages.",
        )
        for where, title in (("core", "core"), ("js", "JetStream"))
    ),
]
