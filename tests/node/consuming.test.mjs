// Contract, consuming: how messages are handed out, kept and settled.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { after, before, test } from "node:test";
import { ClosedError, connect, NotFoundError, Reject, RetryAfter, Timeout } from "nats-eventbus";
import { eventually, startServer } from "../support/server.mjs";
import { api } from "./raw.mjs";
import { failed, gated, groupState, inTime, make, open, reaches, silence, stored } from "./world.mjs";

const quiet = { onError: () => {} };
const later = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
let server;
before(async () => {
  server = await startServer({ jetstream: true });
});
after(() => server?.stop());

/** A bus of one's own, whose metrics are this test's. */
async function own(t, settings = {}) {
  const b = await connect({ servers: server.url, jetstream: true, ...settings });
  t.after(() => b.close());
  return b;
}

async function consumer(t, b, topic, options = {}) {
  const c = await b.consumer(topic, { group: "g", ...options });
  t.after(() => c.close());
  return c;
}

async function many(c, count) {
  const got = [];
  while (got.length < count) {
    const more = await c.fetch(count - got.length, { timeout: 10_000 });
    assert.ok(more.length > 0, `only ${got.length} of ${count} came`);
    got.push(...more);
  }
  return got;
}

test("a message is settled only by the user's word: not by being taken, and not by time", async (t) => {
  const b = await own(t);
  await b.producer("c.word").sendMany(["1", "2", "3"]);
  const c = await consumer(t, b, "c.word", { ackWait: 2000 });
  const kept = await many(c, 3);
  await reaches(server, "c.word", { num_ack_pending: 3 });
  assert.deepEqual(await c.fetch(1, { timeout: 4500 }), [], "two ack waits: kept from redelivery");
  await reaches(server, "c.word", { num_ack_pending: 3, num_redelivered: 0 });
  for (const m of kept) assert.equal(m.ack(), true);
  await reaches(server, "c.word", { num_ack_pending: 0 });
});

test("a message is settled by its handler's end, and not before", async (t) => {
  const b = await own(t);
  await b.producer("c.end").send("x");
  const work = gated();
  const c = await consumer(t, b, "c.end");
  const run = c.run(work.handler);
  try {
    await work.entered;
    assert.ok(await open(run));
    await reaches(server, "c.end", { num_ack_pending: 1 });
  } finally {
    work.go();
  }
  await reaches(server, "c.end", { num_ack_pending: 0 });
  await c.close();
  await run;
});

test("rejects → retry after backoff, growing; RetryAfter → that delay; after 3 attempts → dead letter", async (t) => {
  const b = await own(t);
  await b.producer("c.ends").sendMany(["raises", "later"]);
  const times = { raises: [], later: [] };
  const backoff = { initial: 300, factor: 10, jitter: 0, max: 10_000 };
  const c = await consumer(t, b, "c.ends", { concurrency: 2, backoff });
  const run = c.run((m) => {
    times[m.text()].push(performance.now());
    assert.equal(m.attempt, times[m.text()].length);
    if (m.text() === "raises") throw new Error("cannot");
    if (m.attempt === 1) throw new RetryAfter(700);
  }, quiet);
  await eventually(() => b.metrics().deadLetters === 1 && times.later.length === 2);
  await c.close();
  await run;
  const waits = times.raises.slice(1).map((at, i) => at - times.raises[i]);
  assert.equal(waits.length, 2);
  assert.ok(waits[0] > 290 && waits[0] < 2900 && waits[1] > 2990, String(waits));
  const wait = times.later[1] - times.later[0];
  assert.ok(wait > 690 && wait < 10_000, String(wait));
});

test("one message at a time by default; concurrency: N runs N", async (t) => {
  for (const [topic, concurrency] of [
    ["c.one", undefined],
    ["c.five", 5],
  ]) {
    const b = await own(t);
    await b.producer(topic).sendMany(Array.from({ length: 40 }, () => "x"));
    let [now, most, done] = [0, 0, 0];
    const c = await consumer(t, b, topic, { concurrency });
    const run = c.run(async () => {
      now += 1;
      most = Math.max(most, now);
      await later(2);
      now -= 1;
      done += 1;
    });
    await eventually(() => done === 40);
    await c.close();
    await run;
    assert.equal(most, concurrency ?? 1);
  }
});

