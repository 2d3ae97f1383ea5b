"""The native module: what it hands out, as the package uses it."""

from collections.abc import Callable, Coroutine, Generator, Iterable, Mapping
from datetime import datetime, timedelta
from os import PathLike
from typing import Any, NoReturn, final

from ._headers import Headers, MessageHeaders

__version__: str

def forked() -> None: ...
def topic(*tokens: str) -> str: ...
def seconds(value: float | timedelta | str, name: str) -> float: ...
def connect(
    candidates: list[str | PathLike[str]], source: Callable[[Question], None] | None = None, **settings: Any
) -> Coroutine[Any, Any, Bus]: ...

@final
class PubAck:
    """The server's word that a message is stored."""

    @property
    def stream(self) -> str:
        """The stream the message is stored in."""
    @property
    def sequence(self) -> int:
        """Its sequence there."""
    @property
    def duplicate(self) -> bool:
        """Whether it was already stored under the same id."""

@final
class Settled:
    """What settling returns: to be used as a bool."""

    def __bool__(self) -> bool: ...
    def __await__(self) -> Generator[Any, Any, NoReturn]:
        """Raises TypeError: settling is immediate."""

@final
class Message:
    """A message received. Settle it once: :meth:`ack`, :meth:`nak` or :meth:`term`."""

    @property
    def topic(self) -> str:
        """The topic it was sent to."""
    @property
    def group(self) -> str | None:
        """The group it was received for; None for a reply."""
    @property
    def body(self) -> bytes:
        """The body."""
    @property
    def headers(self) -> MessageHeaders:
        """Headers: a dict of first values, looked up in any case; ``get_all(name)`` gives all."""
    @property
    def key(self) -> str | None:
        """The key that orders it, if any."""
    @property
    def id(self) -> str | None:
        """The message id, if any."""
    @property
    def attempt(self) -> int:
        """The server's delivery count, from 1; 1 in core mode."""
    @property
    def failures(self) -> int:
        """How often handlers failed on it, or died with it, before.

        Counted for handlers; 0 where messages are taken one by one.
        """
    @property
    def sequence(self) -> int | None:
        """Its sequence in the stream; None in core mode."""
    @property
    def stream(self) -> str | None:
        """The stream it is stored in; None in core mode."""
    @property
    def timestamp(self) -> datetime | None:
        """When it was stored, in UTC; None in core mode."""
    def text(self) -> str:
        """The body as text. Raises DecodeError when it is not UTF-8."""
    def json(self) -> Any:
        """The body decoded as JSON, integers exact. Raises DecodeError when it is not JSON."""
    def ack(self) -> bool:
        """Done. Returns at once, batched on the wire. False if settled before, or in core mode."""
    def nak(self, delay: float | timedelta | str | None = None) -> bool:
        """To be delivered again, after ``delay`` (seconds or timedelta) or at once."""
    def term(self, reason: str | None = None) -> bool:
        """Never to be delivered again, for this reason."""
    def in_progress(self) -> bool:
        """A handler still works on it: the ack wait starts again."""
    def ack_confirmed(self, timeout: float | timedelta | str | None = None) -> Coroutine[Any, Any, None]:
        """Acks and waits for the server's word, up to ``timeout`` (default 5 s).

        Raises Timeout when it does not come in time, ConflictError when the message was settled before.
        """
    def _reply(self, body: Any = None, *, error: str | None = None) -> None: ...

