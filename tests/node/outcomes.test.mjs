// Contract, publishing: what becomes of every send.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import {
  Backpressure,
  ConfigError,
  connect,
  InvalidHeader,
  InvalidTopic,
  NotSent,
  PubAck,
  PublishRejected,
  PublishUnknown,
  Timeout,
  TooLarge,
  WrongSequence,
} from "nats-eventbus";
import { eventually, startServer } from "../support/server.mjs";
import { api } from "./raw.mjs";
import { failed, make, open, silence, stored, streamOf } from "./world.mjs";

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

/** A bus of one's own, whose metrics are this test's, on a server to be hurt or on the shared one. */
async function own(t, { shared = false, ...settings } = {}) {
  const there = shared ? server : await startServer({ jetstream: true });
  const b = await connect({ servers: there.url, jetstream: true, ...settings });
  t.after(async () => {
    await b.close();
    if (!shared) await there.stop();
  });
  return [b, there];
}

async function order(b, topic, count) {
  const c = await b.consumer(topic, { group: "order" });
  const keys = new Map();
  for (let n = 0; n < count; n++) {
    const m = await c.next();
    keys.set(m.key, [...(keys.get(m.key) ?? []), m.json().n]);
  }
  await c.close();
  return keys;
}

test("JetStream sends carry an id always: given, or generated and different each time", async (t) => {
  const p = bus.producer("o.ids");
  await p.send("x", { id: "mine" });
  await p.send("x");
  p.sendNow("x", { headers: { tenant: "t1" }, key: "k" });
  await p.sendMany(["x", "x"]);
  const c = await bus.consumer("o.ids", { group: "g" });
  t.after(() => c.close());
  const ids = [];
  while (ids.length < 5) ids.push((await c.next()).id);
  assert.ok(ids.every((id) => id));
  assert.equal(ids[0], "mine");
  assert.equal(new Set(ids).size, 5);
});

test("a lost ack: sent again with the same id until it comes; stored once; the duplicate is reported", async (t) => {
  await silence(server, "o.lost");
  const [b] = await own(t, { shared: true });
  const sending = b.producer("o.lost", { ackTimeout: 100 }).send("x");
  await eventually(() => b.metrics().retried >= 2, { what: "two retries" });
  assert.ok(await open(sending, 1));
  await make(server, "o.lost");
  const ack = await sending;
  assert.deepEqual([ack.sequence, ack.duplicate], [1, true]);
  assert.equal(await stored(server, streamOf("o.lost")), 1);
});

test("no responders, as in an election: tried again until a stream answers; if none does, rejected", async () => {
  await make(server, "o.none");
  const declare = false;
  const [p, hasty] = [bus.producer("o.none", { declare }), bus.producer("o.none", { declare, deliveryTimeout: 2000 })];
  await Promise.all([p.send("before"), hasty.send("before")]);
  await api(server.port, `STREAM.DELETE.${streamOf("o.none")}`);
  const sending = p.send("x");
  let e = await failed(hasty.send("y"));
  // Unknown: the deadline came before the answer to its last attempt.
  for (let n = 0; n < 5 && e instanceof PublishUnknown; n++) e = await failed(hasty.send("y"));
  assert.ok(e instanceof PublishRejected && /no leader/.test(e.message) && e.topic === "o.none", String(e));
  assert.ok(await open(sending, 1));
  await make(server, "o.none");
  assert.equal((await sending).sequence, 1);
});

test("10158, the server has not settled this id yet: tried again with the same id", async (t) => {
  await silence(server, "o.unsettled");
  const other = await connect(server.url);
  t.after(() => other.close());
  const ids = [];
  await other.respond("o.unsettled", (m) => {
    ids.push(m.id);
    if (ids.length === 3) return { stream: "S", seq: 7 };
    return { error: { code: 503, err_code: 10158, description: "not settled" } };
  });
  const ack = await bus.producer("o.unsettled").send("x");
  assert.deepEqual([ack.stream, ack.sequence, ids.length, new Set(ids).size], ["S", 7, 3, 1]);
  assert.ok(ids[0]);
});

