"""The one server of a run, and what is asked of it: streams, durables, counters."""

from __future__ import annotations

import contextlib
import json
import shutil
import socket
import subprocess
import tempfile
import time
import urllib.request
from pathlib import Path
from typing import Any


def _free_port() -> int:
    with socket.socket() as s:
        s.bind(("127.0.0.1", 0))
        port: int = s.getsockname()[1]
        return port


class Server:
    """A nats-server with file storage in a folder of its own; everything else as it comes."""

    def __init__(self, binary: Path) -> None:
        self.dir = Path(tempfile.mkdtemp(prefix="nats-bench-"))
        self.port, self._monitor = _free_port(), _free_port()
        args = [str(binary), "-a", "127.0.0.1", "-p", str(self.port), "-m", str(self._monitor)]
        args += ["-js", "-sd", str(self.dir), "-l", str(self.dir / "server.log")]
        self._process = subprocess.Popen(args, stdin=subprocess.DEVNULL)
        until = time.monotonic() + 10
        while not self._answers():
            if time.monotonic() > until or self._process.poll() is not None:
                raise RuntimeError("nats-server did not start")
            time.sleep(0.01)
        self.js = JetStream(self.port)

    @property
    def url(self) -> str:
        """Its address."""
        return f"nats://127.0.0.1:{self.port}"

    def _answers(self) -> bool:
        with contextlib.suppress(OSError), socket.create_connection(("127.0.0.1", self.port), 1) as s:
            return s.recv(5) == b"INFO "
        return False

    def variables(self) -> dict[str, Any]:
        """What the server counts."""
        with urllib.request.urlopen(f"http://127.0.0.1:{self._monitor}/varz", timeout=10) as answer:
            counters: dict[str, Any] = json.load(answer)
            return counters

    def close(self) -> None:
        """Ends it and removes its folder."""
        self.js.close()
        self._process.terminate()
        self._process.wait()
        shutil.rmtree(self.dir, ignore_errors=True)

    def __enter__(self) -> Server:
        return self

    def __exit__(self, *_: object) -> None:
        self.close()


STALE = 60.0
"""Seconds after which a connection that was not used is made anew; the server's patience is some four minutes."""


class JetStream:
    """JetStream's API over a socket of its own, so that no peer's client has a part in it."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._connect()

    def _connect(self) -> None:
        self._used = time.monotonic()
        self._socket = socket.create_connection(("127.0.0.1", self._port), 60)
        self._read = self._socket.makefile("rb")
        self._read.readline()
        self._socket.sendall(b'CONNECT {"verbose":false,"headers":true,"no_responders":true}\r\nSUB _INBOX.admin 1\r\n')

    def call(self, subject: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """One request; an error in the answer stays there."""
        if time.monotonic() - self._used > STALE:
            # Nobody has answered the server's pings meanwhile: it may have hung up.
            self.close()
            self._connect()
        self._used = time.monotonic()
        payload = b"" if body is None else json.dumps(body).encode()
        self._socket.sendall(b"PUB $JS.API.%s _INBOX.admin %d\r\n%s\r\n" % (subject.encode(), len(payload), payload))
        while True:
            line = self._read.readline()
            if not line:
                raise RuntimeError("the server hung up")
            if line.startswith(b"PING"):
                self._socket.sendall(b"PONG\r\n")
            elif line[:3] == b"MSG":
                answer: dict[str, Any] = json.loads(self._read.read(int(line.split()[-1]) + 2))
                return answer
            elif line[:1] in b"H-":
                raise RuntimeError(f"{subject}: {line.decode().strip()}")

    def must(self, subject: str, body: dict[str, Any] | None = None) -> dict[str, Any]:
        """One request that must succeed."""
        answer = self.call(subject, body)
        if "error" in answer:
            raise RuntimeError(f"{subject}: {answer['error']}")
        return answer

    def add_stream(self, name: str, subject: str, max_messages: int = -1) -> None:
        """A new stream over the subject; an old one of that name goes."""
        self.call(f"STREAM.DELETE.{name}")
        config = {"name": name, "subjects": [subject], "storage": "file", "max_msgs": max_messages}
        self.must(f"STREAM.CREATE.{name}", {**config, "retention": "limits", "discard": "old", "num_replicas": 1})

    def delete_stream(self, name: str) -> None:
        """Also when it is not there."""
        self.call(f"STREAM.DELETE.{name}")

    def messages(self, stream: str) -> int:
        """How many were ever stored there."""
        last: int = self.must(f"STREAM.INFO.{stream}")["state"]["last_seq"]
        return last

    def add_durable(self, stream: str, name: str, subject: str) -> None:
        """A pull durable with explicit acks and room for all of them."""
        config = {
            "durable_name": name,
            "filter_subject": subject,
            "ack_policy": "explicit",
            "deliver_policy": "all",
            "ack_wait": 30_000_000_000,
            "max_ack_pending": 65_536,
        }
        self.must(f"CONSUMER.DURABLE.CREATE.{stream}.{name}", {"stream_name": stream, "config": config})

    def acked(self, stream: str, durable: str) -> int:
        """Messages delivered and acked."""
        info = self.must(f"CONSUMER.INFO.{stream}.{durable}")
        count: int = info["delivered"]["consumer_seq"] - info["num_ack_pending"]
        return count

    def delete_durable(self, stream: str, name: str) -> None:
        """Also when it is not there."""
        self.call(f"CONSUMER.DELETE.{stream}.{name}")

    def close(self) -> None:
        """Disconnects."""
        self._socket.close()
