// Attempts are handlers' attempts, and fair shares. Contract lines are named in the titles.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { connect } from "nats-eventbus";
import { eventually, startServer } from "../support/server.mjs";
import { reaches } from "./world.mjs";

let server;
before(async () => {
  server = await startServer({ jetstream: true });
});
after(() => server?.stop());

const quick = { initial: 20, max: 20 };
const own = async (t) => {
  const bus = await connect({ servers: server.url, jetstream: true });
  t.after(() => bus.close());
  return bus;
};
const later = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const numbers = (n) => Array.from({ length: n }, (_, i) => String(i));

async function letters(bus, topic) {
  const all = [];
  for await (const letter of bus.deadLetters(topic, { group: "g" })) all.push(letter);
  return all;
}

test("deliveries that no handler began do not count: deploys make no dead letters", async (t) => {
  const bus = await own(t);
  await bus.producer("a.deploys").sendMany(numbers(20));
  for (let round = 1; round <= 6; round++) {
    const worker = await connect({ servers: server.url, jetstream: true });
    const c = await worker.consumer("a.deploys", { group: "g", prefetch: 20 });
    await eventually(() => worker.metrics().received === 20);
    await c.close();
    await worker.close();
  }
  const seen = [];
  const c = await bus.consumer("a.deploys", { group: "g", concurrency: 4 });
  const run = c.run((m) => void seen.push([m.attempt > 6, m.failures]));
  await reaches(server, "a.deploys", { num_ack_pending: 0, num_pending: 0 });
  await c.close();
  await run;
  assert.deepEqual(seen, Array(20).fill([true, 0]));
  assert.deepEqual(await letters(bus, "a.deploys"), []);
});

test("failures of handlers count across workers, and are in m.failures and in the dead letter", async (t) => {
  await (await own(t)).producer("a.across").send("x");
  const seen = [];
  for (let n = 0; n < 3; n++) {
    const worker = await connect({ servers: server.url, jetstream: true });
    const c = await worker.consumer("a.across", { group: "g", backoff: quick });
    const failed = new Promise((resolve) => {
      void c.run(
        (m) => {
          seen.push(m.failures);
          resolve();
          throw new Error(`failure ${n}`);
        },
        { onError: () => {} },
      );
    });
    await failed;
    await worker.close();
  }
  assert.deepEqual(seen.slice(0, 3), [0, 1, 2]);
  const bus = await own(t);
  await eventually(async () => (await letters(bus, "a.across")).length === 1);
  const [letter] = await letters(bus, "a.across");
  assert.equal(letter.failures, 3);
  assert.match(letter.reason, /failure/);
});

test("a handler's own settling stands, whatever it throws afterwards", async (t) => {
  const bus = await own(t);
  await bus.producer("a.own").send("x");
  const told = [];
  const c = await bus.consumer("a.own", { group: "g", maxDeliver: 1 });
  const run = c.run(
    (m) => {
      m.term("its own word");
      throw new Error("afterwards");
    },
    { onError: (e) => told.push(e.message) },
  );
  await eventually(() => told.length === 1);
  await reaches(server, "a.own", { num_ack_pending: 0, num_pending: 0 });
  await c.close();
  await run;
  assert.deepEqual(told, ["afterwards"]);
  assert.deepEqual(await letters(bus, "a.own"), []);
});

test("workers of slow jobs share them: equal workers differ by at most two", async (t) => {
  const bus = await own(t);
  await bus.producer("a.shares").sendMany(numbers(40));
  const done = [0, 0, 0, 0];
  const runs = [];
  const workers = [];
  for (let n = 0; n < 4; n++) {
    const worker = await connect({ servers: server.url, jetstream: true });
    workers.push(worker);
    const c = await worker.consumer("a.shares", { group: "g" });
    runs.push(
      c.run(async () => {
        await later(100);
        done[n] += 1;
      }),
    );
  }
  await eventually(() => done.reduce((a, b) => a + b) === 40);
  for (const worker of workers) await worker.close();
  await Promise.all(runs);
  assert.ok(Math.max(...done) - Math.min(...done) <= 2, String(done));
});

test("the clock of maxProcessing starts with the handler", async (t) => {
  const bus = await own(t);
  await bus.producer("a.clock").sendMany(numbers(8));
  const seen = [];
  const c = await bus.consumer("a.clock", { group: "g", prefetch: 8, maxProcessing: 1000, ackWait: 600 });
  const run = c.run(async (m) => {
    seen.push([m.text(), m.attempt]);
    await later(250);
  });
  await reaches(server, "a.clock", { num_ack_pending: 0, num_pending: 0 });
  await c.close();
  await run;
  assert.deepEqual(
    seen,
    numbers(8).map((n) => [n, 1]),
  );
});

test("a loop that is left by an error ends every extension: what was taken comes again", async (t) => {
  const bus = await own(t);
  await bus.producer("a.left").send("x");
  await assert.rejects(async () => {
    for await (const _ of await bus.consumer("a.left", { group: "g", ackWait: 800 })) throw new Error("boom");
  }, /boom/);
  const c = await bus.consumer("a.left", { group: "g" });
  const [m] = await c.fetch(1, { timeout: 6000 });
  assert.ok(m && m.attempt >= 2);
  m.ack();
  await c.close();
});

test("prefetch is bounded in bytes as well", async (t) => {
  const bus = await own(t);
  const p = bus.producer("a.bytes");
  await p.sendMany(Array.from({ length: 20 }, () => Buffer.alloc(100_000)));
  const worker = await own(t);
  const c = await worker.consumer("a.bytes", { group: "g", prefetch: 20, prefetchBytes: 450_000 });
  let most = 0;
  let handled = 0;
  const run = c.run(async () => {
    await later(20);
    most = Math.max(most, worker.metrics().received - handled);
    handled += 1;
  });
  await eventually(() => handled === 20);
  await c.close();
  await run;
  assert.ok(most <= 4, `${most} at once`);
});