test("a message found with the mark of its start, at its last attempt, is not handed out again", async (t) => {
  const b = await own(t);
  await b.producer("c.died").send("killer");
  const first = await b.consumer("c.died", { group: "g" });
  (await first.next()).nak();
  await first.close();
  await b.declareStream("c_died_STREAM_ATTEMPTS", ["attempts.c_died_STREAM.>"]);
  // As a worker leaves it that dies while the message runs alone.
  const left = { failures: 1, deaths: 1, attempt: 1, started: true };
  await b.producer("attempts.c_died_STREAM.g.1").send(left);
  await b.producer("c.died").send("last");
  const seen = [];
  const c = await consumer(t, b, "c.died", { maxDeliver: 2 });
  const run = c.run((m) => seen.push(m.text()));
  await eventually(() => b.metrics().deadLetters === 1 && seen.includes("last"));
  await c.close();
  await run;
  assert.deepEqual(seen, ["last"]);
  for await (const letter of b.deadLetters("c.died", { group: "g" })) {
    assert.equal(letter.text(), "killer");
    assert.equal(letter.failures, 2);
    assert.match(letter.reason, /its process died 2 times/);
  }
});

test("a handler of more than three ack waits, and what is buffered behind it, are handled once", async (t) => {
  const b = await own(t);
  await b.producer("c.long").sendMany(["0", "1", "2", "3", "4"]);
  const seen = [];
  const c = await consumer(t, b, "c.long", { ackWait: 2000 });
  const run = c.run(async (m) => {
    seen.push(m.text());
    if (m.text() === "0") await later(6500);
  });
  await eventually(() => seen.length === 5);
  await reaches(server, "c.long", { num_ack_pending: 0, num_pending: 0 });
  await c.close();
  await run;
  assert.deepEqual(seen, ["0", "1", "2", "3", "4"]);
  assert.equal((await groupState(server, "c.long")).delivered.consumer_seq, 5, "each was delivered once");
});

test("the ack wait is extended up to maxProcessing: a stuck handler does not hold a message for ever", async (t) => {
  const [b, other] = [await own(t), await own(t)];
  await b.producer("c.stuck").send("x");
  const stuck = gated();
  const c = await consumer(t, b, "c.stuck", { ackWait: 2000, maxProcessing: 4000, prefetch: 1 });
  const run = c.run(stuck.handler);
  await stuck.entered;
  const started = performance.now();
  try {
    const free = await consumer(t, other, "c.stuck");
    const m = await inTime(free.next(), 20_000, "the wait for it");
    assert.equal(m.attempt, 2);
    assert.ok(performance.now() - started > 3000, "not while it was kept");
    await m.ackConfirmed();
  } finally {
    stuck.go();
  }
  await c.close();
  await run;
});

test("a dead letter is stored in <STREAM>_DLQ with body, headers and why, by these names", async (t) => {
  const b = await own(t);
  await b.producer("c.wire").send(Buffer.from([0xff, 0]), { key: "doc-7", id: "evt-1", headers: { tenant: "t1" } });
  const c = await consumer(t, b, "c.wire");
  const run = c.run(() => {
    throw new Reject("cannot\nbe");
  }, quiet);
  await eventually(() => b.metrics().deadLetters === 1);
  await c.close();
  await run;
  const m = await (await consumer(t, b, "dlq.c_wire_STREAM.g", { group: "reader" })).next();
  assert.deepEqual([...m.body], [0xff, 0]);
  assert.deepEqual([m.key, m.stream], ["doc-7", "c_wire_STREAM_DLQ"]);
  const { "Dlq-Time": time, "Nats-Msg-Id": id, ...headers } = m.headers;
  assert.ok(Math.abs(Number(time) - Date.now()) < 60_000);
  assert.ok(id && id !== "evt-1", "the original's id would deduplicate it");
  assert.deepEqual(headers, {
    "Dlq-Reason": "cannot be",
    "Dlq-Attempts": "1",
    "Dlq-Failures": "1",
    "Dlq-Topic": "c.wire",
    "Dlq-Group": "g",
    "Dlq-Stream": "c_wire_STREAM",
    "Dlq-Sequence": "1",
    "Dlq-Id": "evt-1",
    "Sharding-Key": "doc-7",
    tenant: "t1",
  });
});

