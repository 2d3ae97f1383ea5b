"""Whether the cost of a message grows: with consumers, keys, backlog."""

from __future__ import annotations

from .model import ALL, ONE, ONE_LOOP, curve

CURVES = [
    *curve(
        "fan_out",
        "Consumers on one connection",
        (1, 10, 100, 1000),
        ALL,
        id="fan_out",
        setup="fan_out",
        vary="consumers",
        spec={"count": 20_000, "batch": 100},
        without=ONE_LOOP,
        note="Durables of one stream, a subject each; the raw program publishes 20 000 messages over them, as "
        "fast as the server stores them: with 1 000 consumers it is the server that is slow.",
    ),
    *curve(
        "fan_out",
        "Consumers on one connection, at 1 000 messages a second",
        (1, 10, 100, 1000),
        ALL,
        id="fan_paced",
        setup="fan_out",
        vary="consumers",
        spec={"count": 2_000, "batch": 100, "load_rate": 1000.0},
        without=ONE_LOOP,
        note="The same at a rate that all can keep: a message that comes alone costs more than one of many, so only "
        "this tells what further consumers cost.",
    ),
    *curve(
        "js_publish",
        "Keyed JetStream publish",
        (1, 100, 10_000),
        {
            "async-nats": ONE,
            "nats.go": ONE,
            "ours-python": ("keyed",),
            "nats-py": ("gather",),
            "natsrpy": ("gather",),
            "ours-node": ("keyed",),
            "nats.js": ("gather",),
        },
        id="keyed",
        setup="stream",
        vary="keys",
        without=ONE_LOOP,
        note="Ours keeps each key in order, retries included. The peers send the same header without any such promise. "
        "All without ids.",
    ),
    *curve(
        "js_consume",
        "JetStream consume and ack by backlog",
        (100_000, 300_000, 1_000_000),
        {
            "async-nats": ("iterate",),
            "nats.go": ("callback",),
            "ours-python": ("iterate",),
            "nats-py": ("fetch",),
            "natsrpy": ("iterate",),
            "ours-node": ("iterate",),
            "nats.js": ("iterate",),
        },
        id="backlog",
        without=ONE_LOOP,
        setup="backlog",
        vary="backlog",
        note="The first of them.",
    ),
]
