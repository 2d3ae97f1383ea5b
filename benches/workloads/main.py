"""Messages in and out: core and JetStream."""

from __future__ import annotations

from .model import ALL, EVENT, ONE, Modes, Workload


def _core_publish(name: str, size: int, quick: bool) -> Workload:
    small = size <= 1024
    ours = ("await", "nowait", "many") if small else ("await", "nowait")
    peers: dict[str, tuple[str, ...]] = {
        "raw": ONE,
        "async-nats": ONE,
        "nats.go": ONE,
        "nats-cli": ONE,
        "ours-python": ours,
        "nats-py": ONE,
        "natsrpy": ("await", "gather") if quick else ("await",),
        "ours-node": ours,
        "nats.js": ONE,
    }
    return Workload(
        f"core_publish_{name}",
        f"Core publish, {size} B",
        "core_publish",
        peers,
        setup="publish",
        spec={"size": size},
        quick={**peers, "natsrpy": ("await",)} if quick else None,
        note="No subscriber; ends when the server has answered a PING." if quick else "",
    )


_JS_PUBLISH: dict[str, tuple[str, ...]] = {
    "raw": ("used_again", "own_reply", "one_reply"),
    "async-nats": ONE,
    "nats.go": ONE,
    "nats-cli": ONE,
    "ours-python": ("gather", "sliding", "many"),
    "nats-py": ("gather", "publish_async"),
    "natsrpy": ("gather",),
    "ours-node": ("gather", "sliding", "many"),
    "nats.js": ("gather",),
}
_QUICK_JS_PUBLISH: Modes = {
    **_JS_PUBLISH,
    "ours-node": ("gather", "many"),
    "nats-py": ("gather",),
    "raw": ("used_again",),
}
_JS_ONE: Modes = {
    "raw": ("", "spin"),
    "async-nats": ONE,
    "nats.go": ONE,
    "nats-cli": ONE,
    "ours-python": ("await",),
    "nats-py": ("await",),
    "natsrpy": ("await",),
    "ours-node": ("await",),
    "nats.js": ("await",),
}
_JS_CONSUME: dict[str, tuple[str, ...]] = {
    "raw": ONE,
    "async-nats": ("iterate", "fetch"),
    "nats.go": ("callback", "iterate", "fetch"),
    "nats-cli": ONE,
    "ours-python": ("iterate", "handler", "fetch"),
    "nats-py": ("fetch", "push"),
    "natsrpy": ("iterate", "fetch"),
    "ours-node": ("iterate", "handler", "fetch"),
    "nats.js": ("iterate", "callback", "fetch"),
}

MAIN = [
    _core_publish("128", 128, True),
    _core_publish("1k", 1024, False),
    _core_publish("64k", 65_536, False),
    Workload(
        "core_receive",
        "Core receive, 128 B",
        "core_receive",
        {
            "raw": ONE,
            "async-nats": ONE,
            "nats.go": ("callback",),
            "nats-cli": ONE,
            "ours-python": ("iterate", "handler"),
            "nats-py": ("iterate", "callback"),
            "natsrpy": ("iterate", "callback"),
            "ours-node": ("iterate", "handler"),
            "nats.js": ("iterate", "callback"),
        },
        setup="flood",
        quick={
            "raw": ONE,
            "async-nats": ONE,
            "ours-python": ("iterate", "handler"),
            "nats-py": ("iterate", "callback"),
            "natsrpy": ("iterate",),
            "ours-node": ("iterate", "handler"),
            "nats.js": ("iterate", "callback"),
        },
        note="The raw program floods, never more than 65 536 messages ahead of what the receiver has told it (one "
        "message in 4096), so that nobody drops anything with its default settings.",
    ),
    Workload(
        "js_publish_one",
        "JetStream publish, one at a time, 128 B",
        "js_publish",
        _JS_ONE,
        setup="stream",
        spec={"window": 1},
        quick={**_JS_ONE, "raw": ONE},
        note="Without ids (`dedupe=False` of ours). File storage.",
    ),
    Workload(
        "js_publish",
        "JetStream publish, 1000 in flight, 128 B",
        "js_publish",
        _JS_PUBLISH,
        setup="stream",
        quick=_QUICK_JS_PUBLISH,
        note="Without ids (`dedupe=False` of ours). File storage. `send_many` is given 10 000 bodies at a time. Acks "
        "are told apart by their subjects: *own reply subjects* are new ones for each message, as peers have them; "
        "those *used again* once answered, as ours are, the server finds in its cache; one for all tells nothing "
        "apart.",
    ),
    Workload(
        "js_publish_ids",
        "JetStream publish with message ids, 1000 in flight, 128 B",
        "js_publish",
        _JS_PUBLISH,
        setup="stream",
        spec={"ids": True},
        note="An id per message, as ours does by default: what makes a retry safe.",
    ),
    Workload(
        "js_consume",
        "JetStream consume and ack, 128 B",
        "js_consume",
        _JS_CONSUME,
        setup="backlog",
        quick={
            "raw": ONE,
            "async-nats": ("iterate",),
            "ours-python": ("iterate", "handler", "fetch"),
            "nats-py": ("fetch",),
            "natsrpy": ("iterate",),
            "ours-node": ("iterate", "handler", "fetch"),
            "nats.js": ("iterate", "callback"),
        },
        note="A backlog in file storage, a durable of its own for each run, every message acked, the last ack "
        "confirmed by the server.",
    ),
    Workload(
        "js_fetch1",
        "JetStream `fetch(1)`, ack, next",
        "js_fetch1",
        dict.fromkeys((*ALL, "raw", "nats-cli"), ("fetch1",)),
        setup="backlog",
        note="The platform's own loop. Ours prefetches beneath it.",
    ),
    Workload(
        "platform_loop",
        "The platform's loop: 100 000 events, one at a time",
        "js_consume",
        {
            **dict.fromkeys(ALL, ("fetch1",)),
            "ours-python": ("handler", "fetch1"),
            "ours-node": ("handler", "fetch1"),
        },
        setup="backlog",
        spec={"body": EVENT, "count": 100_000, "backlog": 100_000, "cap": 12.0},
        note="JSON events through a durable; `fetch(1)`, ack, next, against one message at a time to the handler. The "
        "first 5 % are the warm-up; who is not done in 12 s is stopped.",
    ),
]