test("a disconnect: retried with the same id; nothing acked is lost, every id is stored once", async (t) => {
  const [b, there] = await own(t);
  const p = b.producer("o.kill");
  const sends = Promise.all(Array.from({ length: 5000 }, (_, n) => p.send(`${n}`)));
  const c = await b.consumer("o.kill", { group: "g" });
  const seen = new Set();
  let killed = false;
  for await (const m of c) {
    seen.add(m.text());
    m.ack();
    if (seen.size >= 1000 && !killed) {
      killed = true;
      await there.kill();
      await there.start();
    }
    if (seen.size === 5000) break;
  }
  assert.equal(new Set((await sends).map((a) => a.sequence)).size, 5000);
  assert.equal(await stored(there, streamOf("o.kill")), 5000);
  assert.equal(b.metrics().reconnects, 1);
});

test("deliveryTimeout (default 30 s) must stay below the stream's real dedupe window: a config error", async () => {
  await make(server, "o.window", { duplicate_window: 10e9 });
  for (const [deliveryTimeout, told] of [
    [10_000, "10"],
    [15_500, "15.5"],
    [undefined, "30"],
  ]) {
    const e = await failed(bus.producer("o.window", { deliveryTimeout }).send("x"));
    assert.ok(e instanceof ConfigError, String(e));
    assert.match(e.message, new RegExp(`delivery_timeout is ${told} s .* 10 s`));
    assert.deepEqual([e.topic, e.stream], ["o.window", streamOf("o.window")]);
  }
  assert.equal(await stored(server, streamOf("o.window")), 0);
  assert.equal((await bus.producer("o.window", { deliveryTimeout: 9000 }).send("x")).sequence, 1);
  assert.equal((await bus.producer("o.window", { dedupe: false }).send("x")).sequence, 2, "nothing to remember");
});

test("dedupe: false leaves ids out; a lost ack is not retried, it is unknown", async (t) => {
  await silence(server, "o.plain");
  const [b] = await own(t, { shared: true });
  const p = b.producer("o.plain", { dedupe: false, deliveryTimeout: 2000, ackTimeout: 100 });
  const e = await failed(p.send("x", { key: "k", headers: { tenant: "t1" } }));
  assert.ok(e instanceof PublishUnknown, String(e));
  assert.deepEqual([e.code, e.topic, e.id], ["publish.unknown", "o.plain", undefined]);
  assert.equal(b.metrics().retried, 0);
  assert.equal(await stored(server, streamOf("o.plain")), 1);
  const c = await b.consumer("o.plain", { group: "g" });
  const m = await c.next();
  assert.deepEqual([m.id, m.headers], [undefined, { tenant: "t1", "Sharding-Key": "k" }]);
});

test("a retry never stores twice, also of an id given where dedupe: false makes none", async () => {
  await silence(server, "o.given", { duplicate_window: 5e8 });
  const p = bus.producer("o.given", { dedupe: false, deliveryTimeout: 3000, ackTimeout: 1000 });
  await failed(p.send("x", { id: "mine" }));
  assert.ok((await stored(server, streamOf("o.given"))) <= 1);
});

test("unknown by the deadline, and not later; what was told unknown is not sent again silently", async (t) => {
  await silence(server, "o.silent");
  const other = await connect(server.url);
  t.after(() => other.close());
  const spy = await other.consumer("o.silent", { group: "spy" });
  const seen = new Map();
  void (async () => {
    for await (const m of spy) {
      const what = m.id ?? m.text();
      seen.set(what, (seen.get(what) ?? 0) + 1);
    }
  })();
  const p = bus.producer("o.silent", { deliveryTimeout: 2000, ackTimeout: 100 });
  const [told, copies] = [[], []];
  for (let n = 0; n < 2; n++) {
    const started = performance.now();
    const e = await failed(p.send("x"));
    const took = performance.now() - started;
    assert.ok(e instanceof PublishUnknown && took > 1990 && took < 10_000, `${e} after ${took} ms`);
    told.push(e.id);
    // Behind all that this connection has sent so far.
    assert.ok((await failed(bus.request("o.silent", `mark ${n}`, { timeout: 100 }))) instanceof Timeout);
    await eventually(() => seen.has(`mark ${n}`), { what: "the mark" });
    copies.push(seen.get(told[0]));
  }
  assert.deepEqual([...seen.keys()], [told[0], "mark 0", told[1], "mark 1"]);
  assert.ok(copies[0] > 1 && copies[0] === copies[1], `tried until its outcome, and not after it: ${copies}`);
});

