"""The NATS protocol as far as a proxy must understand it: where a frame ends, and what its payload is. No I/O."""

from __future__ import annotations

import re
from dataclasses import dataclass

_WITH_PAYLOAD = (b"PUB", b"HPUB", b"MSG", b"HMSG", b"RMSG")
_ID = re.compile(rb"^Nats-Msg-Id:[ \t]*(.*?)[ \t]*\r$", re.IGNORECASE | re.MULTILINE)


@dataclass(frozen=True, slots=True)
class Frame:
    """One operation, in either direction."""

    raw: bytes
    """All of it, as it is on the wire."""
    line: bytes
    """Its first line, without the line's end."""
    headers: bytes = b""
    body: bytes | None = None
    """The payload; None for an operation without one."""

    @property
    def subject(self) -> str:
        """Of a message."""
        return self.line.split(b" ", 2)[1].decode() if self.body is not None else ""

    @property
    def message_id(self) -> str | None:
        """The message id in the headers, if any."""
        found = _ID.search(self.headers)
        return found[1].decode() if found else None

    @property
    def is_pub_ack(self) -> bool:
        """Whether it brings the server's word that a message is stored."""
        body = self.body or b""
        return body.startswith(b'{"stream":') and b'"seq":' in body

    @property
    def middle(self) -> int:
        """Where to cut it so that its payload is torn."""
        return len(self.line) + 2 + len(self.headers) + len(self.body or b"") // 2


class Frames:
    """Cuts a stream of bytes into frames."""

    def __init__(self) -> None:
        self._rest = b""

    def feed(self, data: bytes) -> list[Frame]:
        """The frames that are complete now."""
        data, at, out = self._rest + data, 0, list[Frame]()
        while (eol := data.find(b"\r\n", at)) >= 0:
            line = data[at:eol]
            words = line.split()
            if not words or words[0].upper() not in _WITH_PAYLOAD:
                end, frame = eol + 2, Frame(data[at : eol + 2], line)
            else:
                start, end = eol + 2, eol + 2 + int(words[-1]) + 2
                if len(data) < end:
                    break
                body = start + (int(words[-2]) if words[0].upper().startswith(b"H") else 0)
                frame = Frame(data[at:end], line, data[start:body], data[body : end - 2])
            out.append(frame)
            at = end
        self._rest = data[at:]
        return out


class Chunks:
    """For a stream that is not to be understood, as an encrypted one: what was read at once is a frame."""

    def feed(self, data: bytes) -> list[Frame]:
        """All of it."""
        return [Frame(data, b"")]
