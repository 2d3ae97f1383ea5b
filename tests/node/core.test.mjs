// Contract: core mode, request and reply, handlers, and what a process and a module need.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { readFileSync } from "node:fs";
import { createRequire } from "node:module";
import { after, before, test } from "node:test";
import { inspect } from "node:util";
import * as esm from "nats-eventbus";
import { eventually, startServer } from "../support/server.mjs";

const { connect, ConfigError, NoResponders, RequestFailed, Timeout, ClosedError, InvalidTopic, Reject, RetryAfter } =
  esm;
const require = createRequire(import.meta.url);
const classes = { ...esm };

let server;
let bus;
before(async () => {
  server = await startServer({ jetstream: true });
  bus = await connect({ servers: [server.url] });
});
after(async () => {
  await bus?.close();
  await server?.stop();
});

test("core mode: the same code runs, without acks", async () => {
  const c = await bus.consumer("c.*.done", { group: "g" });
  const p = bus.producer("c.1.done");
  assert.equal(await p.send("x", { headers: { a: "1" } }), null);
  assert.deepEqual(await p.sendMany(["y", "z"]), [null, null]);
  p.sendNow({ n: 1 });
  await p.flush();
  const got = [];
  for await (const m of c) {
    got.push(m.text());
    assert.deepEqual(
      [m.topic, m.attempt, m.sequence, m.stream, m.timestamp],
      ["c.1.done", 1, undefined, undefined, undefined],
    );
    assert.equal(m.ack(), false);
    await m.ackConfirmed();
    if (got.length === 4) break;
  }
  assert.deepEqual(got, ["x", "y", "z", '{"n":1}']);
});

test("request and reply: an answer, nobody, a failure, silence", async () => {
  let release;
  const silence = new Promise((resolve) => {
    release = resolve;
  });
  const responder = await bus.respond("ask.*", async (m) => {
    if (m.text() === "fail") throw new TypeError("not today");
    if (m.text() === "silence") await silence;
    return { heard: m.json(), topic: m.topic, header: m.headers.h };
  });
  const reply = await bus.request("ask.me", [1], { timeout: "5s", headers: { h: "v" } });
  assert.deepEqual(reply.json(), { heard: [1], topic: "ask.me", header: "v" });
  assert.equal(reply.ack(), false);
  const failed = await bus.request("ask.me", "fail").catch((e) => e);
  assert.ok(failed instanceof RequestFailed);
  assert.equal(failed.server, "TypeError: not today");
  await assert.rejects(bus.request("ask.me", "silence", { timeout: 50 }), Timeout);
  await assert.rejects(bus.request("nobody.there", "x"), (e) => e instanceof NoResponders && e.retryable);
  await assert.rejects(bus.request("ask.*", "x"), InvalidTopic);
  assert.match(inspect(responder), /Responder topic="ask.\*" group="responders"/);
  release();
  await responder.close();
});

test("closing a responder lets a running handler answer", async () => {
  let release;
  const gate = new Promise((resolve) => {
    release = resolve;
  });
  let asked = false;
  const responder = await bus.respond("slow", async () => {
    asked = true;
    await gate;
    return "late";
  });
  const reply = bus.request("slow", "");
  await eventually(() => asked);
  const closed = responder.close();
  release();
  assert.equal((await reply).text(), "late");
  await closed;
  await assert.rejects(bus.request("slow", ""), NoResponders);
});

test("handlers: ack, retry, reject, retry after", async () => {
  const js = await connect({ servers: server.url, jetstream: true });
  await js.producer("h.work").sendMany(["ok", "retry", "reject", "later", "raise"]);
  const seen = [];
  const errors = [];
  let running = 0;
  let most = 0;
  const options = { group: "g", concurrency: 2, backoff: { initial: 20 }, onError: (e) => errors.push(e.message) };
  js.on("h.work", options, async (m) => {
    running += 1;
    most = Math.max(most, running);
    await new Promise((resolve) => setImmediate(resolve));
    running -= 1;
    seen.push(`${m.text()}${m.attempt}`);
    if (m.text() === "reject") throw new Reject("no use");
    if (m.attempt > 1) return;
    if (m.text() === "retry" || m.text() === "later") throw new RetryAfter(10);
    if (m.text() === "raise") throw new Error("oops");
  });
  const run = js.run();
  await eventually(() => seen.length === 8, { what: "eight attempts" });
  await eventually(() => js.metrics().deadLetters === 1, { what: "a dead letter" });
  const letters = await js.consumer("dlq.h_work_STREAM.g", { group: "reader" });
  const [letter] = await letters.fetch(1, { timeout: 2000 });
  assert.deepEqual(
    [letter.text(), letter.headers["Dlq-Reason"], letter.headers["Dlq-Attempts"]],
    ["reject", "no use", "1"],
  );
  letter.ack();
  await js.close();
  await run;
  assert.deepEqual(seen.sort(), ["later1", "later2", "ok1", "raise1", "raise2", "reject1", "retry1", "retry2"]);
  assert.deepEqual([errors.sort(), most], [["no use", "oops"], 2]);
});