test("a dead letter is stored and confirmed; only then is the original terminated", async (t) => {
  const b = await own(t);
  const name = "c_order_STREAM_DLQ";
  await silence(server, "dlq.c_order_STREAM.>", { name });
  await b.producer("c.order").send("x");
  const c = await consumer(t, b, "c.order", { ackWait: 500 });
  const run = c.run(() => {
    throw new Reject("cannot");
  }, quiet);
  // It is stored, but nobody says so: whoever does not wait for that has ended the original by now.
  await eventually(async () => (await stored(server, name)) === 1, { what: "the letter" });
  assert.ok(await open(run, 300));
  await reaches(server, "c.order", { num_ack_pending: 1 });
  assert.equal(b.metrics().deadLetters, 0);
  await make(server, "dlq.c_order_STREAM.>", { name });
  await eventually(() => b.metrics().deadLetters === 1, { within: 15_000 });
  await reaches(server, "c.order", { num_ack_pending: 0 });
  assert.equal(await stored(server, name), 1, "one letter");
  await c.close();
  await run;
});

test("ack() is immediate, also when the server is not; ackConfirmed() waits for the server's word", async (t) => {
  const there = await startServer({ jetstream: true });
  t.after(() => there.stop());
  const b = await own(t, { servers: there.url });
  await b.producer("c.acks").sendMany(Array.from({ length: 301 }, () => "x"));
  const c = await consumer(t, b, "c.acks", { prefetch: 400 });
  const all = await many(c, 301);
  const last = all.pop();
  there.pause();
  const started = performance.now();
  assert.ok(all.every((m) => m.ack()));
  assert.ok(performance.now() - started < 5000);
  const e = await failed(last.ackConfirmed({ timeout: 300 }));
  assert.ok(e instanceof Timeout, String(e));
  assert.deepEqual([e.topic, e.group], ["c.acks", "g"]);
  there.resume();
  await reaches(there, "c.acks", { num_ack_pending: 0 });
});

test("prefetch is never above the durable's max ack pending, by what is asked of the server", async (t) => {
  const [b, other] = [await own(t), await own(t, { jetstream: false })];
  await b.producer("c.credit").sendMany(Array.from({ length: 20 }, () => "x"));
  const spy = await consumer(t, other, "$JS.API.CONSUMER.MSG.NEXT.c_credit_STREAM.g", { group: "spy" });
  const c = await consumer(t, b, "c.credit", { prefetch: 100, maxAckPending: 5 });
  for (let n = 0; n < 20; n++) (await c.next()).ack();
  const asked = [await spy.next(), ...(await spy.fetch(100, { timeout: 300 }))].map((m) => m.json().batch);
  assert.equal(Math.max(...asked), 5);
});

const WAYS = {
  async iteration(c) {
    for await (const m of c) m.ack();
  },
  handler: (c) => c.run(() => {}),
  async fetch(c) {
    for (;;) await c.fetch(1, { timeout: 30_000 });
  },
};

/** The consumer's world ends while it waits: whichever way it waits, it is told. */
async function ends(t, what) {
  for (const [way, work] of Object.entries(WAYS)) {
    const there = await startServer({ jetstream: true });
    t.after(() => there.stop());
    const b = await own(t, { servers: there.url });
    const c = await consumer(t, b, "c.gone");
    const working = work(c);
    const told = failed(working);
    await reaches(there, "c.gone", { num_waiting: 1 });
    await what(there);
    const e = await Promise.race([told, later(15_000).then(() => assert.fail(`${way}: a stall`))]);
    assert.ok(e instanceof NotFoundError, `${way}: ${e}`);
    assert.deepEqual([e.code, e.topic, e.stream, e.group], ["not_found", "c.gone", "c_gone_STREAM", "g"]);
    if (way === "fetch") await assert.rejects(c.fetch(1), NotFoundError);
  }
}

test("the durable is deleted: an error by iteration, handler and fetch, never a stall, never a plain end", (t) =>
  ends(t, (there) => api(there.port, "CONSUMER.DELETE.c_gone_STREAM.g")));

