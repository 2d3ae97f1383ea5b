"""The bus, as asyncio code uses it."""

from __future__ import annotations

import asyncio
import contextlib
import html
import logging
from collections.abc import Callable
from typing import Any, TypeVar

from . import _native
from ._consumer import Consumer
from ._contexts import is_inside, task_outside
from ._events import Event, Events, listen
from ._generated.defaults import REQUEST_TIMEOUT, RESPONDER_CONCURRENCY, RESPONDER_GROUP
from ._generated.nouns import BusCalls
from ._generated.openings import Openings
from ._generated.records import State
from ._generated.settings import Seconds
from ._handling import Handler, OnError, checked
from ._headers import Headers
from ._html import table
from ._json import Encode, Encoder, ready, using
from ._opening import Closing, Opening
from ._responder import Responder, checked_responder
from ._running import Registered, Running
from ._runs import Runs, ended
from ._signals import signals_taken
from .errors import ConfigError, EventBusError

__all__ = ["Bus"]

logger = logging.getLogger("nats_eventbus")

HandlerT = TypeVar("HandlerT", bound=Handler)


class Bus(Openings, BusCalls, Closing):
    """An open connection, and the producers, consumers and streams on it. Made by :func:`connect`.

    It may be used from any loop of the process that opened it. In a forked child every call on it, and on what it made,
    raises ClosedError: the child connects for itself.
    """

    def __init__(self, native: _native.Bus, encode: Encode | None = None) -> None:
        super().__init__(native.handle())
        self._native = native
        self._encode = encode
        self._mode = "jetstream" if self._handle.call("jetstream") else "core"
        self._name = self.name
        self._responders: list[Responder] = []
        self._runs = Runs(self.drain_timeout)
        self._handlers: list[Registered] = []
        self._running: Running | None = None

    @property
    def state(self) -> State:
        """``"connecting"``, ``"connected"``, ``"disconnected"`` (reconnecting) or ``"closed"``."""
        # In a forked child nothing is open.
        return super().state if self._native.is_ours() else "closed"

    def events(self) -> Events:
        """What happens to the connection from now on: ``async for event in bus.events()``.

        Ends with the event ``"closed"``. Events are kept for a listener that is busy, up to 256; ``missed`` counts
        those beyond.
        """
        return Events(self._native.events())

    def on_event(self, listener: Callable[[Event], Any]) -> Callable[[], None]:
        """Calls ``listener`` with every event, on the running loop; a coroutine function is awaited.

        What it raises is logged, and harms nothing. The function returned ends the listening.
        """
        return listen(self.events(), listener)

    def _open_producer(
        self,
        topic: str,
        settings: dict[str, Any],
        on_error: Callable[[EventBusError], None] | None,
        encoder: Encoder | None,
    ) -> _native.Producer:
        told = None if on_error is None else _quiet(on_error)
        return self._native.producer(topic, told, using(encoder) or self._encode, **settings)

    def _open_consumer(self, topic: str, settings: dict[str, Any]) -> Opening[Consumer]:
        async def open_() -> Consumer:
            return Consumer(await self._native.consumer(topic, **settings), self._runs)

        return Opening(open_, f"Consumer of {topic!r}")

    def on(
        self, topic: str, *, group: str, on_error: OnError | None = None, **settings: Any
    ) -> Callable[[HandlerT], HandlerT]:
        """Registers a handler for :meth:`run`; takes the settings of :meth:`consumer`, see :meth:`Consumer.run`.

        During a run its consumer opens at once. Each handler starts in a copy of the context in which :meth:`run` was
        called.

        Raises:
            ConfigError: the handler is no function of one message, or a generator.
        """

        def register(handler: HandlerT) -> HandlerT:
            registered = Registered(topic, checked(handler), on_error, {"group": group, **settings})
            self._handlers.append(registered)
            if self._running is not None:
                self._running.add(registered)
            return handler

        return register

    async def run(self, *, signals: bool = True) -> None:
        """Runs the handlers registered with :meth:`on` until SIGTERM, SIGINT, :meth:`stop` or :meth:`close`.

        Then it drains and closes the bus: it pulls no more, running handlers get up to the connection's
        ``drain_timeout`` to finish, and buffered messages go to other workers at once. A second signal cancels the
        handlers. Their messages go to other workers. Cancelled, it drains and leaves the bus open.

        Args:
            signals: whether SIGTERM and SIGINT are taken while it runs; only on the main thread. Handlers of others (a
                web server's) are called too, after ours; what was there is there again afterwards. False leaves
                signals alone: a web server's own shutdown closes the bus.

        Raises:
            ConfigError: there are no handlers, or the bus runs already. What keeps a consumer from opening or going on:
                the others are drained first, and the bus stays open.
        """
        if not self._handlers:
            raise ConfigError("run without handlers: register some with @bus.on(topic, group=...)")
        if self._running is not None:
            raise ConfigError("the bus runs already: one run() serves all handlers, those registered later too")
        self._running = running = Running(self._open, self._runs, self.drain_timeout)
        with signals_taken(running.on_signal) if signals else contextlib.nullcontext():
            try:
                await running.serve(self._handlers)
            finally:
                self._running = None
                running.over.set_result(None)
                if running.stopped:
                    await running.finish(self._begin_close())

    async def _open(self, of: Registered) -> Consumer:
        return await self.consumer(of.topic, **of.settings)

    def stop(self) -> None:
        """Asks :meth:`run` to end: it drains and closes the bus. From any thread, and from a handler.

        Does nothing while nothing runs.
        """
        if self._running is not None and self._native.is_ours():
            self._running.stop()

    async def request(
        self, topic: str, body: Any = b"", *, timeout: Seconds = REQUEST_TIMEOUT, headers: Headers | None = None
    ) -> _native.Message:
        """Asks, and waits for a reply up to ``timeout`` (seconds, default 5).

        Raises:
            NoResponders: nobody listens; at once. Timeout: no reply came. RequestFailed: the responder failed, its
            words are in ``server``.
        """
        return await self._native.request(topic, ready(body, self._encode), timeout, headers)

    async def respond(
        self, topic: str, handler: Handler, *, group: str = RESPONDER_GROUP, concurrency: int = RESPONDER_CONCURRENCY
    ) -> Responder:
        """Answers requests on a topic; responders of one group share them.

        ``handler(message)`` gives the reply's body (None: an empty one); what it lets out, a cancellation included,
        reaches the asker as RequestFailed. Up to ``concurrency`` requests are handled at once. Each handler starts in a
        copy of the context in which this was called.

        Raises:
            ConfigError: ``concurrency`` is below 1; the handler is no function of one message, or a generator.
        """
        checked_responder(handler, concurrency)
        native = await self._native.respond(topic, group)
        responder = Responder(native, handler, concurrency, self.drain_timeout, self._runs, self._encode)
        self._responders.append(responder)
        return responder

    async def close(self) -> None:
        """Gives back what is buffered, waits for unsettled sends and acks (up to ``drain_timeout``), disconnects.

        While handlers run, they end first, within ``drain_timeout``: they are cancelled after it. Called by a handler,
        this begins the closing and returns. In a forked child nothing is open, and nothing is done: the parent's bus
        goes on.
        """
        if not self._native.is_ours():
            return
        closing = self._begin_close()
        if not is_inside(self._runs):
            await asyncio.shield(closing)

    def _begin_close(self) -> asyncio.Task[None]:
        """Closes once, however many ask for it; on another loop than the one that began it, again."""
        closing = self._runs.closing
        if closing is None or closing.done() or closing.get_loop() is not asyncio.get_running_loop():
            closing = self._runs.closing = task_outside(self._close())
        return closing

    async def _close(self) -> None:
        running = self._running
        if running is not None and running.loop.is_running():
            # The handlers' last acks need the connection.
            running.stop()
            await ended(running.over)
        await self._runs.drain()
        responders, self._responders = self._responders, []
        await asyncio.gather(*(responder.close() for responder in responders))
        await self._native.close()

    def __repr__(self) -> str:
        if not self._native.is_ours():
            return f"<Bus {self._name!r} of the process that this one was forked from>"
        server = self.server
        return f"<Bus {self._name!r} {self.state} to {server.host}:{server.port} ({self._mode})>"

    def _repr_html_(self) -> str:
        if not self._native.is_ours():
            return html.escape(repr(self))
        server = self.server
        rows = {
            "state": self.state,
            "server": f"{server.name} {server.version} at {server.host}:{server.port}",
            "mode": self._mode,
            **{k: v for k, v in self.metrics().items() if v},
        }
        return table(f"Bus {self._name}", rows)


def _quiet(on_error: Callable[[EventBusError], None]) -> Callable[[EventBusError], None]:
    """A listener that fails is logged, and harms nothing."""

    def told(e: EventBusError) -> None:
        try:
            on_error(e)
        except Exception:
            logger.exception("on_error failed on %r", e)

    return told
