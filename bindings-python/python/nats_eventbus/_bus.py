"""The bus, as asyncio code uses it."""

from __future__ import annotations

import asyncio
import contextlib
import html
import logging
from collections.abc import Callable, Sequence
from datetime import timedelta
from typing import Any, Literal, TypeAlias, TypeVar

from . import _native
from ._consumer import Consumer
from ._contexts import is_inside, task_outside
from ._dead_letters import DeadLetters
from ._events import Event, Events, listen
from ._handling import Handler, OnError, checked
from ._headers import Headers
from ._health import Health
from ._html import table
from ._json import Encode, Encoder, ready, using
from ._opening import Closing, Opening
from ._responder import Responder, checked_responder
from ._running import Registered, Running
from ._runs import Runs, ended
from ._server import ServerInfo
from ._settings import Backoff
from ._signals import signals_taken
from ._stream import Stream, StreamInfo
from .errors import ConfigError, EventBusError

__all__ = ["Bus", "ServerInfo"]

Seconds: TypeAlias = float | timedelta | str
logger = logging.getLogger("nats_eventbus")

HandlerT = TypeVar("HandlerT", bound=Handler)


class Bus(Closing):
    """An open connection, and the producers, consumers and streams on it. Made by :func:`connect`.

    It may be used from any loop of the process that opened it. In a forked child every call on it, and on what it made,
    raises ClosedError: the child connects for itself.
    """

    def __init__(self, native: _native.Bus, encode: Encode | None = None) -> None:
        self._native = native
        self._encode = encode
        self._responders: list[Responder] = []
        self._runs = Runs(native.drain_timeout)
        self._handlers: list[Registered] = []
        self._running: Running | None = None

    @property
    def state(self) -> str:
        """``"connecting"``, ``"connected"``, ``"disconnected"`` (reconnecting) or ``"closed"``."""
        return self._native.state

    @property
    def server(self) -> ServerInfo:
        """The server connected to, or last connected to."""
        return ServerInfo(**self._native.server)

    @property
    def warnings(self) -> list[str]:
        """What is allowed and still unwise, each once; it grows while the bus is open.

        A file of secrets that others can read, a stream with fewer replicas than asked for, a stream declared beside
        one that already gets the topic.
        """
        return self._native.warnings

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

    async def force_reconnect(self) -> None:
        """Drops the connection and makes a new one, with another server of the pool if there is one.

        While reconnecting, tries at once.

        Raises:
            Timeout: there is none within ``api_timeout``; reconnecting goes on. ConnectionError: it was given up.
        """
        await self._native.force_reconnect()

    async def health(self, *, timeout: Seconds = 1.0) -> Health:
        """How the bus is, found out within ``timeout`` (seconds, default 1), for readiness and liveness endpoints.

        The server is asked for a sign of life, and JetStream whether it is there. It never raises for a bus in
        trouble, nor for a closed one: what is wrong is in ``problems``, each with what to do.

        Raises:
            ConfigError: ``timeout`` is not a time.
        """
        return Health._of(await self._native.health(timeout))

    def dismiss(self, topic: str | None = None, *, group: str | None = None) -> int:
        """Takes failed consumers out of the problems of :meth:`health`, all or those of a topic and a group.

        Returns:
            How many there were.
        """
        return self._native.dismiss(topic, group)

    def metrics(self) -> dict[str, int]:
        """What was counted since the bus was opened."""
        return self._native.metrics()

    def producer(
        self,
        topic: str,
        *,
        max_in_flight: int | None = None,
        delivery_timeout: Seconds | None = None,
        ack_timeout: Seconds | None = None,
        dedupe: bool | None = None,
        declare: bool | None = None,
        on_error: Callable[[EventBusError], None] | None = None,
        encoder: Encoder | None = None,
    ) -> _native.Producer:
        """A producer for one topic.

        Its stream is looked up, or declared as the platform declares it, with the first message.

        Args:
            topic: where to; no wildcards. Untrusted parts go through :func:`topic` first.
            max_in_flight: sends that may be unsettled at once; default 1000.
            delivery_timeout: how long a send may take until its outcome, retries included; default 30 s. Must stay
                below the stream's dedupe window.
            ack_timeout: how long an ack is waited for before the message is sent again with the same id; default 5 s.
            dedupe: whether messages carry an id so that a retry never stores twice; default True.
            declare: whether a missing stream is declared; default: the connection's setting.
            on_error: called on the running loop with each failure that nobody waits for (of ``send_nowait``, and of
                cancelled sends), which flush then does not raise; ``id`` names the message.
            encoder: makes bytes or a string of each body that is neither bytes-like nor a string; default: the
                connection's, or JSON.

        Raises:
            InvalidTopic, ConfigError, ClosedError.
        """
        settings = {
            "max_in_flight": max_in_flight,
            "delivery_timeout": delivery_timeout,
            "ack_timeout": ack_timeout,
            "dedupe": dedupe,
            "declare": declare,
        }
        told = None if on_error is None else _quiet(on_error)
        return self._native.producer(topic, told, using(encoder) or self._encode, **settings)

    def consumer(
        self,
        topic: str,
        *,
        group: str,
        prefetch: int | None = None,
        prefetch_bytes: int | None = None,
        declare: bool | None = None,
        max_processing: Seconds | None = None,
        pending_limit: int | None = None,
        concurrency: int | None = None,
        max_deliver: int | None = None,
        backoff: Backoff | None = None,
        dead_letter: bool | None = None,
        order: Literal["key", "stream"] | None = None,
        ack_wait: Seconds | None = None,
        max_ack_pending: int | None = None,
        deliver: Literal["all", "new", "last", "last_per_subject"] | None = None,
        update: bool | None = None,
        stream: str | None = None,
        durable: str | None = None,
    ) -> Opening[Consumer]:
        """A consumer of a topic for a group: ``await`` it, or ``async with``.

        Args:
            topic: what to receive; may hold wildcards.
            group: the workers that share the messages: durable (JetStream) or queue group (core).
            prefetch: messages asked for in advance, never above the durable's max ack pending; default: what can begin
                soon (``concurrency`` and one more), growing with the measured pace to some 30 ms of work, up to 1024.
            prefetch_bytes: bytes asked for in advance; one message of any size is always asked for; default 4 MiB.
            declare: whether a missing stream is declared; default: the connection's setting.
            max_processing: how long a message is kept from redelivery while a handler has it, from its start; while it
                is buffered here it always is. Default 10 min.
            pending_limit: core mode: messages buffered before new ones are dropped and counted; default 65536.
            concurrency: for :meth:`Consumer.run`: messages handled at once; default 1.
            max_deliver: for run: how often handlers fail on a message, or die with it, before it becomes a dead letter;
                deliveries that no handler began do not count. Default 3, or the durable's own limit of deliveries if
                that is lower.
            backoff: for run: the wait before a failed message is delivered again; default 1 s, doubling up to 60 s.
            dead_letter: for run: whether what cannot be handled is kept in ``<STREAM>_DLQ``; default True.
            order: ``"key"``: of each key one message at a time, in order, retries included, within this consumer (two
                processes of a group can still hold one key each, and a delivery lost on its way, with a server that
                died, comes again after the ack wait, perhaps behind later ones of its key). ``"stream"``: the whole
                group, all its processes, one message at a time in order. Default: none, beyond what
                ``concurrency=1`` does until a retry.
            ack_wait: the durable's: how long the server waits before it delivers an unsettled message again.
            max_ack_pending: the durable's: unsettled messages of all workers together.
            deliver: where a new durable begins; default ``"all"`` that the stream has.
            update: whether an existing durable with other settings than those given is updated; default False: then
                it is a ConflictError that names each.
            stream: the stream to read, by name: a mirror, an aggregate, a transformed one; ``topic`` is then as that
                stream stores it. Default: the stream that stores the topic.
            durable: an existing durable to bind to by name, with its own filters, whatever the topic. Default: the
                group's.

        Raises:
            ConfigError, InvalidTopic, NotFoundError, ConflictError, ClosedError.
        """
        settings = {
            "group": group,
            "prefetch": prefetch,
            "prefetch_bytes": prefetch_bytes,
            "declare": declare,
            "max_processing": max_processing,
            "pending_limit": pending_limit,
            "concurrency": concurrency,
            "max_deliver": max_deliver,
            "backoff": backoff,
            "dead_letter": dead_letter,
            "order": order,
            "ack_wait": ack_wait,
            "max_ack_pending": max_ack_pending,
            "deliver": deliver,
            "update": update,
            "stream": stream,
            "durable": durable,
        }

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
        self._running = running = Running(self._open, self._runs, self._native.drain_timeout)
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

    def dead_letters(self, topic: str, *, group: str, stream: str | None = None) -> DeadLetters:
        """The dead letters of a topic and a group; nothing is asked of the server yet.

        ``stream`` names the stream of a consumer that reads one by name.

        Raises:
            ConfigError without JetStream; InvalidTopic.
        """
        return DeadLetters(self._native.dead_letters(topic, group, stream))

    async def request(
        self, topic: str, body: Any = b"", *, timeout: Seconds = 5.0, headers: Headers | None = None
    ) -> _native.Message:
        """Asks, and waits for a reply up to ``timeout`` (seconds, default 5).

        Raises:
            NoResponders: nobody listens; at once. Timeout: no reply came. RequestFailed: the responder failed, its
            words are in ``server``.
        """
        return await self._native.request(topic, ready(body, self._encode), timeout, headers)

    async def respond(
        self, topic: str, handler: Handler, *, group: str = "responders", concurrency: int = 64
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
        responder = Responder(native, handler, concurrency, self._native.drain_timeout, self._runs, self._encode)
        self._responders.append(responder)
        return responder

    async def streams(self) -> list[StreamInfo]:
        """All streams."""
        return [StreamInfo(**s) for s in await self._native.streams()]

    def stream(self, name: str) -> Stream:
        """A stream by name; nothing is asked of the server yet."""
        return Stream(self._native.stream(name))

    async def declare_stream(self, name: str, subjects: Sequence[str]) -> StreamInfo:
        """Declares a stream over these subjects with the platform's settings; one that is there is left as it is.

        Raises:
            ConflictError: a stream of that name stores other subjects, or another one stores some of these.
        """
        return StreamInfo(**await self._native.declare_stream(name, list(subjects)))

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
        mode = "jetstream" if self._native.jetstream else "core"
        if not self._native.is_ours():
            return f"<Bus {self._native.name!r} of the process that this one was forked from>"
        server = self.server
        return f"<Bus {self._native.name!r} {self.state} to {server.host}:{server.port} ({mode})>"

    def _repr_html_(self) -> str:
        if not self._native.is_ours():
            return html.escape(repr(self))
        server = self.server
        rows = {
            "state": self.state,
            "server": f"{server.name} {server.version} at {server.host}:{server.port}",
            "mode": "JetStream" if self._native.jetstream else "core",
            **{k: v for k, v in self.metrics().items() if v},
        }
        return table(f"Bus {self._native.name}", rows)


def _quiet(on_error: Callable[[EventBusError], None]) -> Callable[[EventBusError], None]:
    """A listener that fails is logged, and harms nothing."""

    def told(e: EventBusError) -> None:
        try:
            on_error(e)
        except Exception:
            logger.exception("on_error failed on %r", e)

    return told
