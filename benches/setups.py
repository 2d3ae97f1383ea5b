"""What a workload needs around the client: streams, durables, backlogs, the other side; the proof of what it did."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Callable
from typing import Any, TypeAlias

from .paths import LIMIT
from .server import Server

Spec: TypeAlias = dict[str, Any]
Outcome: TypeAlias = dict[str, Any]

FLOOD_AHEAD = 65_536
"""No client drops anything by default with so many waiting."""


class Unproven(Exception):
    """The server has not seen what the client says it did."""


def neutral(spec: Spec, workload: str, **more: Any) -> list[str]:
    """The command of the raw program's part in a run."""
    keys = ("url", "subject", "size", "body", "count", "consumers", "rate", "seconds", "warmup")
    return [str(LIMIT), json.dumps({**{k: spec[k] for k in keys if k in spec}, "workload": workload, **more})]


class Setup:
    """Nothing needed. The base of the others; one object per workload."""

    def __init__(self, server: Server, name: str) -> None:
        self.server = server
        self.js = server.js
        self.name = name
        self.stream = f"BENCH_{name}"
        self._helpers: list[subprocess.Popen[bytes]] = []
        self._runs = 0
        self._before = 0

    def before(self, spec: Spec) -> None:
        """Before the client starts: adds to its spec."""
        self._runs += 1
        spec["subject"] = f"bench.{self.name}"
        self._before = self.server.variables()["in_msgs"]

    def started(self, spec: Spec, feed: int | None) -> None:
        """The client is ready. ``feed`` is its standard input, where it has one."""

    def proof(self, spec: Spec, outcome: Outcome) -> int | None:
        """How many messages the server has seen of it."""
        return None

    def after(self) -> None:
        """The client has ended."""
        for helper in self._helpers:
            helper.kill()
            helper.wait()
        self._helpers.clear()

    def close(self) -> None:
        """The workload is over."""

    def help(self, command: list[str], stdout: int | None = subprocess.DEVNULL) -> subprocess.Popen[bytes]:
        """Starts the other side."""
        helper = subprocess.Popen(command, stdin=subprocess.DEVNULL, stdout=stdout)
        self._helpers.append(helper)
        return helper

    def durable(self, spec: Spec, subject: str, suffix: str = "") -> str:
        """A durable of this run."""
        name = f"d{self._runs}{suffix}"
        self.js.add_durable(self.stream, name, subject)
        spec["stream"] = self.stream
        return name


class Publish(Setup):
    """Core publishing: the server's counter is the proof."""

    def proof(self, spec: Spec, outcome: Outcome) -> int | None:
        return self.server.variables()["in_msgs"] - self._before


class Flood(Setup):
    """The raw program sends as fast as the client reads."""

    def started(self, spec: Spec, feed: int | None) -> None:
        self.help(neutral(spec, "flood", window=FLOOD_AHEAD))


class Respond(Setup):
    """The raw program replies."""

    def before(self, spec: Spec) -> None:
        super().before(spec)
        responder = self.help(neutral(spec, "respond"), subprocess.PIPE)
        if responder.stdout:
            responder.stdout.readline()


class Stream(Setup):
    """A new stream for each run; what it stored is the proof."""

    def before(self, spec: Spec) -> None:
        super().before(spec)
        self.js.add_stream(self.stream, spec["subject"], spec.get("max_messages", -1))
        spec["stream"] = self.stream

    def proof(self, spec: Spec, outcome: Outcome) -> int | None:
        return self.js.messages(self.stream)

    def close(self) -> None:
        self.js.delete_stream(self.stream)


class Durable(Stream):
    """A new stream and a durable."""

    def before(self, spec: Spec) -> None:
        super().before(spec)
        spec["durable"] = self.durable(spec, spec["subject"])

    def proof(self, spec: Spec, outcome: Outcome) -> int | None:
        return None


class Journey(Durable):
    """A stream, a durable, and a pacer where there is a rate."""

    def started(self, spec: Spec, feed: int | None) -> None:
        if spec.get("rate") and feed is not None:
            self.help(neutral(spec, "pace"), feed)


class CoreJourney(Setup):
    """The same without a stream."""

    def before(self, spec: Spec) -> None:
        super().before(spec)
        spec["stream"] = ""


class Agent(Stream):
    """A new stream and three durables."""

    def before(self, spec: Spec) -> None:
        super().before(spec)
        for i in range(3):
            spec["durable"] = self.durable(spec, spec["subject"], f"-{i}").rpartition("-")[0]


class Backlog(Setup):
    """One stream, loaded once; a durable of its own for each run. The durable's acks are the proof."""

    def __init__(self, server: Server, name: str) -> None:
        super().__init__(server, name)
        self._loaded = False

    def before(self, spec: Spec) -> None:
        super().before(spec)
        if not self._loaded:
            self.js.add_stream(self.stream, spec["subject"])
            load = neutral(spec, "load", count=spec["backlog"], window=2000, consumers=0)
            subprocess.run(load, check=True, stdout=subprocess.DEVNULL)
            self._loaded = True
        spec["available"] = spec["backlog"]
        spec["durable"] = self._last = self.durable(spec, spec["subject"])

    def proof(self, spec: Spec, outcome: Outcome) -> int | None:
        if outcome.get("own_consumer"):
            return None
        return self.js.acked(self.stream, spec["durable"])

    def after(self) -> None:
        super().after()
        self.js.delete_durable(self.stream, self._last)

    def close(self) -> None:
        self.js.delete_stream(self.stream)


class FanOut(Setup):
    """A stream of many subjects, a durable for each; the raw program publishes over all once the client is ready."""

    def before(self, spec: Spec) -> None:
        super().before(spec)
        self.js.add_stream(self.stream, f"{spec['subject']}.*")
        for i in range(spec["consumers"]):
            spec["durable"] = self.durable(spec, f"{spec['subject']}.{i}", f"-{i}").rpartition("-")[0]

    def started(self, spec: Spec, feed: int | None) -> None:
        self.help(neutral(spec, "load", window=2000, rate=spec.get("load_rate", 0.0)))

    def close(self) -> None:
        self.js.delete_stream(self.stream)


SETUPS: dict[str, Callable[[Server, str], Setup]] = {
    "none": Setup,
    "publish": Publish,
    "flood": Flood,
    "respond": Respond,
    "stream": Stream,
    "durable": Durable,
    "journey": Journey,
    "core_journey": CoreJourney,
    "agent": Agent,
    "backlog": Backlog,
    "fan_out": FanOut,
}
