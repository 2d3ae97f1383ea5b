// Contract: publishing (acked, deduplicated, reported), consuming (settled by the user's word, given back on leaving).
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { inspect } from "node:util";
import { ConflictError, connect, DecodeError, NotFoundError, PubAck, StreamFull } from "nats-eventbus";
import { eventually, startServer } from "../support/server.mjs";

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

test("a message comes back as it was sent, ids beyond 2^53 included", async (t) => {
  const p = bus.producer("t.roundtrip");
  const id = 7512345678901234567n;
  const ack = await p.send({ id, list: [1, 2.5, -id] }, { key: "doc-7", id: "evt-1", headers: { tenant: "中文" } });
  assert.ok(ack instanceof PubAck);
  assert.deepEqual([ack.stream, ack.sequence, ack.duplicate], ["t_roundtrip_STREAM", 1, false]);
  const again = await p.send("again", { id: "evt-1" });
  assert.deepEqual([again.sequence, again.duplicate], [1, true]);

  const c = await bus.consumer("t.roundtrip", { group: "g" });
  t.after(() => c.close());
  const m = await c.next();
  assert.equal(m.text(), '{"id":7512345678901234567,"list":[1,2.5,-7512345678901234567]}');
  assert.deepEqual(m.json(), { id, list: [1, 2.5, -id] });
  assert.deepEqual(
    [m.topic, m.group, m.stream, m.key, m.id],
    ["t.roundtrip", "g", "t_roundtrip_STREAM", "doc-7", "evt-1"],
  );
  assert.deepEqual([m.sequence, m.attempt, m.headers.tenant], [1, 1, "中文"]);
  assert.ok(Math.abs(m.timestamp.getTime() - Date.now()) < 60_000);
  assert.match(inspect(m), /Message topic="t.roundtrip" sequence=1 attempt=1 key="doc-7"/);
  assert.equal(m.inProgress(), true);
  await m.ackConfirmed();
  assert.equal(m.ack(), false);
});

test("bodies of every kind, small and large", async (t) => {
  const p = bus.producer("t.bodies");
  const large = Buffer.alloc(100_000, 7);
  const view = new Uint8Array([9, 1, 2, 9]).subarray(1, 3);
  const bodies = [Buffer.from("b"), view, new Uint8Array([3]).buffer, "ü", { a: 1n }, 5, null, "", large];
  const acks = await p.sendMany(bodies);
  assert.deepEqual(
    acks.map((a) => a.sequence),
    [1, 2, 3, 4, 5, 6, 7, 8, 9],
  );
  const c = await bus.consumer("t.bodies", { group: "g" });
  t.after(() => c.close());
  const got = [];
  while (got.length < bodies.length) got.push(...(await c.fetch(bodies.length - got.length, { timeout: 2000 })));
  const expected = ["b", "\x01\x02", "\x03", "ü", '{"a":1}', "5", "null", ""];
  assert.deepEqual(
    got.slice(0, -1).map((m) => m.body.toString()),
    expected,
  );
  assert.ok(got.at(-1).body.equals(large));
  for (const m of got) m.ack();
  assert.throws(() => got[0].json(), DecodeError);
});

test("leaving the loop gives what is buffered to another worker within a second", async (t) => {
  const p = bus.producer("t.leave");
  await p.sendMany(Array.from({ length: 50 }, (_, i) => ({ i })));
  const first = await bus.consumer("t.leave", { group: "g" });
  for await (const m of first) {
    m.ack();
    break;
  }
  const started = performance.now();
  const second = await bus.consumer("t.leave", { group: "g" });
  t.after(() => second.close());
  const seen = new Set();
  for await (const m of second) {
    seen.add(m.json().i);
    m.ack();
    if (seen.size === 49) break;
  }
  assert.ok(performance.now() - started < 5000, `it took ${performance.now() - started} ms`);
  assert.equal(await first.next(), null);
});