test("never handed to a live connection by its deadline: rejected as not sent, and never stored later", async (t) => {
  const [b, there] = await own(t, { drainTimeout: 1000 });
  const p = b.producer("o.dead", { deliveryTimeout: 2000 });
  await p.send("1");
  await there.kill();
  await eventually(() => b.state === "disconnected");
  const started = performance.now();
  const others = b.producer("o.dead.other", { deliveryTimeout: 2000 });
  for (const e of await Promise.all([p.send("x", { key: "k" }), p.send("x"), others.send("x")].map(failed))) {
    assert.ok(e instanceof NotSent && e.retryable && e.code === "publish.rejected.not_sent", String(e));
  }
  assert.ok(performance.now() - started < 10_000);
  await there.start();
  await eventually(() => b.state === "connected");
  assert.equal((await b.producer("o.dead").send("2")).sequence, 2);
  assert.equal(await stored(there, streamOf("o.dead")), 2);
});

test("while disconnected sends are held, and stored once each after the reconnect", async (t) => {
  const [b, there] = await own(t);
  const p = b.producer("o.held");
  await p.send("first");
  await there.kill();
  await eventually(() => b.state === "disconnected");
  const sends = Promise.all(Array.from({ length: 30 }, (_, n) => p.send(`${n}`, { key: `k${n % 3}` })));
  p.sendNow("31");
  assert.ok(await open(sends, 50));
  await there.start();
  assert.ok((await sends).every((a) => !a.duplicate));
  await p.flush();
  assert.equal(await stored(there, streamOf("o.held")), 32);
});

test("at most maxInFlight (default 1000) are unsettled: send waits, sendNow is Backpressure, flush waits", async (t) => {
  const [b, there] = await own(t);
  const [small, usual] = [b.producer("o.places", { maxInFlight: 3 }), b.producer("o.places")];
  await Promise.all([small.send("x"), usual.send("x")]);
  there.pause();
  for (const [p, places] of [
    [small, 3],
    [usual, 1000],
  ]) {
    for (let n = 0; n < places; n++) p.sendNow("x");
    assert.throws(
      () => p.sendNow("x"),
      (e) => e instanceof Backpressure && e.retryable && e.topic === "o.places",
    );
  }
  const [waiting, flushing] = [small.send("x"), small.flush()];
  assert.ok(await open(Promise.any([waiting, flushing])));
  there.resume();
  await Promise.all([waiting, flushing, usual.flush()]);
  assert.equal(await stored(there, streamOf("o.places")), 2 + 3 + 1000 + 1);
});

test("without a key sends are pipelined; of a key one is under way, other keys are unaffected", async (t) => {
  await silence(server, "o.lanes");
  const [b] = await own(t, { shared: true });
  const p = b.producer("o.lanes", { ackTimeout: 100 });
  const sends = [];
  for (let n = 0; n < 3; n++) {
    for (const key of ["a", "b", undefined]) sends.push(p.send({ n }, { key }));
  }
  const five = async () => (await stored(server, streamOf("o.lanes"))) === 5;
  await eventually(five, { what: "five stored" });
  // Each of the five was sent again by now, and nothing but them.
  await eventually(() => b.metrics().retried >= 10, { what: "ten retries" });
  assert.ok(await five());
  await make(server, "o.lanes");
  await Promise.all(sends);
  const keys = await order(b, "o.lanes", 9);
  assert.deepEqual([keys.get("a"), keys.get("b"), keys.get(undefined).length], [[0, 1, 2], [0, 1, 2], 3]);
});

