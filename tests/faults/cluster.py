"""Three nats-servers that are one cluster: watched by their monitors, as an operator does, and cut apart."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable, Iterator, Mapping
from pathlib import Path
from typing import Any

from .proxy import STALL, Proxy
from .servers import Server, port

# As short as a server allows: it waits for the grace period, then hangs up on one client a second.
_LAME_DUCK = 'lame_duck_duration: "30s", lame_duck_grace_period: "1s"'


class Cluster:
    """Servers with routes to one another.

    With `cut`, which makes a proxy in front of a port, the last server's routes all go through proxies, and so can be
    cut: the others then reach one another and not it, while every server still has its clients.
    """

    def __init__(
        self,
        folder: Path,
        *,
        size: int = 3,
        executable: str | None = None,
        cut: Callable[[int], Proxy] | None = None,
    ) -> None:
        routes = [port() for _ in range(size)]
        self._proxies = [cut(route) for route in routes] if cut else []
        self.servers = [
            Server(folder, name=f"n{i + 1}", executable=executable, monitored=True, config=self._config(routes, i))
            for i in range(size)
        ]

    def _config(self, routes: list[int], this: int) -> str:
        """A server's own: where it listens, what it dials, and what the others are told to dial."""
        last = len(routes) - 1
        listens = f"listen: '127.0.0.1:{routes[this]}'"
        if not self._proxies:
            dials = routes
        else:
            # By the addresses that are told: one dialled already is not dialled again.
            listens += f", advertise: '127.0.0.1:{self._proxies[this].port}'"
            far = [this == last or other == last for other in range(len(routes))]
            dials = [p.port if f else r for r, p, f in zip(routes, self._proxies, far, strict=True)]
            dials.pop(this)
        urls = ", ".join(f"nats://127.0.0.1:{p}" for p in dials)
        return f"cluster {{ name: faults, {listens}, routes: [{urls}] }}\n{_LAME_DUCK}\n"

    @property
    def url(self) -> str:
        """All addresses."""
        return ",".join(s.url for s in self.servers)

    def __getitem__(self, name: str) -> Server:
        return next(s for s in self.servers if s.name == name)

    def others(self, *servers: Server) -> list[Server]:
        """All but these."""
        return [s for s in self.servers if s not in servers]

    async def start(self) -> None:
        """Starts all; streams can be made once a leader was elected, which whoever makes one waits for."""
        if not self._proxies:
            await asyncio.gather(*(s.start() for s in self.servers))
            return
        # The last one tells the others how to reach one another through proxies: they must have met before.
        *near, last = self.servers
        await asyncio.gather(*(s.start() for s in near))
        until = time.monotonic() + 20
        while not all([(await s.told("routez")).get("num_routes") for s in near]):
            if time.monotonic() > until:
                raise RuntimeError("the servers did not find one another")
            await asyncio.sleep(0.05)
        await last.start()

    def isolate(self) -> None:
        """The last server and the others hear nothing of one another any more, and nobody is told."""
        for proxy in self._proxies:
            proxy.set(up=STALL, down=STALL)

    async def rejoin(self) -> None:
        """They can reach one another again, by new connections: what was held back is lost."""
        for proxy in self._proxies:
            await proxy.sever()
        for proxy in self._proxies:
            proxy.heal()

    async def current(self, within: float = 60) -> None:
        """Waits until every server is up, healthy, and has all that it must hold, as the leaders see it.

        Raises:
            RuntimeError: it does not come to it.
        """
        until = time.monotonic() + within
        while missing := list(behind(await self._reports())):
            if time.monotonic() > until:
                raise RuntimeError(f"the cluster is not whole after {within} s: {'; '.join(missing)}")
            await asyncio.sleep(0.1)

    async def _reports(self) -> dict[str, dict[str, Any]]:
        async def of(s: Server) -> dict[str, Any]:
            jsz = await s.told("jsz?accounts=1&streams=1&consumers=1")
            return {**jsz, "health": await s.told("healthz")}

        return dict(zip((s.name for s in self.servers), await asyncio.gather(*map(of, self.servers)), strict=True))

    def kill(self) -> None:
        """SIGKILL for all."""
        for s in self.servers:
            s.kill()


def behind(reports: Mapping[str, Mapping[str, Any]]) -> Iterator[str]:
    """What the servers' reports (`/jsz`, and `/healthz` as `health`) say is missing; nothing when all is current."""
    groups: dict[str, dict[str, Any]] = {"meta group": {}}
    for name, report in reports.items():
        if report["health"].get("status") != "ok":
            yield f"{name} is not healthy: {report['health'] or 'no answer'}"
        for group, cluster in _groups(report):
            # Only a leader knows how the others stand.
            groups.setdefault(group, {})
            if cluster.get("leader") == name:
                groups[group][name] = cluster
    for group, leaders in groups.items():
        if len(leaders) != 1:
            yield f"{group} has {len(leaders)} leaders"
        for cluster in leaders.values():
            replicas: list[dict[str, Any]] = cluster.get("replicas") or []
            if group == "meta group" and len(replicas) < len(reports) - 1:
                yield f"{group} has {len(replicas)} replicas"
            for r in replicas:
                if r.get("offline") or not r.get("current"):
                    yield f"{group} is not current on {r['name']}"


def _groups(report: Mapping[str, Any]) -> Iterator[tuple[str, dict[str, Any]]]:
    yield "meta group", report.get("meta_cluster") or {}
    for account in report.get("account_details") or ():
        for stream in account.get("stream_detail") or ():
            yield f"stream {stream['name']}", stream.get("cluster") or {}
            for durable in stream.get("consumer_detail") or ():
                yield f"consumer {durable['name']} of {stream['name']}", durable.get("cluster") or {}
