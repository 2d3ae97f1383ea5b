// Contract, consuming: what order and prefetch promise, with handlers.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { ConfigError, connect, RetryAfter } from "nats-eventbus";
import { eventually, startServer } from "../support/server.mjs";
import { api } from "./raw.mjs";

const BACKOFF = { initial: 10 };
let server;
let bus;
before(async () => {
  server = await startServer({ jetstream: true });
  bus = await connect({ servers: server.url, jetstream: true });
});
after(async () => {
  await bus?.close();
  await server?.stop();
});

/** Something to wait for. */
function gate() {
  let open;
  const opened = new Promise((resolve) => {
    open = resolve;
  });
  return { open, opened };
}

async function send(topic, messages) {
  const p = bus.producer(topic);
  for (const [key, body] of messages) await p.send(body, { key });
}

test('order="key" keeps each key in order through retries, and other keys go on', async (t) => {
  await send("o.key", [
    ["a", "a1"],
    ["a", "a2"],
    ["b", "b1"],
    ["a", "a3"],
    ["b", "b2"],
  ]);
  const c = await bus.consumer("o.key", { group: "g", order: "key", concurrency: 4 });
  t.after(() => c.close());
  const b2 = gate();
  const seen = [];
  const run = c.run(async (m) => {
    const body = m.text();
    seen.push(`${body}.${m.attempt}`);
    if (body === "b2") b2.open();
    if (body !== "a1" || m.attempt > 1) return;
    // Only when the other key is through does a1 fail: had b waited for it, nothing would go on.
    await b2.opened;
    throw new RetryAfter(100);
  });
  await eventually(() => seen.includes("a3.1"), { what: "the last of a" });
  await c.close();
  await run;
  const of = (key) => seen.filter((s) => s.startsWith(key));
  assert.deepEqual(of("a"), ["a1.1", "a1.2", "a2.1", "a3.1"]);
  assert.deepEqual(of("b"), ["b1.1", "b2.1"]);
});

test('order="key" runs lanes: 8 handlers, failures everywhere, each key in order', async (t) => {
  const [keys, each] = [10, 30];
  await send(
    "o.lanes",
    Array.from({ length: keys * each }, (_, i) => [`k${i % keys}`, "x"]),
  );
  const options = { group: "g", order: "key", concurrency: 8, prefetch: 40, backoff: BACKOFF, onError: () => {} };
  const js = await connect({ servers: server.url, jetstream: true });
  t.after(() => js.close());
  const done = new Map();
  const running = new Map();
  let most = 0;
  js.on("o.lanes", options, async (m) => {
    running.set(m.key, (running.get(m.key) ?? 0) + 1);
    const busy = [...running.values()].filter((n) => n > 0).length;
    most = Math.max(most, busy);
    assert.equal(running.get(m.key), 1);
    await new Promise((resolve) => setImmediate(resolve));
    running.set(m.key, running.get(m.key) - 1);
    if (m.attempt === 1 && m.sequence % 7 === 0) throw new Error("once");
    done.set(m.key, [...(done.get(m.key) ?? []), m.sequence]);
  });
  const run = js.run();
  const total = () => [...done.values()].reduce((n, list) => n + list.length, 0);
  await eventually(() => total() === keys * each, { what: "the last message", within: 30_000 });
  await js.close();
  await run;
  for (const [key, list] of done) {
    assert.deepEqual(
      list,
      list.toSorted((a, b) => a - b),
      key,
    );
    assert.equal(list.length, each);
  }
  assert.ok(most > 1, "several keys at once");
});

test('order="stream" keeps the whole group, all its processes, in order (max ack pending 1)', async (t) => {
  await send(
    "o.stream",
    Array.from({ length: 20 }, () => ["k", "x"]),
  );
  const other = await connect({ servers: server.url, jetstream: true });
  t.after(() => other.close());
  const done = [];
  let running = 0;
  const handler = async (m) => {
    running += 1;
    assert.equal(running, 1, "one at a time");
    await new Promise((resolve) => setImmediate(resolve));
    running -= 1;
    if (m.attempt === 1 && m.sequence % 4 === 0) throw new Error("once");
    done.push(m.sequence);
  };
  const options = { group: "g", order: "stream", concurrency: 4, backoff: BACKOFF };
  const consumers = await Promise.all([bus, other].map((b) => b.consumer("o.stream", options)));
  const errors = [];
  const runs = consumers.map((c) => c.run(handler, { onError: (e) => errors.push(e.message) }));
  await eventually(() => done.length === 20, { what: "twenty messages" });
  await Promise.all(consumers.map((c) => c.close()));
  await Promise.all(runs);
  assert.deepEqual(
    done,
    Array.from({ length: 20 }, (_, i) => i + 1),
  );
  assert.deepEqual(errors, Array(5).fill("once"));
  const info = await api(server.port, "CONSUMER.INFO.o_stream_STREAM.g");
  assert.equal(info.config.max_ack_pending, 1);
});

test('order="stream" that cannot be is a config error', async (t) => {
  const core = await connect(server.url);
  t.after(() => core.close());
  await assert.rejects(core.consumer("o.core", { group: "g", order: "stream" }), ConfigError);
  await assert.rejects(bus.consumer("o.two", { group: "g", order: "stream", maxAckPending: 2 }), ConfigError);
  await assert.rejects(
    bus.consumer("o.none", { group: "g", order: "topic" }),
    (e) => e instanceof ConfigError && /order/.test(e.message),
  );
});

test("prefetch is by credit: with handlers, never more messages are unsettled", async (t) => {
  const prefetch = 16;
  const p = bus.producer("o.prefetch");
  await p.sendMany(Array.from({ length: 200 }, () => "x"));
  const before = bus.metrics();
  const unconcerned = before.received - before.settled;
  const c = await bus.consumer("o.prefetch", { group: "g", prefetch, concurrency: 3 });
  t.after(() => c.close());
  const slow = gate();
  t.after(() => slow.open());
  let running = 0;
  let handled = 0;
  const unsettled = async () => (await api(server.port, "CONSUMER.INFO.o_prefetch_STREAM.g")).num_ack_pending;
  let most = 0;
  const run = c.run(async () => {
    running += 1;
    await slow.opened;
    handled += 1;
    // The server's own count may lag behind acks that it has not processed yet.
    const { received, settled } = bus.metrics();
    most = Math.max(most, received - settled - unconcerned);
  });
  await eventually(() => running === 3, { what: "three handlers" });
  await eventually(async () => (await unsettled()) === prefetch, { what: "a full prefetch" });
  await eventually(() => bus.metrics().received - before.received === prefetch, { what: "all of it" });
  slow.open();
  await eventually(() => handled === 200, { what: "all messages" });
  await c.close();
  await run;
  assert.equal(most, prefetch);
});
