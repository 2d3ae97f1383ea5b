"""The peers: how each is started, and what its ways of doing a thing are called."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

from .paths import GO, HERE, LIMIT, NODE, PYTHON, RUST


@dataclasses.dataclass(frozen=True)
class Client:
    """One peer."""

    id: str
    label: str
    family: str
    """Whose ways it has: a client on another event loop has the same."""
    command: tuple[str, ...]
    needs: Path
    """What must be there for it to run."""
    spec: dict[str, Any] = dataclasses.field(default_factory=dict[str, Any])
    startup: tuple[str, ...] = ()
    """The program for the start-up's time."""
    one_worker: frozenset[str] = frozenset()
    """Workloads that go better with one worker thread."""
    ours: bool = False
    how: str = ""
    """How it is run, for the report."""
    absent: str = ""
    """Why it is not in every workload."""


def _python(module: str) -> tuple[str, ...]:
    return (str(PYTHON), "-m", f"benches.peers.{module}")


def _node(file: str) -> tuple[str, ...]:
    return ("node", str(NODE / file))


_STARTUP_PYTHON = (str(PYTHON), "-P", str(HERE / "peers" / "startup.py"))
_UVLOOP = {"loop": "uvloop"}

CLIENTS = {
    c.id: c
    for c in (
        Client(
            "raw",
            "raw socket",
            "raw",
            (str(LIMIT),),
            LIMIT,
            absent="a limit is only wanted where the protocol sets one",
            how="benches/rust/src/limit: a blocking socket and ready-made frames. Publishes are counted by PING and "
            "PONG or by acks, received messages are only framed, acks are written once per read. The server's own "
            "limit.",
        ),
        Client(
            "async-nats",
            "async-nats",
            "async-nats",
            (str(RUST / "release" / "peer-async-nats"),),
            RUST / "release" / "peer-async-nats",
            one_worker=frozenset({"core_publish"}),
            absent="start-up, timers beside the work and memory are compared within a host language",
            how="tokio's multi-thread runtime with one worker for publishing and two for receiving, the better of "
            "both each; publishes with a sliding window of ack futures; consumes by `consumer.stream()`.",
        ),
        Client(
            "nats.go",
            "nats.go 1.34.1",
            "nats.go",
            (str(GO / "peer"),),
            GO / "peer",
            absent="start-up, timers beside the work and memory are compared within a host language",
            how="the version the platform runs. `PublishAsync` with 1000 pending, pull consumers of its `jetstream` "
            "package, `Fetch(1)` on the legacy context as the platform does.",
        ),
        Client(
            "nats-cli",
            "nats bench",
            "nats-cli",
            (*_python("nats_cli"), str(GO / "nats")),
            GO / "nats",
            absent="`nats bench` has no such workload, or sends other messages",
            how="`nats bench` of natscli, with its own options; its own figures are taken.",
        ),
        Client(
            "ours-python",
            "ours, Python",
            "ours-python",
            _python("ours_python"),
            PYTHON,
            startup=(*_STARTUP_PYTHON, "ours"),
            ours=True,
            how="asyncio; default settings throughout, `dedupe=False` where a workload is without ids.",
        ),
        Client(
            "ours-python-uvloop",
            "ours, Python on uvloop",
            "ours-python",
            _python("ours_python"),
            PYTHON,
            _UVLOOP,
            ours=True,
            how="the same on uvloop.",
        ),
        Client(
            "nats-py",
            "nats-py",
            "nats-py",
            _python("nats_py"),
            PYTHON,
            startup=(*_STARTUP_PYTHON, "nats-py"),
            how="asyncio. `await publish` and one `flush` at the end; `asyncio.gather` of 1000 `js.publish`, or "
            "`publish_async` with 1000 pending; `fetch(500)`, or a push consumer with a callback.",
        ),
        Client(
            "nats-py-uvloop",
            "nats-py on uvloop",
            "nats-py",
            _python("nats_py"),
            PYTHON,
            _UVLOOP,
            how="the same on uvloop.",
        ),
        Client(
            "natsrpy",
            "natsrpy 0.1.4",
            "natsrpy",
            _python("natsrpy"),
            PYTHON,
            startup=(*_STARTUP_PYTHON, "natsrpy"),
            how="asyncio. `await publish`, or `gather` of 1000; JetStream publishes with `wait=True`, for without "
            "it nothing is known of them; `consume()` and `fetch(500)`.",
        ),
        Client(
            "ours-node",
            "ours, Node",
            "ours-node",
            _node("ours_node.mjs"),
            NODE,
            startup=(*_node("startup.mjs"), "ours"),
            ours=True,
            how="default settings throughout, `dedupe: false` where a workload is without ids.",
        ),
        Client(
            "nats.js",
            "nats.js",
            "nats.js",
            _node("nats_js.mjs"),
            NODE,
            startup=(*_node("startup.mjs"), "nats.js"),
            how="`publish` with a `flush` every 10 000 messages, since nothing is written before the loop turns; "
            "`Promise.all` of 1000 `js.publish`; `consume()` with an iterator or a callback and 1000 messages "
            "ahead; `fetch` of 500.",
        ),
    )
}

WAYS = {
    "": "",
    "await": "await each send",
    "nowait": "send without waiting",
    "many": "send_many",
    "gather": "gather of 1000",
    "sliding": "sliding window of 1000",
    "publish_async": "publish_async",
    "keyed": "with a key",
    "iterate": "by iteration",
    "handler": "by handler",
    "callback": "by callback",
    "fetch": "fetch(500)",
    "fetch1": "fetch(1)",
    "push": "push consumer",
    "own_reply": "own reply subjects",
    "used_again": "reply subjects used again",
    "spin": "busy waiting",
    "one_reply": "one reply subject",
}
"""What a way is called in the report."""


def label(client: str, mode: str) -> str:
    """What a row of the report is called."""
    way = WAYS[mode]
    return f"{CLIENTS[client].label}, {way}" if way else CLIENTS[client].label
