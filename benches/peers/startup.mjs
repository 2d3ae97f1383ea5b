// How long a Node client takes from nothing: import, then connect.

import { readFileSync } from "node:fs";

const [which, spec] = [process.argv[2], JSON.parse(process.argv[3])];
const began = performance.now();
let imported;
if (which === "ours") {
  const { connect } = await import("nats-eventbus");
  imported = performance.now();
  await connect({ servers: spec.url, jetstream: true });
} else {
  const [{ connect }, { jetstream }] = [await import("@nats-io/transport-node"), await import("@nats-io/jetstream")];
  imported = performance.now();
  jetstream(await connect({ servers: spec.url }));
}
const connected = performance.now();
const peak = Number(/VmHWM:\s+(\d+)/.exec(readFileSync("/proc/self/status", "utf8"))[1]);
const outcome = { import_ms: imported - began, connect_ms: connected - imported, rss_kb: peak, total: 0 };
process.stdout.write(`${JSON.stringify(outcome)}\n`, () => process.exit(0));
