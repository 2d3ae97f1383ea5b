"""How long things take: requests, whole journeys, a busy agent, a timer beside the work."""

from __future__ import annotations

from .model import ALL, EVENT, ONE, Workload

LATENCY = [
    Workload(
        "request",
        "Request and reply, 128 B",
        "request",
        {**ALL, "raw": ("", "spin"), "nats-cli": ONE},
        setup="respond",
        kind="latency",
        quick={**ALL, "raw": ONE},
        note="One request at a time; the raw program replies.",
    ),
    Workload(
        "e2e_max",
        "End to end, as fast as it goes",
        "journey",
        ALL,
        setup="journey",
        note="One process sends to a stream, consumes from it and acks, at most 1000 messages between the two ends: "
        "the sustainable rate, from which the next three tables take theirs. Ours with ids, as by default.",
    ),
    *(
        Workload(
            f"e2e_{percent}",
            f"End-to-end latency at {percent} % of the client's own sustainable rate",
            "journey",
            ALL,
            setup="journey",
            kind="latency",
            share=percent / 100,
            note="From the time a message was to be sent, set by a pacer outside the client, to its arrival in the "
            "client's code.",
        )
        for percent in (10, 50, 90)
    ),
    Workload(
        "e2e_2000",
        "End-to-end latency at 2 000 messages a second, the same for all",
        "journey",
        ALL,
        setup="journey",
        kind="latency",
        spec={"rate": 2000.0},
    ),
    Workload(
        "agent",
        "An agent: one producer, three consumers, JSON bodies",
        "agent",
        ALL,
        setup="agent",
        spec={"body": EVENT},
        note="Each event is encoded, stored, and by three durables received, decoded and acked in one process. "
        "Ours with ids, as by default.",
    ),
    Workload(
        "timer",
        "A 10 ms timer beside core receive at full rate: how late it is",
        "core_receive",
        {
            "ours-python": ("iterate", "handler"),
            "nats-py": ("iterate",),
            "natsrpy": ("iterate",),
            "ours-node": ("iterate", "handler"),
            "nats.js": ("iterate",),
        },
        setup="flood",
        kind="latency",
        spec={"timer": 0.01},
    ),
]