test("core mode: a handler's error is counted, logged and passed to onError; settling is a no-op", async (t) => {
  const other = await connect(server.url);
  t.after(() => other.close());
  const c = await other.consumer("h.core", { group: "g" });
  const told = [];
  const seen = [];
  const handler = (m) => {
    seen.push(m.ack());
    if (m.text() === "raise") throw new TypeError("oops");
    if (m.text() === "reject") throw new Reject("no use");
    if (m.text() === "null") throw null;
    if (m.text() === "later") throw new RetryAfter(10);
  };
  const onError = (e, m) => {
    told.push(`${m.text()}: ${e?.message}`);
    throw new Error("a listener that fails");
  };
  const warnings = [];
  const warned = (w) => warnings.push(w.message);
  process.on("warning", warned);
  t.after(() => process.off("warning", warned));
  const run = c.run(handler, { onError });
  await other.producer("h.core").sendMany(["fine", "raise", "reject", "null", "later", "fine"]);
  await eventually(() => seen.length === 6);
  await c.close();
  await run;
  assert.deepEqual(seen, Array(6).fill(false));
  assert.deepEqual(told, ["raise: oops", "reject: no use", "null: undefined", "later: retry after 10 ms"]);
  assert.equal(other.metrics().handlerErrors, 4, "once each, though the listener failed");
  await eventually(
    () => warnings.filter((w) => /onError of a handler failed.*a listener that fails/.test(w)).length === 4,
  );
});

test("core mode: without onError a handler's error is a process warning", async (t) => {
  const c = await bus.consumer("h.warned", { group: "g" });
  t.after(() => c.close());
  const warning = once(process, "warning");
  const before = bus.metrics().handlerErrors;
  const run = c.run(async () => {
    throw new Error("oops");
  });
  bus.producer("h.warned").sendNow("x");
  const [w] = await warning;
  assert.match(w.message, /the handler of h.warned failed: Error: oops/);
  assert.equal(bus.metrics().handlerErrors, before + 1);
  await c.close();
  await run;
});

test("errors are the core's classes and codes", () => {
  const reference = readFileSync(new URL("../../docs/reference.md", import.meta.url), "utf8");
  const rows = [...reference.matchAll(/^\| `(\w+)` \| `([\w.]+)` \| `(\w+)` \| (yes)? *\|/gm)];
  assert.ok(rows.length > 20);
  for (const [, name, code, parent, retryable] of rows) {
    const made = new classes[name]("text", { topic: "t" });
    assert.deepEqual([made.name, made.code, made.retryable, made.topic], [name, code, retryable === "yes", "t"]);
    assert.equal(Object.getPrototypeOf(classes[name]).name, parent);
    assert.ok(made instanceof esm.EventBusError && made instanceof Error);
  }
});

