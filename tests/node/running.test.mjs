// bus.run: what ends it, what it leaves, signals, handlers that come later, closing from a handler.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { after, before, test } from "node:test";
import { ConfigError, connect } from "nats-eventbus";
import { eventually, startServer } from "../support/server.mjs";
import { api } from "./raw.mjs";
import { failed, gated, groupState, inTime, open, reaches, streamOf } from "./world.mjs";

let server;
before(async () => {
  server = await startServer({ jetstream: true });
});
after(() => server?.stop());

async function own(t, settings = {}) {
  const b = await connect({ servers: server.url, jetstream: true, onLog: () => {}, ...settings });
  t.after(() => b.close());
  return b;
}

const listeners = () => ["SIGTERM", "SIGINT"].map((name) => process.listenerCount(name));

test("stop, close and an AbortSignal each end run: the running handler finishes, the bus is closed", async (t) => {
  const abort = new AbortController();
  const ways = { stop: (b) => b.stop(), close: (b) => void b.close(), signal: () => abort.abort() };
  for (const [way, end] of Object.entries(ways)) {
    const b = await own(t);
    await b.producer(`r.${way}`).sendMany(["a", "b"]);
    const work = gated();
    b.on(`r.${way}`, { group: "g" }, work.handler);
    const before = listeners();
    const run = b.run({ signal: abort.signal });
    assert.deepEqual(
      listeners(),
      before.map((n) => n + 1),
    );
    await work.entered;
    end(b);
    assert.ok(await open(run));
    work.go();
    await inTime(run, 5000, "run");
    assert.equal(b.state, "closed");
    assert.deepEqual(work.finished, ["a"]);
    assert.deepEqual(listeners(), before);
    await eventually(async () => (await groupState(server, `r.${way}`)).ack_floor.stream_seq === 1);
  }
});

test("signals: false leaves signals alone; stop without a run does nothing", async (t) => {
  const b = await own(t);
  b.stop();
  b.on("r.alone", { group: "g" }, () => {});
  const before = listeners();
  const run = b.run({ signals: false });
  assert.deepEqual(listeners(), before);
  b.stop();
  await run;
});

test("a second run at the same time is a ConfigError", async (t) => {
  const b = await own(t);
  await assert.rejects(b.run(), ConfigError);
  b.on("r.twice", { group: "g" }, () => {});
  const run = b.run();
  await assert.rejects(b.run(), /runs already/);
  b.stop();
  await run;
});

test("a handler registered during a run starts at once; consumers open in the order registered", async (t) => {
  const b = await own(t);
  const topics = Array.from({ length: 5 }, (_, n) => `r.late.${n}`);
  const seen = [];
  await b.producer("r.late").send("x");
  b.on("r.late", { group: "g" }, () => {
    for (const topic of topics) b.on(topic, { group: "g" }, (m) => void seen.push(m.topic));
  });
  const run = b.run();
  await eventually(async () => (await b.health()).consumers.length === 6);
  const opened = (await b.health()).consumers.map((c) => c.topic);
  assert.deepEqual(opened, ["r.late", ...topics]);
  for (const topic of topics) await b.producer(topic).send("x");
  await eventually(() => seen.length === 5);
  b.stop();
  await run;
});

test("a consumer that cannot go on ends run with its error; the others are drained, the bus stays open", async (t) => {
  const b = await own(t);
  const work = gated();
  await b.producer("r.good").send("x");
  b.on("r.good", { group: "g" }, work.handler);
  b.on("r.bad", { group: "g" }, () => {});
  const run = failed(b.run());
  await work.entered;
  await eventually(async () => (await b.health()).consumers.length === 2);
  await api(server.port, `STREAM.DELETE.${streamOf("r.bad")}`);
  await eventually(async () => !(await b.health()).ok);
  assert.ok(await open(run));
  work.go();
  assert.equal((await run).code, "not_found");
  assert.deepEqual([work.finished, b.state], [["x"], "connected"]);
  await reaches(server, "r.good", { num_ack_pending: 0, num_pending: 0 });
});

test("close inside a handler begins the closing and does not wait for that handler", async (t) => {
  const later = () => new Promise(setImmediate);
  const deeper = async (b) => {
    await later();
    await b.close();
  };
  const ways = {
    first: async (b) => b.close(),
    later: async (b) => {
      await later();
      await b.close();
    },
    deeper: (b) => Promise.all([deeper(b)]),
  };
  for (const [way, close] of Object.entries(ways)) {
    for (const concurrency of [1, 4]) {
      const topic = `r.inside.${way}.${concurrency}`;
      const b = await own(t);
      await b.producer(topic).send("x");
      let state;
      b.on(topic, { group: "g", concurrency }, async () => {
        await close(b);
        state = b.state;
      });
      await inTime(b.run(), 5000, "run");
      assert.deepEqual([state, b.state], ["connected", "closed"]);
      await reaches(server, topic, { num_ack_pending: 0, num_pending: 0 });
    }
  }
});

test("close outside waits for handlers, also while another bus's handler calls it", async (t) => {
  const [b, other] = [await own(t), await own(t)];
  await b.producer("r.outside").sendMany(["x"]);
  const work = gated();
  b.on("r.outside", { group: "g" }, work.handler);
  const run = b.run();
  await work.entered;
  let closed;
  await other.producer("r.other").send("x");
  const c = await other.consumer("r.other", { group: "g" });
  const all = c.run(async () => {
    closed = b.close();
    await closed;
  });
  await eventually(() => closed !== undefined);
  assert.ok(await open(closed));
  work.go();
  await Promise.all([closed, run]);
  await other.close();
  await all;
});

/** A service as a process, once its handler has begun. */
async function service(topic, how) {
  const js = await connect({ servers: server.url, jetstream: true, onLog: () => {} });
  await js.producer(topic).sendMany(["one"]);
  await js.close();
  const file = new URL("./processes/running.mjs", import.meta.url).pathname;
  const child = spawn(process.execPath, [file, server.url, topic, how], { timeout: 20_000 });
  const it = { child, text: "", ended: once(child, "close") };
  child.stdout.on("data", (d) => (it.text += d));
  child.stderr.on("data", (d) => (it.text += d));
  await eventually(() => it.text.includes("began one"));
  return it;
}

test("SIGTERM: the running handler finishes; others' listeners are called and stay, ours are gone", async () => {
  const it = await service("r.finishes", "finishes");
  it.child.kill("SIGTERM");
  assert.deepEqual(await it.ended, [0, null]);
  assert.match(it.text, /began one\nothers\nfinished one\nover closed 2 0\n/);
  await reaches(server, "r.finishes", { num_ack_pending: 0, num_pending: 0 });
});

test("a second signal stops at once: handlers' signal is aborted, their messages go to others", async (t) => {
  const it = await service("r.stuck", "stuck");
  it.child.kill("SIGINT");
  await new Promise(setImmediate);
  assert.ok(await open(it.ended), "it waits for the handler");
  it.child.kill("SIGINT");
  const ended = await inTime(it.ended, 5000, "the service");
  assert.deepEqual(ended, [0, null]);
  assert.match(it.text, /over closed/);
  const c = await (await own(t)).consumer("r.stuck", { group: "g" });
  const [m] = await c.fetch(1, { timeout: 5000 });
  assert.equal(m?.text(), "one", "well before the ack wait of 30 s");
  m.ack();
});