@final
class Producer:
    """Sends to one topic. Made by :meth:`Bus.producer`."""

    @property
    def topic(self) -> str:
        """The topic it sends to."""
    def send(
        self,
        body: Any,
        *,
        key: str | None = None,
        id: str | None = None,
        headers: Headers | None = None,
        ttl: float | timedelta | str | None = None,
        expected_last_sequence: int | None = None,
        expected_last_subject_sequence: int | None = None,
    ) -> Coroutine[Any, Any, PubAck | None]:
        """Sends one message; await it for its outcome: PubAck, or None in core mode.

        The message is on its way once this returns; awaiting tells the outcome. Cancelling the wait does not
        cancel the message: it still counts in :meth:`flush`. Where no loop runs, as in another thread, it is sent
        where it is awaited: ``asyncio.run_coroutine_threadsafe(producer.send(...), loop)``.

        Args:
            body: bytes-like as it is, str as UTF-8, anything else by the encoder, or as JSON. JSON takes dataclasses,
                pydantic models and msgspec structs, times and dates (ISO 8601), Decimal, UUID and paths (as strings),
                enumerations (by value), sets and deques (as lists), mappings, and numpy's scalars.
            key: orders messages: those of one key are stored in the order sent.
            id: deduplicates messages within the stream's window; generated when absent.
            headers: further headers: strings, numbers, True and False, or lists of those, which repeat the header.
            ttl: how long the stream keeps the message, in seconds (server 2.11, stream must allow it).
            expected_last_sequence: the stream's last sequence must be this one (0: it is empty).
            expected_last_subject_sequence: the same for the last message of the topic.

        Raises:
            ConfigError: the body has no JSON form; the error names the part.
            PublishRejected: not stored and never will be (TooLarge, WrongSequence, StreamFull, NotSent, …).
            PublishUnknown: ``delivery_timeout`` passed; it may be stored.
        """
    def send_nowait(
        self,
        body: Any,
        *,
        key: str | None = None,
        id: str | None = None,
        headers: Headers | None = None,
        ttl: float | timedelta | str | None = None,
        expected_last_sequence: int | None = None,
        expected_last_subject_sequence: int | None = None,
    ) -> None:
        """Enqueues one message without waiting; failures go to ``on_error``, or are raised by the next :meth:`flush`.

        Raises:
            Backpressure: ``max_in_flight`` sends are unsettled.
        """
    def send_many(
        self,
        bodies: Iterable[Any],
        *,
        key: str | None = None,
        headers: Headers | None = None,
        ttl: float | timedelta | str | None = None,
    ) -> Coroutine[Any, Any, list[PubAck | Exception | None]]:
        """Sends many messages; await it for one PubAck (None in core mode) or exception each, in order."""
    def flush(self) -> Coroutine[Any, Any, None]:
        """Waits until everything sent before is settled; in core mode for a round trip to the server.

        Raises what failed since the last flush and was told to nobody; ``failures`` holds each.
        """
    def close(self) -> None:
        """Refuses further sends; those in flight keep their outcome."""

@final
class Consumer:
    def is_ours(self) -> bool: ...
    @property
    def topic(self) -> str: ...
    @property
    def group(self) -> str: ...
    @property
    def stream(self) -> str | None: ...
    def __aiter__(self) -> Consumer: ...
    def __anext__(self) -> Coroutine[Any, Any, Message]: ...
    def take(self, max: int) -> list[Message]: ...
    def ready(self) -> Coroutine[Any, Any, None]: ...
    def put_back(self, messages: list[Message]) -> None: ...
    @property
    def concurrency(self) -> int: ...
    def handle(self) -> None: ...
    def handled(self) -> None: ...
    def finish(
        self,
        m: Message,
        *,
        failed: str | None = None,
        rejected: str | None = None,
        retry_after: float | timedelta | str | None = None,
    ) -> None: ...
    def close(self) -> Coroutine[Any, Any, None]: ...

@final
class Events:
    def take(self) -> dict[str, Any] | None: ...
    def is_over(self) -> bool: ...
    def ready(self) -> Coroutine[Any, Any, None]: ...
    def close(self) -> None: ...

@final
class Question:
    def answer(self, given: str | Mapping[str, str]) -> None: ...
    def fail(self, why: str) -> None: ...

@final
class Handle:
    def call(self, call: str, body: Any = None, /, **arguments: Any) -> Any: ...
    @property
    def fields(self) -> dict[str, Any]: ...
    @property
    def body(self) -> bytes | None: ...

@final
class Bus:
    def is_ours(self) -> bool: ...
    def handle(self) -> Handle: ...
    def events(self) -> Events: ...
    def notices(self) -> Events: ...
    def bridge_counts(self) -> tuple[int, int]: ...
    def producer(
        self,
        topic: str,
        on_error: Callable[[Any], None] | None = None,
        encoder: Callable[[Any], bytes] | None = None,
        **settings: Any,
    ) -> Producer: ...
    def consumer(self, topic: str, **settings: Any) -> Coroutine[Any, Any, Consumer]: ...
    def respond(self, topic: str, group: str) -> Coroutine[Any, Any, Consumer]: ...
    def request(
        self,
        topic: str,
        body: Any,
        timeout: float | timedelta | str,
        headers: Headers | None = None,
    ) -> Coroutine[Any, Any, Message]: ...
    def close(self) -> Coroutine[Any, Any, None]: ...
