// Performance: results cross in batches, not one by one.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { connect } from "nats-eventbus";
import { startServer } from "../support/server.mjs";

const N = 100_000;
let server;
before(async () => {
  server = await startServer({ jetstream: true });
});
after(() => server?.stop());

function economical(bus, messages, what) {
  const { letters, wakes } = bus.bridgeCounts();
  const text = `${what}: ${messages} messages, ${letters} letters, ${wakes} wake-ups`;
  assert.ok(wakes < messages / 10, text);
  return text;
}

async function receive(c, n) {
  let got = 0;
  for await (const m of c) {
    m.ack();
    got += 1;
    if (got === n) break;
  }
}

test("core mode: 100 000 messages", async (t) => {
  const bus = await connect(server.url);
  t.after(() => bus.close());
  const c = await bus.consumer("e.core", { group: "g", pendingLimit: 2 * N });
  const p = bus.producer("e.core");
  const body = Buffer.alloc(128, 1);
  const received = receive(c, N);
  for (let i = 0; i < N; i++) await p.send(body);
  await p.flush();
  await received;
  t.diagnostic(economical(bus, N, "core"));
});

test("JetStream: 100 000 messages by sendMany, then by send in a window", async (t) => {
  const bus = await connect({ servers: server.url, jetstream: true });
  t.after(() => bus.close());
  const p = bus.producer("e.js", { maxInFlight: 2000 });
  const body = Buffer.alloc(128, 1);
  const batch = Array.from({ length: 1000 }, () => body);
  for (let i = 0; i < N / 2; i += 1000) {
    for (const ack of await p.sendMany(batch)) assert.ok(ack.sequence > 0);
  }
  const window = [];
  for (let i = 0; i < N / 2; i++) {
    window.push(p.send(body));
    if (window.length === 1000) await Promise.all(window.splice(0));
  }
  t.diagnostic(economical(bus, N, "published"));
  const c = await bus.consumer("e.js", { group: "g", prefetch: 1000 });
  await receive(c, N);
  t.diagnostic(economical(bus, 2 * N, "published and consumed"));
});
