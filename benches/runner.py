"""Runs the workloads: round by round, all clients in turn, each a process of its own."""

from __future__ import annotations

import dataclasses
import json
import os
import re
import select
import shutil
import subprocess
import tempfile
import time
from collections import Counter
from collections.abc import Iterator
from typing import IO, Any

from .clients import CLIENTS, Client, label
from .paths import HERE, NODE, ROOT
from .progress import Progress
from .server import Server
from .setups import SETUPS, Outcome, Setup, Spec, Unproven
from .stats import Results, rate_of
from .workloads import Workload


@dataclasses.dataclass(frozen=True)
class Size:
    """How much is done."""

    rounds: int
    seconds: float
    warmup: float
    backlog: int
    shrink: int = 1
    """Counts are divided by this."""


FULL = Size(rounds=5, seconds=0.6, warmup=0.2, backlog=500_000)
QUICK = Size(rounds=3, seconds=0.3, warmup=0.1, backlog=150_000, shrink=10)


class Failed(Exception):
    """A client did not do what was asked of it."""


class Run:
    """One run over the workloads chosen."""

    def __init__(self, server: Server, size: Size, results: Results, progress: Progress, peers: list[str]) -> None:
        self._server, self._size, self._results = server, size, results
        self._progress, self._peers = progress, peers
        for file in HERE.glob("peers/*.mjs"):
            # Beside the packages they import: a module is looked up from where its file is.
            shutil.copy(file, NODE)

    def entries(self, workload: Workload, quick: bool) -> list[tuple[Client, str]]:
        """Who takes part, and in which way."""
        modes = workload.quick if quick else workload.modes
        if modes is None:
            return []
        chosen = [CLIENTS[id_] for id_ in self._peers if CLIENTS[id_].family in modes and id_ not in workload.without]
        return [(client, mode) for client in chosen for mode in modes[client.family]]

    def _rounds(self, workload: Workload) -> int:
        return min(self._size.rounds, workload.rounds or self._size.rounds)

    def steps(self, workload: Workload, quick: bool) -> int:
        """How many processes it takes."""
        return len(self.entries(workload, quick)) * self._rounds(workload)

    def workload(self, workload: Workload, quick: bool) -> None:
        """All its rounds."""
        entries = self.entries(workload, quick)
        setup = SETUPS[workload.setup](self._server, workload.id)
        rounds = self._rounds(workload)
        failures: Counter[str] = Counter()
        try:
            for round_ in range(rounds):
                # Each round begins with another client: none has always the same neighbour in front of it.
                turn = round_ % len(entries)
                for client, mode in entries[turn:] + entries[:turn]:
                    row = label(client.id, mode)
                    if failures[row] > 1:
                        continue
                    self._progress.step(f"{workload.id}  round {round_ + 1}/{rounds}  {row}")
                    try:
                        outcome = self._one(workload, setup, client, mode)
                        self._results.add(workload.id, client.id, mode, outcome)
                    except (Failed, Unproven, OSError, RuntimeError) as e:
                        failures[row] += 1
                        self._results.fail(workload.id, client.id, mode, str(e))
                        self._progress.note(f"{workload.id}: {row}: {e}")
        finally:
            setup.close()

    def _spec(self, workload: Workload, client: Client, mode: str) -> Spec:
        size = self._size
        spec: Spec = {"size": 128, "window": 1000, "batch": 500, "seconds": size.seconds, "warmup": size.warmup}
        spec |= {"backlog": size.backlog, **workload.spec, **client.spec}
        if "count" in spec:
            # The clients look at the count every 16 messages.
            spec["count"] = spec["count"] // size.shrink // 16 * 16
            if "backlog" in workload.spec:
                spec["backlog"] = max(spec["backlog"] // size.shrink, spec["count"])
        spec |= {"workload": workload.what, "mode": mode, "url": self._server.url}
        if mode == "fetch1":
            spec |= {"workload": "js_fetch1", "mode": ""}
        if client.ours:
            # What is said of ours is said of all the messages.
            spec.pop("cap", None)
        if workload.kind == "latency":
            # The far percentiles need more.
            spec["seconds"] *= 2
        if workload.what in client.one_worker:
            spec["workers"] = 1
        if workload.share:
            best = rate_of(self._results, "e2e_max", client.id, mode)
            if best is None:
                raise Failed("its sustainable rate is not known: run e2e_max with it")
            spec["rate"] = best * workload.share
        return spec

    def _one(self, workload: Workload, setup: Setup, client: Client, mode: str) -> Outcome:
        spec = self._spec(workload, client, mode)
        setup.before(spec)
        try:
            outcome = self._client(client, setup, spec)
            self._check(setup, spec, outcome)
        finally:
            setup.after()
        if spec.get("rate"):
            outcome["target"] = spec["rate"]
        return outcome

    def _check(self, setup: Setup, spec: Spec, outcome: Outcome) -> None:
        # The server brings its counters up to date a little later than it answers.
        until = time.monotonic() + 2
        while (proof := setup.proof(spec, outcome)) is not None and proof < outcome["total"]:
            if time.monotonic() > until:
                raise Unproven(f"it counts {outcome['total']} messages, the server {proof}")
            time.sleep(0.02)

    def _client(self, client: Client, setup: Setup, spec: Spec) -> Outcome:
        feed = None
        source: int = subprocess.DEVNULL
        if spec.get("rate"):
            source, feed = os.pipe()
        program = client.startup if spec["workload"] == "startup" else client.command
        command = [*program, json.dumps(_known(spec))]
        errors = tempfile.TemporaryFile()  # noqa: SIM115
        process = subprocess.Popen(command, cwd=ROOT, stdin=source, stdout=subprocess.PIPE, stderr=errors)
        limit = time.monotonic() + 120 + 10 * spec["seconds"] + spec.get("count", 0) / 20_000
        outcome: Outcome | None = None
        try:
            for answer in _answers(process, limit):
                if "ready" in answer:
                    setup.started(spec, feed)
                    if feed is not None:
                        os.close(feed)
                        feed = None
                else:
                    outcome = answer
            if process.wait() or outcome is None:
                raise Failed(f"it ended with {process.returncode}: {_last_words(errors)}")
            return outcome
        finally:
            if process.poll() is None:
                process.kill()
                process.wait()
            errors.close()
            for pipe in (feed, source if source >= 0 else None):
                if pipe is not None:
                    os.close(pipe)


def _known(spec: Spec) -> dict[str, Any]:
    """Without what only the runner needs."""
    return {k: v for k, v in spec.items() if k not in ("backlog", "max_messages", "load_rate")}


def _answers(process: subprocess.Popen[bytes], limit: float) -> Iterator[dict[str, Any]]:
    """What the client says, line by line, until it ends or its time is over."""
    out = process.stdout
    if out is None:
        return
    rest = b""
    while True:
        left = limit - time.monotonic()
        if left <= 0 or not select.select([out], [], [], left)[0]:
            raise Failed("it did not end in time")
        data = os.read(out.fileno(), 65_536)
        if not data:
            return
        *lines, rest = (rest + data).split(b"\n")
        yield from (json.loads(line) for line in lines if line.startswith(b"{"))


def _last_words(errors: IO[bytes]) -> str:
    errors.seek(0)
    lines = errors.read().decode(errors="replace").strip().splitlines()
    telling = [line for line in lines if re.match(r"(thread .*panicked|[\w.]*(Error|Exception|Timeout)\b)", line)]
    return (telling or lines or ["no word"])[-1]