test("nak brings a message again, term does not", async (t) => {
  const p = bus.producer("t.settle");
  await p.send("x");
  const c = await bus.consumer("t.settle", { group: "g" });
  t.after(() => c.close());
  assert.equal((await c.next()).nak({ delay: 1 }), true);
  const again = await c.next();
  assert.equal(again.attempt, 2);
  assert.throws(() => again.nak({ delay: -1 }), /delay/);
  assert.equal(again.term("no use"), true);
  assert.deepEqual(await c.fetch(1, { timeout: 200 }), []);
});

test("a confirmed ack of a settled message is a conflict", async (t) => {
  await bus.producer("t.confirmed").send("x");
  const c = await bus.consumer("t.confirmed", { group: "g" });
  t.after(() => c.close());
  const m = await c.next();
  m.ack();
  await assert.rejects(m.ackConfirmed(), ConflictError);
});

test("flush reports what sendNow could not tell", async () => {
  const p = bus.producer("t.flush.absent", { declare: false });
  p.sendNow("x");
  p.sendNow("y");
  const failed = await p.flush().then(
    () => null,
    (e) => e,
  );
  assert.ok(failed instanceof NotFoundError, inspect(failed));
  assert.equal(failed.failures.length, 2);
  await p.flush();
});

test("an abandoned send still counts in flush", async () => {
  const p = bus.producer("t.abandoned", { declare: false });
  const stop = new AbortController();
  const sent = p.send("x", { signal: stop.signal });
  stop.abort();
  await assert.rejects(sent, { name: "AbortError" });
  await assert.rejects(p.flush(), NotFoundError);
});

test("sendMany tells each message's outcome", async () => {
  const info = await bus.declareStream("MANY", ["t.many"]);
  assert.deepEqual([info.name, info.subjects], ["MANY", ["t.many"]]);
  const results = await bus.producer("t.many").sendMany(["a", Buffer.alloc(2 << 20), "c"]);
  assert.equal(results[0].sequence, 1);
  assert.equal(results[1].code, "publish.rejected.too_large");
  assert.equal(results[2].sequence, 2);
  assert.ok(!(results[1] instanceof StreamFull));
  assert.equal((await bus.stream("MANY").info()).messages, 2);
  assert.ok((await bus.streams()).some((s) => s.name === "MANY" && s.duplicateWindow >= 1000));
});

test("an aborted wait loses no message", async (t) => {
  const c = await bus.consumer("t.abort", { group: "g" });
  t.after(() => c.close());
  const stop = new AbortController();
  const waiting = c.next({ signal: stop.signal });
  stop.abort();
  await assert.rejects(waiting, { name: "AbortError" });
  const fetching = c.fetch(2, { timeout: 10_000, signal: AbortSignal.timeout(50) });
  const aborted = assert.rejects(fetching, { name: "TimeoutError" });
  await bus.producer("t.abort").send("only");
  await aborted;
  const m = await c.next();
  assert.equal(m.text(), "only");
  m.ack();
});

test("a consumer that cannot go on says so", async () => {
  await bus.declareStream("GONE", ["t.gone"]);
  const c = await bus.consumer("t.gone", { group: "g" });
  const told = assert.rejects(c.next(), NotFoundError);
  const reply = await bus.request("x.y.z", "", { timeout: 100 }).catch((e) => e);
  assert.equal(reply.code, "request.no_responders");
  const nc = await import("./raw.mjs");
  await nc.request(server.port, "$JS.API.STREAM.DELETE.GONE", "");
  await told;
  await c.close();
});

test("acks reach the server", async () => {
  const p = bus.producer("t.acks");
  await p.sendMany(Array.from({ length: 300 }, () => "x"));
  const c = await bus.consumer("t.acks", { group: "g" });
  let n = 0;
  for await (const m of c) {
    m.ack();
    n += 1;
    if (n === 300) break;
  }
  const { request } = await import("./raw.mjs");
  await eventually(async () => {
    const info = JSON.parse(await request(server.port, "$JS.API.CONSUMER.INFO.t_acks_STREAM.g", ""));
    return info.num_ack_pending === 0 && info.ack_floor.stream_seq === 300;
  });
});
