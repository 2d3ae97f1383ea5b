"""Bodies as Python programs have them: what has one obvious form is taken, the rest is an error that says where."""

from __future__ import annotations

import array
import collections
import dataclasses
import datetime as dt
import decimal
import enum
import fractions
import pathlib
import types
import uuid
from collections.abc import Callable
from typing import Any, NamedTuple

import nats_eventbus as eb
import pydantic
import pytest

UTC = dt.datetime(2026, 1, 2, 3, 4, 5, 600, tzinfo=dt.UTC)
ID = uuid.UUID("7d444840-9dc0-11d1-b245-5ffdce74fad2")


class Colour(enum.Enum):
    RED = "red"
    BLUE = ("b", 1)


class Kind(enum.StrEnum):
    A = "a"


@dataclasses.dataclass
class Doc:
    id: int
    at: dt.datetime
    tags: frozenset[str] = frozenset()


class Item(pydantic.BaseModel):
    the_id: uuid.UUID = pydantic.Field(alias="theId")
    at: dt.datetime
    price: decimal.Decimal


class Blob(pydantic.BaseModel):
    data: bytes


class Point(NamedTuple):
    x: int
    y: int


class Broken:
    def model_dump(self, **_: Any) -> Any:
        raise RuntimeError("no such table")


ITEM = Item(theId=ID, at=UTC, price=decimal.Decimal("1.10"))
TAKEN: dict[str, tuple[Any, Any]] = {
    "datetime": ({"at": UTC}, {"at": "2026-01-02T03:04:05.000600+00:00"}),
    "datetime without a zone": ([dt.datetime(2026, 1, 2)], ["2026-01-02T00:00:00"]),
    "date": (dt.date(2026, 1, 2), "2026-01-02"),
    "time": ({"t": dt.time(3, 4)}, {"t": "03:04:00"}),
    "Decimal": ({"d": decimal.Decimal("1.10")}, {"d": "1.10"}),
    "UUID": ([ID], [str(ID)]),
    "Enum": ({"c": Colour.RED}, {"c": "red"}),
    "Enum of a tuple": (Colour.BLUE, ["b", 1]),
    "StrEnum": ({"k": Kind.A}, {"k": "a"}),
    "Path": ({"p": pathlib.PurePosixPath("/x/y")}, {"p": "/x/y"}),
    "set": ({"s": {1}}, {"s": [1]}),
    "frozenset": (frozenset([ID]), [str(ID)]),
    "deque": (collections.deque([1, {2}]), [1, [2]]),
    "keys of a dict": ({"a": 1}.keys(), ["a"]),
    "MappingProxyType": (types.MappingProxyType({"a": UTC.date()}), {"a": "2026-01-02"}),
    "ChainMap": (collections.ChainMap({"a": 1}, {"b": 2}), {"a": 1, "b": 2}),
    "namedtuple": (Point(1, 2), [1, 2]),
    "dataclass": (Doc(2**62, UTC, frozenset(["x"])), {"id": 2**62, "at": UTC.isoformat(), "tags": ["x"]}),
    "pydantic": ({"i": ITEM}, {"i": {"theId": str(ID), "at": "2026-01-02T03:04:05.000600Z", "price": "1.10"}}),
    "integers as keys": ({1: "a"}, {"1": "a"}),
    "an integer of any size": (2**200, 2**200),
}


async def test_what_has_one_form_is_taken(bus: eb.Bus, topic: str) -> None:
    """Bodies: times, numbers, identifiers, enumerations, sets and models, nested, as JSON has them."""
    await bus.producer(topic).send_many([body for body, _ in TAKEN.values()])
    async with bus.consumer(topic, group="g") as c:
        got = [m.json() for m in await c.fetch(len(TAKEN))]
    assert dict(zip(TAKEN, got, strict=True)) == {name: want for name, (_, want) in TAKEN.items()}


def cycle() -> Any:
    body: dict[str, Any] = {"a": []}
    body["a"].append(body)
    return body


def dataclass_cycle() -> Any:
    doc: Any = Doc(1, UTC)
    doc.tags = [doc]
    return doc


def deep() -> Any:
    body: Any = []
    for _ in range(100_000):
        body = [body]
    return body


def unawaited() -> Any:
    class Unawaited:
        def __await__(self) -> Any: ...

    return Unawaited()


