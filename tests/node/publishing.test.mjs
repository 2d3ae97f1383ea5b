// Contract, publishing: failures that nobody waits for, expected sequences, and errors that name the message.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { after, before, test } from "node:test";
import { setFlagsFromString } from "node:v8";
import { runInNewContext } from "node:vm";
import {
  ConfigError,
  connect,
  EventBusError,
  NotFoundError,
  PublishRejected,
  PublishUnknown,
  WrongSequence,
} from "nats-eventbus";
import { eventually, startServer } from "../support/server.mjs";
import { api } from "./raw.mjs";

setFlagsFromString("--expose-gc");
const gc = runInNewContext("gc");

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

/** A send that the server refuses. */
const wrong = (id) => ({ id, expectedLastSequence: 1_000_000 });
const failed = (promise) =>
  promise.then(
    () => assert.fail("it did not fail"),
    (e) => e,
  );

test("rejected kinds: an expected sequence that does not match is WrongSequence, and nothing is stored", async () => {
  await bus.declareStream("EXPECT", ["e.*"]);
  const [a, b] = [bus.producer("e.a"), bus.producer("e.b")];
  assert.equal((await a.send("1", { expectedLastSequence: 0 })).sequence, 1);
  assert.equal((await b.send("2", { expectedLastSequence: 1 })).sequence, 2);
  assert.equal((await a.send("3", { expectedLastSubjectSequence: 1, key: "k" })).sequence, 3);
  for (const options of [{ expectedLastSequence: 1 }, { expectedLastSubjectSequence: 2 }]) {
    const e = await failed(a.send("x", options));
    assert.ok(e instanceof WrongSequence && e instanceof PublishRejected, String(e));
    assert.deepEqual([e.code, e.topic], ["publish.rejected.wrong_sequence", "e.a"]);
  }
  a.sendNow("x", { expectedLastSequence: 7 });
  await assert.rejects(a.flush(), WrongSequence);
  assert.equal((await bus.stream("EXPECT").info()).messages, 3);
});

test("an expected sequence that is none is a config error naming it", async () => {
  const p = bus.producer("e.a");
  for (const value of [-1, 1.5, 2 ** 53, Number.NaN, "1", 1n, {}]) {
    for (const name of ["expectedLastSequence", "expectedLastSubjectSequence"]) {
      const named = (e) => e instanceof ConfigError && e.message.startsWith(`${name} is `);
      await assert.rejects(p.send("x", { [name]: value }), named);
      assert.throws(() => p.sendNow("x", { [name]: value }), named);
    }
  }
});

test("an error names the message by its id, given or generated", async () => {
  const p = bus.producer("p.id");
  await p.send("x");
  assert.equal((await failed(p.send("x", wrong("evt-1")))).id, "evt-1");
  const generated = await failed(p.send("x", wrong()));
  assert.match(generated.id, /^\S{20,}$/);
  p.sendNow("x", wrong("evt-2"));
  p.sendNow("x", wrong("evt-3"));
  const both = await failed(p.flush());
  assert.deepEqual(
    both.failures.map((e) => e.id),
    ["evt-2", "evt-3"],
  );
  const [many] = await p.sendMany([Buffer.alloc(2 << 20)]);
  assert.deepEqual([many.code, many.id], ["publish.rejected.too_large", undefined]);
});

test("unknown: the deadline passed, it may be stored; the same id sends it again without storing it twice", async () => {
  const config = { name: "SILENT", subjects: ["p.unknown"], no_ack: true };
  assert.equal((await api(server.port, "STREAM.CREATE.SILENT", config)).error, undefined);
  const p = bus.producer("p.unknown", { deliveryTimeout: 2000, ackTimeout: 100 });
  const [given, generated] = await Promise.all([failed(p.send("1", { id: "evt-1" })), failed(p.send("2"))]);
  for (const e of [given, generated]) assert.ok(e instanceof PublishUnknown && e.code === "publish.unknown", String(e));
  assert.equal(given.id, "evt-1");
  assert.match(generated.id, /^\S{20,}$/);
  assert.equal((await api(server.port, "STREAM.UPDATE.SILENT", { ...config, no_ack: false })).error, undefined);
  const again = bus.producer("p.unknown");
  for (const { id } of [given, generated]) assert.equal((await again.send("again", { id })).duplicate, true);
  assert.equal((await bus.stream("SILENT").info()).messages, 2);
});

