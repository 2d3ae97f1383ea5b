"""Every way to sign in and every case of TLS: the table all languages share. And what all that tells: no
secret, in any message, repr, log line or output."""

from __future__ import annotations

import asyncio
import json
import logging
import os
import time
import traceback
import urllib.request
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import nats_eventbus as eb
import pytest

from tests.support.clock import Clock
from tests.support.credentials import ROOT, write_table
from tests.support.server import Server

NAMES = [row["name"] for row in json.loads((ROOT / "tests/shared/sign_in.json").read_text())["rows"]]


class World:
    """The table, and a server of each of its configurations."""

    def __init__(self, folder: Path) -> None:
        table = write_table(folder)
        self.rows: dict[str, dict[str, Any]] = {row["name"]: row for row in table["rows"]}
        self.secrets: list[str] = table["secrets"]
        self.monitors = {name: server["monitor"] for name, server in table["servers"].items()}
        self.servers = {
            name: Server(config=server["config"], greets=server.get("greets", True))
            for name, server in table["servers"].items()
        }

    def seen(self, row: dict[str, Any]) -> tuple[str, bool] | None:
        """What the server says of a row's connection: as whom it is signed in, and whether in TLS."""
        url = f"http://127.0.0.1:{self.monitors[row['server']]}/connz?auth=1"
        with urllib.request.urlopen(url, timeout=5) as reply:
            found = [c for c in json.load(reply)["connections"] if c.get("name") == row["name"]]
        return (found[0].get("authorized_user", ""), "tls_version" in found[0]) if found else None


@pytest.fixture(scope="module")
def world(tmp_path_factory: pytest.TempPathFactory) -> Iterator[World]:
    made = World(tmp_path_factory.mktemp("credentials"))
    yield made
    for server in made.servers.values():
        server.close()


async def is_seen(world: World, row: dict[str, Any], who: str | None) -> None:
    """Waits until the server sees a row's connection as it should be."""
    deadline = time.monotonic() + 5
    while True:
        found = await asyncio.to_thread(world.seen, row)
        if found and (who in (None, found[0])) and found[1] == row.get("tls", False):
            return
        assert time.monotonic() < deadline, f"{who} is wanted, the server sees {found}"
        await asyncio.sleep(0.005)


def settings(row: dict[str, Any], port: int) -> dict[str, Any]:
    """What a row gives to connect."""
    given: dict[str, Any] = dict(row["settings"])
    if "servers" in given:
        given["servers"] = given["servers"].replace("PORT", str(port))
    if "tls" in given:
        given["tls"] = eb.Tls(**given["tls"])
    if "callback" in row:
        answers: list[Any] = list(row["callback"])
        given["credentials"] = lambda: answers.pop(0) if len(answers) > 1 else answers[0]
    return given


async def let_in(world: World, row: dict[str, Any], bus: eb.Bus) -> None:
    """As whom, and as whom after a reconnect."""
    await is_seen(world, row, row.get("as"))
    for path, text in row.get("replace", {}).items():
        await asyncio.to_thread(Path(path).write_text, text)
    await bus.force_reconnect()
    assert bus.state == "connected"
    await is_seen(world, row, row.get("then_as", row.get("as")))


async def attempt(world: World, row: dict[str, Any]) -> tuple[str | None, list[str]]:
    """Connects as a row says: the code of the error, if any, and all that can be seen."""
    given = settings(row, world.servers[row["server"]].port)
    opening: Any = eb.connect(**given)
    told = [repr(opening), repr(given.get("tls"))]
    clock = Clock()
    try:
        bus = await asyncio.wait_for(opening, 15)
    except eb.EventBusError as e:
        assert clock.took() < 2
        return e.code, [*told, str(e), repr(e), repr(vars(e)), *traceback.format_exception(e)]
    try:
        assert clock.took() < 2
        assert "code" not in row, f"let in: {row['code']} is wanted"
        await let_in(world, row, bus)
        return None, [*told, repr(bus), bus._repr_html_(), repr(bus.server), repr(bus.metrics()), repr(bus._native)]
    finally:
        await bus.close()


@pytest.mark.parametrize("name", NAMES)
async def test_sign_in(
    world: World,
    monkeypatch: pytest.MonkeyPatch,
    caplog: pytest.LogCaptureFixture,
    capfd: pytest.CaptureFixture[str],
    name: str,
) -> None:
    row = world.rows[name]
    for variable in [v for v in os.environ if v.startswith(("NATS_", "COZE_", "MQ_")) and v != "NATS_SERVER_BIN"]:
        monkeypatch.delenv(variable)
    for variable, value in row.get("env", {}).items():
        monkeypatch.setenv(variable, value.replace("PORT", str(world.servers[row["server"]].port)))
    with caplog.at_level(logging.NOTSET), warnings.catch_warnings(record=True) as caught:
        warnings.simplefilter("always")
        code, told = await attempt(world, row)
    assert code == row.get("code"), told
    warned = [str(w.message) for w in caught]
    assert len(warned) == len(row.get("warns", [])), warned
    assert all(part in text for part, text in zip(row.get("warns", []), warned, strict=True)), warned
    for text in (*told, *warned, *capfd.readouterr(), caplog.text):
        assert not [s for s in world.secrets if s in text], f"told in {text}"