REFUSED: dict[str, tuple[Callable[[], Any], str]] = {
    "NaN": (lambda: {"n": [0.5, float("nan")]}, 'body["n"][1]: NaN and infinity have no JSON form'),
    "infinity": (lambda: float("-inf"), "body: NaN and infinity"),
    "Decimal NaN": (lambda: {"d": decimal.Decimal("NaN")}, 'body["d"]: NaN and infinity'),
    "bytes inside": (lambda: {"b": b"hi"}, 'body["b"]: bytes have no JSON form: decode them'),
    "bytes of a model": (lambda: [Blob(data=b"\xff")], "body[0]: Blob cannot be written"),
    "timedelta": (lambda: {"t": dt.timedelta(1)}, 'body["t"]: a timedelta has more than one JSON form'),
    "generator": (lambda: {"g": (n for n in [1])}, 'body["g"]: generator can be read only once: give a list'),
    "array": (lambda: array.array("d", [1.5]), "body: array has more than one form: give .tolist()"),
    "coroutine": (lambda: {"r": unawaited()}, 'body["r"]: it is an awaitable (Unawaited): await it first'),
    "class": (lambda: {"m": Item}, 'body["m"]: it is the class Item: give an instance'),
    "key": (lambda: {"k": {(1, 2): 3}}, 'body["k"]: a key of it is a tuple: give strings as keys'),
    "surrogate": (lambda: {"s": "a\ud83d"}, 'body["s"]: its character 1 is half of a surrogate pair'),
    "surrogate as a key": (lambda: {"s": {"\ud83d": 1}}, 'body["s"]: a key of it is not text'),
    "cycle": (cycle, 'body["a"][0]: it holds itself'),
    "dataclass in itself": (dataclass_cycle, 'body["tags"][0]: it holds itself'),
    "too deep": (deep, "it is nested deeper than 500 levels"),
    "too many digits": (lambda: {"n": 10**5000}, 'body["n"]: int cannot be written'),
    "a model that fails": (lambda: {"m": Broken()}, 'body["m"]: Broken cannot be written: no such table'),
    "unknown": (lambda: {"d": [fractions.Fraction(1, 3)]}, 'body["d"][0]: Fraction has no JSON form: convert it'),
    "object": (object, "body: object has no JSON form"),
}


@pytest.mark.parametrize("case", REFUSED)
async def test_what_has_none_is_an_error_that_says_where(bus: eb.Bus, topic: str, case: str) -> None:
    """Bodies: nothing is stored as something else; the error names the part, and what to give instead."""
    make, want = REFUSED[case]
    with pytest.raises(eb.ConfigError) as caught:
        await bus.producer(topic).send(make())
    assert want in str(caught.value)
    with pytest.raises(eb.ConfigError):
        await bus.request(topic, make())


async def test_numpy(bus: eb.Bus, topic: str) -> None:
    """Bodies: numpy's scalars are Python's; an array is an error that names both of its forms."""
    np: Any = pytest.importorskip("numpy")
    day = np.datetime64("2026-01-02")
    body = [np.int64(5), np.float32(0.5), np.float64(0.25), np.bool_(True), np.str_("x"), np.uint8(7), day]
    await bus.producer(topic).send(body)
    async with bus.consumer(topic, group="g") as c:
        assert [m.json() for m in await c.fetch(1)] == [[5, 0.5, 0.25, True, "x", 7, "2026-01-02"]]
    for bad in (np.float32("nan"), np.datetime64("NaT", "D")):
        with pytest.raises(eb.ConfigError, match="NaN"):
            await bus.producer(topic).send({"n": bad})
    for bad in (np.array([1, 2]), np.array([[1.5]]), {"a": np.zeros(3)}):
        with pytest.raises(eb.ConfigError, match=r"\.tolist\(\), or send its \.tobytes\(\)"):
            await bus.producer(topic).send(bad)


async def test_msgspec(bus: eb.Bus, topic: str) -> None:
    """Bodies: msgspec's structs by their fields, at any depth."""
    msgspec: Any = pytest.importorskip("msgspec")
    struct = msgspec.defstruct("S", [("a", int), ("at", dt.datetime)])
    await bus.producer(topic).send({"s": [struct(2**60, UTC)]})
    async with bus.consumer(topic, group="g") as c:
        assert [m.json() for m in await c.fetch(1)] == [{"s": [{"a": 2**60, "at": "2026-01-02T03:04:05.000600Z"}]}]
