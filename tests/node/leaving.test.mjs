// Contract, consuming: leaving, by closing, by the end of a loop, by an AbortSignal.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { connect, PublishUnknown } from "nats-eventbus";
import { eventually, startServer } from "../support/server.mjs";
import { failed, gated, groupState, inTime, open, reaches, stored, streamOf } from "./world.mjs";

let server;
before(async () => {
  server = await startServer({ jetstream: true });
});
after(() => server?.stop());

const tens = Array.from({ length: 10 }, (_, n) => `${n}`);

async function own(t, settings = {}) {
  const b = await connect({ servers: server.url, jetstream: true, ...settings });
  t.after(() => b.close());
  return b;
}

/** Milliseconds until another worker has what was given back. */
async function othersGet(t, topic, count) {
  const c = await (await own(t)).consumer(topic, { group: "g" });
  const started = performance.now();
  for (let n = 0; n < count; ) {
    const got = await c.fetch(count - n, { timeout: 10_000 });
    assert.ok(got.length > 0, `only ${n} of ${count} came`);
    for (const m of got) m.ack();
    n += got.length;
  }
  const took = performance.now() - started;
  await c.close();
  return took;
}

test("acks are flushed before leaving: what was acked last is acked", async (t) => {
  const leave = {
    loop: async () => {},
    consumer: (c) => c.close(),
    bus: (_, b) => b.close(),
  };
  for (const [way, close] of Object.entries(leave)) {
    const topic = `l.acks.${way}`;
    const b = await own(t);
    await b.producer(topic).sendMany(Array.from({ length: 300 }, () => "x"));
    const c = await b.consumer(topic, { group: "g" });
    let n = 0;
    if (way === "loop") {
      for await (const m of c) {
        m.ack();
        n += 1;
        if (n === 300) break;
      }
    } else {
      for (; n < 300; n++) (await c.next()).ack();
    }
    await close(c, b);
    await reaches(server, topic, { num_ack_pending: 0, num_pending: 0 });
  }
});

test("a durable is never deleted, whichever way one leaves, and the next worker goes on where it is", async (t) => {
  const b = await own(t);
  await b.producer("l.stays").sendMany(["1", "2", "3"]);
  for await (const m of await b.consumer("l.stays", { group: "g" })) {
    await m.ackConfirmed();
    break;
  }
  const { created } = await groupState(server, "l.stays");
  const seen = [];
  b.on("l.stays", { group: "g" }, (m) => void seen.push(m.text()));
  const run = b.run();
  await eventually(() => seen.length === 2);
  await b.close();
  await run;
  assert.deepEqual(seen.sort(), ["2", "3"]);
  await reaches(server, "l.stays", { created, num_ack_pending: 0 });
  assert.equal((await groupState(server, "l.stays")).ack_floor.stream_seq, 3);
});

/** Leaves while a handler runs: it finishes, and what is buffered behind it goes to another worker at once. */
async function leaves(t, topic, start, leave) {
  const b = await own(t);
  await b.producer(topic).sendMany(tens);
  const work = gated();
  const { run } = await start(b, work.handler);
  let closing;
  try {
    await work.entered;
    await eventually(() => b.metrics().received === 10);
    closing = leave(b);
    const took = await othersGet(t, topic, 9);
    assert.ok(took < 10_000, `at once, and not after the ack wait: ${took} ms`);
    assert.ok(await open(run, 1), "the handler still runs");
  } finally {
    work.go();
  }
  await Promise.all([closing, run]);
  assert.deepEqual(work.finished, ["0"]);
  await reaches(server, topic, { num_ack_pending: 0, num_pending: 0 });
}

test("closing the bus lets a running handler finish and acks its message: bus.run", (t) =>
  leaves(
    t,
    "l.run",
    (b, handler) => {
      b.on("l.run", { group: "g", prefetch: 10 }, handler);
      return { run: b.run() };
    },
    (b) => b.close(),
  ));

test("closing the bus lets a running handler finish and acks its message: consumer.run", (t) =>
  leaves(
    t,
    "l.consumer",
    async (b, handler) => ({ run: (await b.consumer("l.consumer", { group: "g", prefetch: 10 })).run(handler) }),
    (b) => b.close(),
  ));

test("an AbortSignal lets a running handler finish, what is buffered goes to others: bus.run", (t) => {
  const stop = new AbortController();
  return leaves(
    t,
    "l.abort.run",
    (b, handler) => {
      b.on("l.abort.run", { group: "g", prefetch: 10 }, handler);
      return { run: b.run({ signal: stop.signal }) };
    },
    async () => stop.abort(),
  );
});

test("an AbortSignal lets a running handler finish, what is buffered goes to others: consumer.run", (t) => {
  const stop = new AbortController();
  return leaves(
    t,
    "l.abort",
    async (b, handler) => {
      const c = await b.consumer("l.abort", { group: "g", prefetch: 10 });
      return { run: c.run(handler, { signal: stop.signal }) };
    },
    async () => stop.abort(),
  );
});

/** A handler that does not end: closing waits for it, and no longer than `drainTimeout`. */
async function stuck(t, topic, concurrency) {
  const b = await own(t, { drainTimeout: 500 });
  await b.producer(topic).send("x");
  const work = gated();
  let told = false;
  const c = await b.consumer(topic, { group: "g", ackWait: 1000, concurrency });
  const run = c.run((m, { signal }) => {
    signal.addEventListener("abort", () => {
      told = true;
    });
    return work.handler(m);
  });
  try {
    await work.entered;
    const started = performance.now();
    await inTime(b.close(), 5000, "closing");
    assert.ok(performance.now() - started > 400);
    await inTime(run, 1000, "the run");
    assert.ok(told, "the handler was told");
    assert.deepEqual(work.finished, []);
    await othersGet(t, topic, 1);
  } finally {
    work.go();
  }
}

test("running handlers have up to drainTimeout; the message of one that takes longer is not lost", (t) =>
  stuck(t, "l.bound", 1));

test("running handlers have up to drainTimeout, also where more could run", (t) => stuck(t, "l.bound.two", 2));

test("closing waits for unsettled sends up to drainTimeout; then each has its outcome all the same", async (t) => {
  const there = await startServer({ jetstream: true });
  t.after(() => there.stop());
  const b = await own(t, { servers: there.url, drainTimeout: 700 });
  const p = b.producer("l.sends");
  await p.send("x");
  there.pause();
  const sends = [1, 2, 3].map(() => failed(p.send("x")));
  const started = performance.now();
  await b.close();
  const took = performance.now() - started;
  assert.ok(took > 600 && took < 4000, `${took} ms`);
  for (const e of await Promise.all(sends)) assert.ok(e instanceof PublishUnknown, String(e));
  there.resume();
});

test("what was sent is acked before the connection is closed", async (t) => {
  const b = await own(t);
  const p = b.producer("l.sent");
  const sends = Promise.all(Array.from({ length: 500 }, () => p.send("x")));
  for (let n = 0; n < 100; n++) p.sendNow("x");
  await b.close();
  assert.equal(new Set((await sends).map((a) => a.sequence)).size, 500);
  assert.equal(await stored(server, streamOf("l.sent")), 600);
});
