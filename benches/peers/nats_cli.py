"""`nats bench`, of NATS's own command line: a short run to learn its rate, then one as long as the others'.

Its figures are its own: messages a second as it reports them. Its CPU time cannot be told from its start-up's.
"""

from __future__ import annotations

import csv
import json
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

PROBE = {"core_publish": 50_000, "core_receive": 50_000, "js_publish": 1_000, "js_consume": 2_000, "js_fetch1": 1_000}
MICROS = {"p50": "P50", "p90": "P90", "p99": "P99", "p999": "P99.9", "max": "Max"}


class Bench:
    """The program, on one workload."""

    def __init__(self, program: str, spec: dict[str, Any]) -> None:
        self._start = [program, "--no-context", "-s", str(spec["url"]), "bench"]
        self._spec = spec

    def _command(self, messages: int, file: str) -> list[str]:
        spec = self._spec
        subject, size = str(spec["subject"]), ("--size", str(spec["size"]))
        stream = ("--stream", str(spec.get("stream", "")))
        consumer = ("--consumer", str(spec.get("durable", "")))
        match spec["workload"]:
            case "core_publish":
                command = ("pub", subject, *size)
            case "core_receive":
                command = ("sub", subject, *size)
            case "request":
                command = ("service", "request", subject, *size)
            case "js_publish" if spec["window"] == 1:
                command = ("js", "pub", "sync", subject, *stream, *size)
            case "js_publish":
                ids = ("--dedup",) if spec.get("ids") else ()
                command = ("js", "pub", "async", subject, *stream, *size, "--batch", str(spec["window"]), *ids)
            case "js_consume":
                command = ("js", "consume", *stream, *consumer, *size, "--batch", str(spec["batch"]))
            case "js_fetch1":
                command = ("js", "fetch", *stream, *consumer, *size, "--batch", "1")
            case other:
                raise ValueError(f"nats bench has no {other}")
        return [*self._start, *command, "--no-progress", "--msgs", str(messages), "--csv", file]

    def _flood(self, messages: int) -> subprocess.Popen[bytes]:
        """Its own publisher, for its subscriber tells nobody how far it is."""
        spec = self._spec
        command = [*self._start, "pub", str(spec["subject"]), "--size", str(spec["size"]), "--msgs", str(messages)]
        quiet = subprocess.DEVNULL
        return subprocess.Popen([*command, "--no-progress"], stdin=quiet, stdout=quiet, stderr=quiet)

    def run(self, messages: int) -> dict[str, float]:
        """Its figures for so many messages."""
        with tempfile.NamedTemporaryFile(suffix=".csv") as file:
            command = self._command(messages, file.name)
            process = subprocess.Popen(
                command, stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE
            )
            if self._spec["workload"] == "core_receive" and process.stderr:
                # Its log says when it has subscribed.
                while b"expecting" not in (line := process.stderr.readline()) and line:
                    pass
                self._flood(messages).wait()
            _, errors = process.communicate(timeout=60)
            if process.returncode:
                sys.exit(errors.decode(errors="replace"))
            rows = list(csv.DictReader(Path(file.name).read_text().replace("#RunID", "RunID").splitlines()))
        return {name: float(value) for name, value in rows[0].items() if name not in ("RunID", "ClientID") and value}


def main() -> None:
    spec: dict[str, Any] = json.loads(sys.argv[2])
    bench = Bench(sys.argv[1], spec)
    probe = PROBE.get(spec["workload"], 1_000)
    if spec["workload"] == "js_publish" and spec["window"] > 1:
        probe *= 10
    rate = bench.run(probe)["MsgsPerSec"]
    messages = max(int(rate * spec["seconds"]), probe)
    if spec.get("available"):
        messages = min(messages, spec["available"] - probe)
    found = bench.run(messages)
    # Not its MsgCount, which counts acks, too.
    outcome: dict[str, Any] = {
        "seconds": messages / found["MsgsPerSec"],
        "messages": messages,
        "total": messages + probe,
    }
    if spec["workload"] == "request":
        latency = {ours: found[f"{theirs}LatencyMicroSecs"] for ours, theirs in MICROS.items()}
        outcome["latency"] = {**latency, "count": messages}
    print(json.dumps(outcome))


if __name__ == "__main__":
    main()
