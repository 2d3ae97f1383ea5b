"""`python -m benches`: measures, and writes docs/benchmarks.{md,json,svg}."""

from __future__ import annotations

import argparse
import dataclasses
import signal
import sys
from pathlib import Path

from . import install
from .about import about
from .clients import CLIENTS
from .paths import DOCS, REPORT, SERVER
from .progress import Progress
from .report import ratios, write
from .runner import FULL, QUICK, Run
from .server import Server
from .stats import Results
from .workloads import WORKLOADS, Workload

BRIEF = ("raw", "async-nats", "ours-python", "nats-py", "nats-py-uvloop", "natsrpy", "ours-node", "nats.js")
"""Who takes part in a quick run."""


def arguments() -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m benches", description=__doc__)
    parser.add_argument("--quick", action="store_true", help="the main workloads, little of each: under 3 minutes")
    parser.add_argument("--only", default="", help="workloads whose names begin so, comma-separated; see --list")
    parser.add_argument("--peers", default="", help="clients, comma-separated; see --list")
    parser.add_argument("--rounds", type=int, help="rounds of each workload")
    parser.add_argument("--seconds", type=float, help="length of one measured interval")
    parser.add_argument("--shrink", type=int, help="counts of messages are divided by this")
    parser.add_argument("--out", type=Path, help="the folder to write to; default docs, target/bench/report for a part")
    parser.add_argument("--into", type=Path, help="a folder with a report: these workloads replace those in it")
    parser.add_argument("--dev", action="store_true", help="measure the builds of the working tree, debug ones too")
    parser.add_argument("--no-install", action="store_true", help="take what is installed in target/bench as it is")
    parser.add_argument("--report", action="store_true", help="only write the report anew, from its JSON")
    parser.add_argument("--ratios", action="store_true", help="also print our ratios to async-nats and to the limit")
    parser.add_argument("--list", action="store_true", help="workloads and clients")
    return parser.parse_args()


def chosen(only: str, quick: bool) -> list[Workload]:
    names = [name for name in only.split(",") if name]
    picked = [w for w in WORKLOADS if not names or any(w.id.startswith(name) for name in names)]
    return [w for w in picked if not quick or w.quick is not None]


def stop(*_: object) -> None:
    raise KeyboardInterrupt


def publish(results: Results, out: Path, into: Path | None) -> None:
    """Writes the report, and renews the one that these workloads go into."""
    write(results, out)
    print(f"wrote {out}/benchmarks.md, .json and .svg")
    if into is not None:
        whole = Results.load(into / "benchmarks.json")
        whole.replace(results)
        whole.save(into / "benchmarks.json")
        publish(whole, into, None)


def main() -> int:
    # As Ctrl-C: the server and the clients end, too.
    signal.signal(signal.SIGTERM, stop)
    args = arguments()
    if args.list:
        print(
            "\n".join(f"{w.id:18} {w.title}" for w in WORKLOADS),
            "\n",
            *(f"\n{c.id:18} {c.label}" for c in CLIENTS.values()),
        )
        return 0
    # A part of it is no report to publish.
    part = args.quick or args.dev or args.only or args.peers or args.shrink
    out: Path = args.out or (REPORT if part else DOCS)
    out.mkdir(parents=True, exist_ok=True)
    file = out / "benchmarks.json"
    if args.report:
        publish(Results.load(file), out, args.into)
        return 0
    size = QUICK if args.quick else FULL
    given = {name: value for name in ("rounds", "seconds", "shrink") if (value := getattr(args, name))}
    size = dataclasses.replace(size, **given)
    wanted = [name for name in args.peers.split(",") if name] or [c for c in CLIENTS if not args.quick or c in BRIEF]
    missing = [name for name in wanted if name not in CLIENTS]
    if missing:
        print(f"no such client: {', '.join(missing)}; there are {', '.join(CLIENTS)}", file=sys.stderr)
        return 2
    skipped = {} if args.no_install else install.needed(wanted, dev=args.dev)
    for name in wanted:
        if not CLIENTS[name].needs.exists():
            skipped.setdefault(name, "it is not installed")
    for name, why in skipped.items():
        print(f"skipped: {name}: {why}", file=sys.stderr)
    peers = [name for name in wanted if name not in skipped]
    workloads = chosen(args.only, args.quick)
    results = Results()
    with Server(SERVER) as server:
        results.about = about(server, size, args.quick, skipped)
        probe = Run(server, size, results, Progress(0), peers)
        steps = sum(probe.steps(w, args.quick) for w in workloads)
        progress = Progress(steps)
        run = Run(server, size, results, progress, peers)
        try:
            for workload in workloads:
                run.workload(workload, args.quick)
                results.save(file)
        except KeyboardInterrupt:
            progress.note("stopped: what there is, is written")
        progress.close()
    results.save(file)
    publish(results, out, args.into)
    if args.ratios:
        print("\n".join(ratios(results)))
    return 0


if __name__ == "__main__":
    sys.exit(main())