test("failures nobody waits for go to onError, once, and not to flush", async () => {
  const told = [];
  const p = bus.producer("p.told", { onError: (e) => told.push(e) });
  p.sendNow("x", wrong("evt-1"));
  p.sendNow("fine");
  await p.flush();
  assert.equal(told.length, 1, "a flush that ended has told of all before it");
  assert.ok(told[0] instanceof WrongSequence && told[0] instanceof EventBusError);
  assert.deepEqual([told[0].id, told[0].topic], ["evt-1", "p.told"]);
  // What somebody waits for is his.
  assert.ok((await failed(p.send("x", wrong("evt-2")))) instanceof WrongSequence);
  const many = await failed(p.sendMany(["x"], wrong()));
  assert.match(String(many), /one by one/);
  for (let i = 0; i < 200; i++) p.sendNow("x", wrong());
  await p.flush();
  await eventually(() => told.length === 201, { what: "every failure" });
  assert.throws(() => p.sendNow("x", { ttl: "soon" }), ConfigError);
  assert.equal(told.length, 201, "what was thrown is told");
});

test("a send whose wait was aborted is told to onError", async () => {
  const told = [];
  const p = bus.producer("p.absent", { declare: false, onError: (e) => told.push(e) });
  const stop = new AbortController();
  const waits = [p.send("x", { signal: stop.signal, id: "evt-1" }), p.sendMany(["y", "z"], { signal: stop.signal })];
  stop.abort();
  for (const wait of waits) await assert.rejects(wait, { name: "AbortError" });
  await p.flush();
  await eventually(() => told.length === 3, { what: "three failures" });
  assert.ok(told.every((e) => e instanceof NotFoundError));
  assert.equal(told.filter((e) => e.id === "evt-1").length, 1);
});

test("a listener that throws, or rejects, harms nothing", async (t) => {
  const warnings = [];
  const warned = (w) => warnings.push(w.message);
  process.on("warning", warned);
  t.after(() => process.off("warning", warned));
  const listeners = [
    () => {
      throw new TypeError("thrown");
    },
    async () => {
      throw new TypeError("rejected");
    },
  ];
  for (const onError of listeners) {
    const p = bus.producer("p.throws", { onError });
    p.sendNow("x", wrong());
    await p.flush();
    assert.ok((await p.send("fine")).sequence > 0);
  }
  await eventually(() => warnings.length === 2, { what: "two warnings" });
  assert.match(warnings[0], /^onError of a producer failed: TypeError: thrown/);
  assert.match(warnings[1], /^onError of a producer failed: TypeError: rejected/);
  for (const onError of ["x", 5, {}]) assert.throws(() => bus.producer("p.throws", { onError }), ConfigError);
  bus.producer("p.throws", { onError: null });
});

test("a closed producer tells of its last sends, then its listener is let go", async () => {
  const told = [];
  const make = () => {
    const onError = (e) => told.push([e.id, p.topic]);
    const p = bus.producer("p.closing", { onError });
    p.sendNow("x", wrong("evt-1"));
    p.close();
    p.close();
    return new WeakRef(onError);
  };
  const listener = make();
  await eventually(() => told.length === 1, { what: "the failure" });
  assert.deepEqual(told, [["evt-1", "p.closing"]]);
  await collected(listener);
});

test("a producer nobody has any more tells of its last sends, then its listener is let go", async () => {
  const told = [];
  const make = () => {
    const onError = (e) => told.push(e.id);
    bus.producer("p.dropped", { onError }).sendNow("x", wrong("evt-1"));
    return new WeakRef(onError);
  };
  const listener = make();
  gc();
  await eventually(() => told.length === 1, { what: "the failure" });
  await collected(listener);
});

async function collected(ref) {
  await eventually(
    () => {
      gc();
      return ref.deref() === undefined;
    },
    { what: "the listener's end" },
  );
}

test("closing the bus tells of what was not sent", async () => {
  const own = await startServer();
  const other = await connect({ servers: own.url, drainTimeout: 50 });
  const told = [];
  const p = other.producer("p.bus", { onError: (e) => told.push(e.code) });
  await own.stop();
  await eventually(() => other.state === "disconnected");
  p.sendNow("x");
  await other.close();
  assert.deepEqual(told, ["publish.rejected.not_sent"]);
});

test("a listener does not keep the process", async () => {
  const code = `import { connect } from "nats-eventbus";
    const bus = await connect({ servers: process.env.URL, jetstream: true });
    const p = bus.producer("p.child", { onError: (e) => console.log("told " + e.id) });
    p.sendNow("x", { id: "evt-1", expectedLastSequence: 9 });
    await bus.close();`;
  const run = spawn(process.execPath, ["--input-type=module", "-e", code], {
    stdio: ["ignore", "pipe", "inherit"],
    env: { ...process.env, URL: server.url },
  });
  let out = "";
  run.stdout.on("data", (data) => {
    out += data;
  });
  assert.deepEqual(await once(run, "close"), [0, null]);
  assert.equal(out, "told evt-1\n");
});