test("messages of a key are stored in the order sent, retries included, through a kill", async (t) => {
  const [b, there] = await own(t);
  const p = b.producer("o.keys", { ackTimeout: 200 });
  const send = (from, to) =>
    Promise.all(Array.from({ length: to - from }, (_, n) => p.send({ n: from + n }, { key: `k${(from + n) % 7}` })));
  const sends = [await send(0, 1000)];
  // Stopped first: what is under way at the kill has no answer.
  there.pause();
  const { retried } = b.metrics();
  const rest = send(1000, 2000);
  await eventually(() => b.metrics().retried > retried, { what: "a retry" });
  await there.kill();
  await there.start();
  sends.push(await rest);
  assert.equal(new Set(sends.flat().map((a) => a.sequence)).size, 2000);
  for (const numbers of (await order(b, "o.keys", 2000)).values()) {
    assert.deepEqual(
      numbers,
      numbers.toSorted((x, y) => x - y),
    );
  }
});

test("every send ends in exactly one of three outcomes, once, by its deadline; what was acked is stored", async (t) => {
  const [b, there] = await own(t, { drainTimeout: 1000 });
  const p = b.producer("o.once", { deliveryTimeout: 4000, maxInFlight: 100 });
  const sends = [p.send("x", { expectedLastSequence: 1_000_000 })];
  for (let n = 0; n < 5000; n++) sends.push(p.send("x"));
  const all = Promise.allSettled(sends);
  await eventually(() => b.metrics().acked > 200);
  await there.kill();
  const started = performance.now();
  const ends = (await all).map((end) => end.value ?? end.reason);
  assert.ok(performance.now() - started < 12_000);
  const count = (kind) => ends.filter((e) => e instanceof kind).length;
  const [acked, rejected, unknown] = [PubAck, PublishRejected, PublishUnknown].map(count);
  assert.ok(ends[0] instanceof WrongSequence);
  assert.equal(acked + rejected + unknown, 5001);
  const m = b.metrics();
  assert.deepEqual([m.sent, m.acked, m.rejected, m.unknown], [5001, acked, rejected, unknown]);
  await there.start();
  const n = await stored(there, streamOf("o.once"));
  assert.ok(acked > 200 && acked <= n && n <= acked + unknown, `${acked} acked, ${unknown} unknown, ${n} stored`);
});

test("in core mode flush is a real PING/PONG: a server that does not answer is a Timeout", async (t) => {
  const [b, there] = await own(t, { jetstream: false });
  const [p, hasty] = [b.producer("o.flush"), b.producer("o.flush", { deliveryTimeout: 500 })];
  await p.flush();
  there.pause();
  await hasty.send("x");
  await assert.rejects(hasty.flush(), Timeout);
  there.resume();
  await p.flush();
});

/** Sends until there is no more room. */
async function stalled(t, jetstream) {
  const [b, there] = await own(t, { jetstream, drainTimeout: 100 });
  const p = b.producer("o.memory", { maxInFlight: 50 });
  await p.send("x");
  there.pause();
  const body = Buffer.alloc(256 << 10);
  // 12 MiB are the window's, and some are in the sockets' buffers: long before 64 MiB it must be full.
  for (let n = 0; n < 256; n++) {
    p.sendNow(body);
    await new Promise((resolve) => setTimeout(resolve, 1));
  }
}

test("memory is bounded whatever the caller does: a server that stalls becomes Backpressure", async (t) => {
  await assert.rejects(stalled(t, true), Backpressure);
});

test("memory is bounded in core mode, too", async (t) => {
  await assert.rejects(stalled(t, false), Backpressure);
});

test("a payload, header or topic the server would refuse is rejected unsent, naming the limit", async (t) => {
  const [b] = await own(t, { shared: true });
  const p = b.producer("o.limit");
  const limit = b.server.maxPayload;
  const large = [[Buffer.alloc(limit + 1)], ["x", { headers: { long: "x".repeat(limit) } }]];
  for (const [body, options] of large) {
    const e = await failed(p.send(body, options));
    assert.ok(e instanceof TooLarge && e.message.includes(String(limit)) && e.topic === "o.limit", String(e));
  }
  assert.throws(
    () => b.producer("x".repeat(1025)),
    (e) => e instanceof InvalidTopic && /1024/.test(e.message),
  );
  const e = await failed(p.send("x", { headers: { tenant: "a\nb" } }));
  assert.ok(e instanceof InvalidHeader && /tenant/.test(e.message));
  assert.equal(b.metrics().sent, 0);
});
