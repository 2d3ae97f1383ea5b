"""Row 16: wrong password; expired JWT; credentials rotated; user revoked while running.

The right is lost while messages flow. Whoever is connected is told within 2 s, by an event that names the server and
says why; whoever connects then gets the error. Sends end by their deadlines, and with the new file all goes on. Where
the file is replaced before the old right ends, no send fails.
"""

from __future__ import annotations

import json
import math
import time
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path
from typing import Any, Protocol

from ..audit import audit
from ..checks import all_acked, no_secret, told, turned_away
from ..children import Child
from ..evidence import Evidence
from ..operators import Nkey, Operator, write_secret
from ..rig import Rig
from ..run import Row
from ..servers import Server

SOON = 2.0
WITHIN = 1.0
"""Sends end within the fault."""
LASTS = 1.2


class World(Protocol):
    """A server, and a file that signs in until the right is lost."""

    server: Server
    secrets: dict[str, str]
    cause: str
    """What the server says, a pattern."""
    seamless: bool
    """Whether there is a new file before the right is lost."""

    def settings(self, file: Path) -> dict[str, Any]:
        """A child's, to sign in by a file."""
        ...

    def lose(self) -> float:
        """What the file says is refused from now on, or from the time given."""
        ...

    def mend(self) -> None:
        """The new file."""
        ...


class Passwords:
    """Users in the server's configuration; a callback reads name and password from a file for every connection."""

    cause = "authorization violation"
    seamless = False

    def __init__(self, file: Path, *, removed: bool) -> None:
        self._file, self._removed = file, removed
        self._turn = 0
        self.secrets = {"the administrator's password": "Hunter2-admin"}
        self._renew()

    @property
    def _user(self) -> dict[str, str]:
        name = f"app{self._turn}" if self._removed else "app"
        return {"user": name, "password": f"Hunter2-{self._turn}"}

    @property
    def config(self) -> str:
        admin = {"user": "admin", "password": "Hunter2-admin"}
        return f"authorization {{ users = {json.dumps([admin, self._user])} }}"

    def access(self) -> dict[str, Any]:
        return {"user": "admin", "password": "Hunter2-admin"}

    def settings(self, file: Path) -> dict[str, Any]:
        return {"password_file": str(file)}

    def _renew(self) -> None:
        self._turn += 1
        self.secrets[f"password {self._turn}"] = self._user["password"]

    async def start(self, rig: Rig) -> None:
        self.server = await rig.server(config=self.config)
        self.mend()

    def lose(self) -> float:
        self._renew()
        now = time.monotonic()
        self.server.reload(self.config)
        return now

    def mend(self) -> None:
        write_secret(self._file, json.dumps(self._user))


class Tokens:
    """An operator's account: users sign in by a credentials file."""

    def __init__(self, file: Path, *, how: str) -> None:
        self._file, self._how = file, how
        self._operator, self._admin, self._user = Operator(), Nkey("user"), Nkey("user")
        self._revoked: list[Nkey] = []
        self.secrets: dict[str, str] = {}
        self.seamless = how == "rotated"
        # Whoever is thrown out hears what it is; whoever comes back hears only that it may not come in.
        self.cause = {"expired": "expired|authorization violation", "revoked": "revoked|authorization violation"}.get(
            how, ""
        )

    def access(self) -> dict[str, Any]:
        return self._operator.access(self._admin)

    def settings(self, file: Path) -> dict[str, Any]:
        return {"connect": {"credentials": str(file)}}

    async def start(self, rig: Rig) -> None:
        self.server = await rig.server(config=self._operator.config())
        self.mend()

    def _write(self, expires: int | None = None) -> None:
        number = len(self.secrets)
        self.secrets[f"seed {number}"] = self._user.seed
        text = self._operator.creds(self._user, expires)
        self.secrets[f"token {number}"] = text.splitlines()[1]
        write_secret(self._file, text)

    def _revoke(self, user: Nkey) -> None:
        self._revoked.append(user)
        self.server.reload(self._operator.config(*self._revoked))

    def lose(self) -> float:
        now, before = time.monotonic(), self._user
        if self._how != "revoked":
            self._user = Nkey("user")
        if self._how == "rotated":
            self._write()
        elif self._how == "expired":
            # All change over to the token that will expire.
            expires = math.ceil(time.time()) + 3
            now += expires - time.time()
            self._write(expires)
        self._revoke(before)
        return now

    def mend(self) -> None:
        if not self.seamless or not self.secrets:
            self._user = Nkey("user")
            self._write()


CASES: dict[str, Callable[[Path], Passwords | Tokens]] = {
    "wrong password": lambda file: Passwords(file, removed=False),
    "user removed": lambda file: Passwords(file, removed=True),
    "expired JWT": lambda file: Tokens(file, how="expired"),
    "user revoked": lambda file: Tokens(file, how="revoked"),
    "credentials rotated": lambda file: Tokens(file, how="rotated"),
}


async def _told(rig: Rig, children: list[Child], world: World, lost: float) -> None:
    kind = "reconnected" if world.seamless else "auth_failed"
    for child in children:
        await rig.comes(lambda c=child: any(x.kind == kind and x.t >= lost for x in c.ledger.events), 10)
        server = f"127.0.0.1:{world.server.port}"
        rig.violations += told(child.ledger, kind, lost, SOON, server=server, cause=world.cause)


async def scenario(rig: Rig) -> Evidence:
    """Lost while messages flow, then mended."""
    file, old = rig.folder / "new", rig.folder / "old"
    world = CASES[rig.case](file)
    rig.access = world.access()
    await world.start(rig)
    url = world.server.url
    await rig.prepare(url)
    given = world.settings(file)
    producer, worker = rig.producer(url, within=15.0 if world.seamless else WITHIN, **given), rig.worker(url, **given)
    await rig.flowing(producer, worker)
    for turn in range(3 if rig.long else 1):
        if turn:
            await rig.steady()
        write_secret(old, file.read_text())
        async with rig.fault(rig.case):
            lost = world.lose()
            if rig.case == "expired JWT":
                write_secret(old, file.read_text())
            await _told(rig, [producer, worker], world, lost)
            # The server counts in seconds: it may let in until this one is over.
            await rig.last(max(0.0, lost + 1 - time.monotonic()))
            late = rig.producer(url, who=f"late{turn}", **world.settings(old))
            late.expected = 3
            await late.ended(10)
            rig.violations += turned_away(
                late.ledger, "connection.auth", SOON, words=[f"127.0.0.1:{world.server.port}"]
            )
            await rig.last(0.0 if world.seamless else LASTS)
            world.mend()
        await rig.resumed()
    await rig.settle()
    e = await rig.evidence(url)
    rig.violations += no_secret(e, world.secrets)
    steady = replace(e, ledgers=[producer.ledger, worker.ledger])
    rig.violations += audit(steady, "T")
    if world.seamless:
        rig.violations += all_acked(steady)
    else:
        unsent = [x for x in producer.ledger.ended if x.error and x.error.code == "publish.rejected.not_sent"]
        rig.require(len(unsent) > 50, "row", f"only {len(unsent)} sends ended while nobody could connect")
    return e


ROW = Row(
    16,
    "wrong password; expired JWT; credentials rotated; user revoked while running",
    "LDHRX",
    scenario,
    cases=tuple(CASES),
)