test("bad input is a typed error", async () => {
  await assert.rejects(
    connect({ servers: server.url, nmae: "x" }),
    (e) => e instanceof ConfigError && /nmae/.test(e.message),
  );
  await assert.rejects(connect({ servers: server.url, connectTimeout: Number.NaN }), ConfigError);
  await assert.rejects(connect({ servers: "nats://127.0.0.1:1" }), esm.ConnectionError);
  await assert.rejects(connect(7), ConfigError);
  await assert.rejects(connect({ servers: server.url, signal: AbortSignal.abort() }), { name: "AbortError" });
  const p = bus.producer("bad.input");
  const cyclic = {};
  cyclic.self = cyclic;
  for (const body of [undefined, () => {}, Symbol("x"), cyclic, { a: 1n, cyclic }]) {
    await assert.rejects(p.send(body), ConfigError);
    assert.throws(() => p.sendNow(body), ConfigError);
    await assert.rejects(p.sendMany([body]), ConfigError);
  }
  await assert.rejects(p.send("x", { key: 5 }), ConfigError);
  await assert.rejects(p.send("x", { headers: { a: null } }), esm.InvalidHeader);
  await assert.rejects(p.send("x", { headers: { a: "x\r\ny" } }), esm.InvalidHeader);
  await assert.rejects(p.send("x", { ttl: "soon" }), ConfigError);
  await assert.rejects(p.send("x", { ttl: 2000 }), ConfigError);
  await assert.rejects(p.sendMany("text"), ConfigError);
  assert.throws(() => bus.producer("a..b"), InvalidTopic);
  assert.throws(() => bus.producer(5), ConfigError);
  assert.throws(() => bus.producer("a", { maxInFlight: 0 }), ConfigError);
  await assert.rejects(bus.consumer("a", {}), ConfigError);
  await assert.rejects(bus.consumer("a"), ConfigError);
  assert.throws(() => esm.topic("a", "b.c"), InvalidTopic);
  assert.throws(() => esm.topic("a", 2 ** 60), ConfigError);
  assert.equal(esm.topic("a", 7512345678901234567n, 5), "a.7512345678901234567.5");
});

test("ESM and CommonJS are one module", () => {
  const cjs = require("nats-eventbus");
  const names = Object.keys(esm).filter((n) => n !== "default" && n !== "module.exports" && n !== "__esModule");
  assert.deepEqual(
    names.sort(),
    Object.keys(cjs)
      .filter((n) => n !== "__esModule")
      .sort(),
  );
  for (const name of names) assert.equal(classes[name], cjs[name], name);
});

test("what is closed says so", async () => {
  const other = await connect(server.url);
  const p = other.producer("closed.p");
  const c = await other.consumer("closed.c", { group: "g" });
  const waiting = c.next();
  assert.match(inspect(other), /<Bus connected server=/);
  assert.equal(other.server.maxPayload, 1048576);
  await other.close();
  await other.close();
  assert.equal(other.state, "closed");
  assert.equal(await waiting, null);
  assert.equal(await c.next(), null);
  await assert.rejects(p.send("x"), ClosedError);
  await assert.rejects(other.request("a", "x"), ClosedError);
  assert.throws(() => other.producer("a"), ClosedError);
  assert.ok(bus.metrics().sent > 0);
});

async function child(code, env = {}) {
  const run = spawn(process.execPath, ["--input-type=module", "-e", code], {
    stdio: ["ignore", "pipe", "inherit"],
    env: { ...process.env, URL: server.url, ...env },
  });
  const out = { run, text: "", ended: once(run, "exit") };
  run.stdout.on("data", (data) => {
    out.text += data;
  });
  return out;
}

test("a process ends by itself after close, not before", async () => {
  const one = await child(`import { connect } from "nats-eventbus";
    const bus = await connect(process.env.URL);
    const c = await bus.consumer("p.a", { group: "g" });
    const waiting = c.next();
    console.log("open");
    await bus.request("p.nobody", "x").catch(() => {});
    const m = await waiting;
    await bus.close();
    console.log("closed " + m.text());`);
  await eventually(() => one.text.includes("open"));
  await eventually(async () => {
    await bus.producer("p.a").send("go");
    return one.run.exitCode !== null;
  });
  assert.equal((await one.ended)[0], 0);
  assert.match(one.text, /closed go/);
});

test("run ends with SIGTERM, after the running handler", async () => {
  const one = await child(`import { connect } from "nats-eventbus";
    const bus = await connect({ servers: process.env.URL, jetstream: true });
    bus.on("s.work", { group: "g" }, async (m) => {
      console.log("started");
      const timer = setInterval(() => {}, 1000);
      await new Promise((resolve) => process.once("SIGTERM", () => setImmediate(resolve)));
      clearInterval(timer);
      console.log("finished");
    });
    await bus.run();
    console.log("drained " + bus.state);`);
  const js = await connect({ servers: server.url, jetstream: true });
  await js.producer("s.work").send("x");
  await eventually(() => one.text.includes("started"));
  one.run.kill("SIGTERM");
  assert.deepEqual(await one.ended, [0, null]);
  assert.match(one.text, /started\s+finished\s+drained closed/);
  await js.close();
});
