"""Headers of a message received: found in any case, and all values of each."""

from __future__ import annotations

import json
import pickle

import nats_eventbus as eb
import pytest


async def test_headers_are_found_in_any_case(bus: eb.Bus, topic: str) -> None:
    """Consuming: lookup without case; of a repeated header the first value, and all by `get_all`."""
    await bus.producer(topic).send(b"x", headers={"Trace-Id": "1", "tag": ["a", "b"]}, key="k")
    async with bus.consumer(topic, group="g") as c:
        [m] = await c.fetch(1)
    headers = m.headers
    assert headers["trace-id"] == headers["Trace-Id"] == headers.get("TRACE-ID") == "1"
    assert "trace-ID" in headers
    assert "other" not in headers
    assert headers.get("other", "none") == "none"
    with pytest.raises(KeyError, match="other"):
        headers["other"]
    assert (headers["Tag"], headers.get_all("TAG"), headers.get_all("other")) == ("a", ["a", "b"], [])
    named = {name: value for name, value in headers.items() if not name.startswith(("Nats-", "Sharding-"))}
    assert named == {"Trace-Id": "1", "tag": "a"}
    assert json.loads(json.dumps(headers))["tag"] == "a"
    assert pickle.loads(pickle.dumps(headers)).get_all("tag") == ["a", "b"]
