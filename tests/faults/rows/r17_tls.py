"""Row 17: TLS: unknown CA, wrong host, expired, client certificate missing, plaintext server.

While messages flow, the connections are cut, and another server answers in the place of the right one. Whoever was
connected is told why and goes on trying; whoever connects then gets the error; with the right server all goes on, and
nothing is lost. A proxy writes down every byte of the run: no topic, no body, no name and no password is among them.
"""

from __future__ import annotations

import json
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from ..certificates import Authority
from ..checks import all_acked, in_clear, no_secret, told, turned_away
from ..evidence import Evidence, Rules
from ..frames import Frame
from ..proxy import Proxy, Way
from ..rig import Rig
from ..run import Row

SOON = 2.0
USER, PASSWORD = "clerk-of-works", "Hunter2-TopSecret"


@dataclass(frozen=True)
class Wrong:
    """What is wrong with a server."""

    tls: Callable[[Authority, Authority], str]
    """Its configuration, by the right authority and another one."""
    cause: str
    """What is told, a pattern."""


CASES = {
    "unknown CA": Wrong(lambda right, other: other.tls("other"), "UnknownIssuer"),
    "wrong host": Wrong(
        lambda right, other: right.tls("elsewhere", "bus.internal"), "not valid for name|NotValidForName"
    ),
    "expired": Wrong(lambda right, other: right.tls("old", expired=True), "expired"),
    "client certificate missing": Wrong(lambda right, other: right.tls("mutual", mutual=True), "CertificateRequired"),
    "plaintext server": Wrong(lambda right, other: "", "corrupt message"),
}


def _recorded(proxy: Proxy) -> bytearray:
    """Every byte that goes by, both ways, while it goes on."""
    seen = bytearray()

    def watch(way: Way, frame: Frame) -> None:
        seen.extend(frame.raw)

    proxy.watchers.append(watch)
    return seen


async def _heard(rig: Rig, words: dict[str, bytes]) -> None:
    """The proof of the proof: what a client sends that asks for no TLS is heard, all of it."""
    server = await rig.server(name="plain", config=_config(""))
    proxy = rig.proxy(server, opaque=True)
    wire = _recorded(proxy)
    open_ = rig.producer(proxy.url, who="open", rate=50, count=10, connect={"user": USER, "password": PASSWORD})
    await rig.settled(open_, "finish")
    missed = words.keys() - {name for name, word in words.items() if word in wire}
    rig.require(not missed, "rig", f"the proxy did not hear {missed} from a client without TLS")


def _config(tls: str) -> str:
    return f"authorization {{ users = {json.dumps([{'user': USER, 'password': PASSWORD}])} }}\n{tls}\n"


async def scenario(rig: Rig) -> Evidence:
    """The wrong server in the place of the right one, and back."""
    wrong = CASES[rig.case]
    right, other = Authority(rig.folder, "right-ca"), Authority(rig.folder, "other-ca")
    # The other client looks before and after, without TLS.
    plain = _config("")
    rig.access = {"user": USER, "password": PASSWORD}
    server = await rig.server(config=plain)
    await rig.prepare(server.url)
    await server.restart(_config(right.tls("server")))
    impostor = await rig.server(name="impostor", config=_config(wrong.tls(right, other)))
    proxy = rig.proxy(server, opaque=True)
    wire, where = _recorded(proxy), f"127.0.0.1:{proxy.port}"
    url = proxy.url.replace("nats://", "tls://")
    connect: dict[str, Any] = {"user": USER, "password": PASSWORD, "tls": {"ca": str(right.ca)}}
    producer, worker = rig.producer(url, connect=connect), rig.worker(url, connect=connect)
    await rig.flowing(producer, worker)
    for turn in range(3 if rig.long else 1):
        if turn:
            await rig.steady()
        async with rig.fault(rig.case):
            since = time.monotonic()
            proxy.upstream = impostor.port
            await proxy.sever()
            for child in (producer, worker):
                await rig.comes(
                    lambda c=child, t=since: not list(told(c.ledger, "connecting", t, 10, cause=wrong.cause)), 10
                )
                rig.violations += told(child.ledger, "connecting", since, SOON, server=where, cause=wrong.cause)
            late = rig.producer(url, who=f"late{turn}", connect=connect)
            late.expected = 3
            await late.ended(10)
            rig.violations += turned_away(late.ledger, "connection.tls", SOON, words=[where])
            await rig.last(rig.random.uniform(0.5, 1))
            proxy.upstream = server.port
        await rig.resumed()
    await rig.settle()
    await server.restart(plain)
    e = await rig.evidence(server.url)
    rig.violations += all_acked(e)
    words = {
        "the topic": rig.topic.encode(),
        "a body": b'"from":"',
        "a key": b"Sharding-Key",
        "the user": USER.encode(),
        "the password": PASSWORD.encode(),
    }
    rig.violations += in_clear(bytes(wire), words)
    rig.violations += no_secret(e, {"the password": PASSWORD})
    rig.facts["on the wire"] = f"{len(wire) >> 10} KiB"
    if rig.case == "plaintext server":
        await _heard(rig, words)
    return e


ROW = Row(
    17,
    "TLS: unknown CA, wrong host, expired, client certificate missing, plaintext server",
    "LDHRX",
    scenario,
    cases=tuple(CASES),
    rules=Rules(codes=frozenset()),
)
