"""How long a Python client takes from nothing: import, then connect. Nothing is imported before that it could share."""

# pyright: reportUnknownMemberType=false
import sys
import time


def main() -> None:
    which, url = sys.argv[1], sys.argv[2].partition('"url": "')[2].partition('"')[0]
    began = time.perf_counter()
    if which == "ours":
        import nats_eventbus

        imported = time.perf_counter()

        async def connect() -> None:
            await nats_eventbus.connect(url, jetstream=True)
            tell()

    elif which == "nats-py":
        import nats

        imported = time.perf_counter()

        async def connect() -> None:
            client = await nats.connect(url)
            client.jetstream()
            tell()

    else:
        natsrpy = __import__("natsrpy")
        imported = time.perf_counter()

        async def connect() -> None:
            client = natsrpy.Nats([url])
            await client.startup()
            await client.jetstream()
            tell()

    def tell() -> None:
        connected = time.perf_counter()
        import json

        with open("/proc/self/status") as file:
            peak = next(int(line.split()[1]) for line in file if line.startswith("VmHWM"))
        outcome = {"import_ms": (imported - began) * 1e3, "connect_ms": (connected - imported) * 1e3, "rss_kb": peak}
        print(json.dumps({**outcome, "total": 0}), flush=True)

    import asyncio

    asyncio.run(connect())


main()