test("the stream is deleted: an error by iteration, handler and fetch, never a stall, never a plain end", (t) =>
  ends(t, (there) => api(there.port, "STREAM.DELETE.c_gone_STREAM")));

test("all is gone after a reconnect: an error by iteration, handler and fetch, never a stall", (t) =>
  ends(t, async (there) => {
    await there.kill();
    there.forget();
    await there.start();
  }));

test("core mode is a queue group, without redelivery: each message comes once, to one of the group", async (t) => {
  const [b, other] = [await own(t, { jetstream: false }), await own(t, { jetstream: false })];
  const [a1, a2] = [await consumer(t, b, "c.share"), await consumer(t, other, "c.share")];
  const another = await consumer(t, other, "c.share", { group: "another" });
  const p = b.producer("c.share");
  await p.sendMany(Array.from({ length: 400 }, (_, n) => ({ n })));
  await p.flush();
  await eventually(() => b.metrics().received + other.metrics().received === 800);
  const of = await Promise.all([a1, a2].map((c) => c.fetch(400, { timeout: 200 })));
  for (const m of of.flat()) m.nak();
  assert.ok(of.every((list) => list.length > 0));
  const numbers = of.flat().map((m) => m.json().n);
  assert.deepEqual(
    numbers.toSorted((x, y) => x - y),
    Array.from({ length: 400 }, (_, n) => n),
  );
  assert.equal((await many(another, 400)).length, 400);
  for (const c of [a1, a2]) assert.deepEqual(await c.fetch(1, { timeout: 200 }), []);
});

test("core mode: every verb of settling is a no-op, so that the same code runs in both modes", async (t) => {
  const b = await own(t, { jetstream: false });
  const c = await consumer(t, b, "c.noop");
  await b.producer("c.noop").sendMany(["1", "2", "3", "4", "5"]);
  const all = await many(c, 5);
  for (const [i, verb] of ["ack", "nak", "term", "inProgress"].entries()) {
    assert.equal(all[i][verb](), false, verb);
    await all[i].ackConfirmed();
  }
  assert.deepEqual([all[4].nak({ delay: 1 }), all[4].term("reason")], [false, false]);
  assert.deepEqual(await c.fetch(1, { timeout: 100 }), []);
  assert.equal(b.metrics().settled, 0);
});

test("at least once: what a worker that is killed had taken or buffered comes to another one", async (t) => {
  const b = await own(t);
  await b.producer("c.crash").sendMany(Array.from({ length: 20 }, (_, n) => ({ n })));
  const code = `import { connect } from "nats-eventbus";
    const bus = await connect({ servers: process.env.URL, jetstream: true });
    const c = await bus.consumer("c.crash", { group: "g", ackWait: 500, prefetch: 20 });
    await (await c.next()).ackConfirmed();
    await c.next();
    console.log("holding");`;
  const env = { ...process.env, URL: server.url };
  const worker = spawn(process.execPath, ["--input-type=module", "-e", code], {
    stdio: ["ignore", "pipe", "inherit"],
    env,
  });
  const ended = once(worker, "exit");
  await once(worker.stdout, "data");
  await reaches(server, "c.crash", { num_ack_pending: 19, num_pending: 0 });
  worker.kill("SIGKILL");
  await ended;
  const got = await many(await consumer(t, b, "c.crash"), 19);
  assert.deepEqual(
    got.map((m) => m.json().n).toSorted((x, y) => x - y),
    Array.from({ length: 19 }, (_, n) => n + 1),
  );
  assert.ok(got.every((m) => m.attempt >= 2));
});

test("a fetch that is cut short by a close gives what it has; with nothing it fails with the reason", async (t) => {
  const b = await own(t);
  const c = await consumer(t, b, "c.short");
  await b.producer("c.short").sendMany(["1", "2"]);
  const fetching = c.fetch(5, { timeout: 30_000 });
  await eventually(() => b.metrics().received === 2, { what: "both received" });
  await later(20); // what is received is buffered: now it is taken
  await c.close();
  assert.deepEqual(
    (await fetching).map((m) => m.text()),
    ["1", "2"],
  );
  await assert.rejects(c.fetch(1, { timeout: 30_000 }), ClosedError);
});
