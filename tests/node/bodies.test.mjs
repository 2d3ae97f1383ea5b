// Bodies, headers and options as applications have them; errors in every realm; signals. Contract lines are in the titles.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { createRequire, isBuiltin } from "node:module";
import { dirname } from "node:path";
import { after, before, test } from "node:test";
import { inspect } from "node:util";
import vm from "node:vm";
import { ConfigError, connect, EventBusError, InvalidHeader, NotFoundError, Reject, RetryAfter } from "nats-eventbus";
import { startServer } from "../support/server.mjs";
import { failed } from "./world.mjs";

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

async function sent(topic, body, options) {
  await bus.producer(topic).send(body, options);
  const c = await bus.consumer(topic, { group: "g" });
  const [m] = await c.fetch(1);
  m.ack();
  await c.close();
  return m;
}

class Id {
  toJSON() {
    return { id: 7345000000000000001n };
  }
}

test("bad input: a body that JSON would write as something else is a typed error that names the path", async () => {
  const p = bus.producer("b.refused");
  for (const [body, path] of [
    [{ m: new Map([["a", 1]]) }, "body.m is a Map"],
    [new Set([1]), "body is a Set"],
    [{ a: [1, { n: Number.NaN }] }, "body.a[1].n is NaN"],
    [{ id: 1n, n: Number.POSITIVE_INFINITY }, "body.n is Infinity"],
    [{ b: Buffer.from("x") }, "body.b is a Buffer"],
    [{ id: 1n, b: new Uint8Array(1) }, "body.b is a Uint8Array"],
    [[undefined], "body[0] is undefined"],
    [{ "no name": { at: new Date(Number.NaN) } }, 'body["no name"].at is an invalid Date'],
    [{ late: Promise.resolve(1) }, "body.late is a Promise"],
    [{ e: new TypeError("x") }, "body.e is an error (TypeError)"],
    [() => 1, "body is a function"],
    [undefined, "body is undefined"],
  ]) {
    const e = await failed(p.send(body));
    assert.ok(e instanceof ConfigError, String(e));
    assert.ok(e.message.startsWith(path), e.message);
  }
  const cycle = {};
  cycle.self = cycle;
  assert.match((await failed(p.send(cycle))).message, /JSON/);
});

test("bodies: what has one form in JSON is taken, integers exact", async () => {
  for (const [body, text] of [
    [{ at: new Date(0), none: null, left: undefined }, '{"at":"1970-01-01T00:00:00.000Z","none":null}'],
    [{ doc: new Id(), empty: {} }, '{"doc":{"id":7345000000000000001},"empty":{}}'],
    [null, "null"],
    [Object.assign(Object.create(null), { id: 1n }), '{"id":1}'],
  ]) {
    assert.equal((await sent(`b.taken${text.length}`, body)).text(), text);
  }
});

test("bodies: an encoder of the application's own, of the connection or of a producer", async (t) => {
  const own = await connect({ servers: server.url, jetstream: true, encoder: (v) => `all:${v.n}` });
  t.after(() => own.close());
  await own.producer("b.encoded").send({ n: 1 });
  await own.producer("b.encoded", { encoder: (v) => Buffer.from([v.n]) }).send({ n: 2 });
  await own.producer("b.encoded").send("text as it is");
  const c = await own.consumer("b.encoded", { group: "g" });
  const bodies = (await c.fetch(3)).map((m) => m.body.toString());
  assert.deepEqual(bodies, ["all:1", "\u0002", "text as it is"]);
  assert.throws(() => own.producer("b.encoded", { encoder: "json" }), ConfigError);
  const e = await failed(own.producer("b.encoded", { encoder: () => 5 }).send({}));
  assert.match(e.message, /encoder/);
});

test("headers: objects, Map, Headers and pairs are taken, found in any case; null is an error that names it", async () => {
  const given = [
    { "X-A": 5, left: undefined },
    new Map([["X-A", "5"]]),
    new Headers({ "X-A": "5" }),
    [["X-A", ["5", "6"]]],
  ];
  for (const [n, headers] of given.entries()) {
    const m = await sent(`b.headers${n}`, "x", { headers });
    assert.equal(m.header("x-a"), "5");
    assert.equal(m.header("X-A"), "5");
    assert.equal(m.header("left"), undefined);
    assert.deepEqual(m.headerValues("x-a"), n === 3 ? ["5", "6"] : ["5"]);
    assert.deepEqual(m.headerValues("left"), []);
  }
  const e = await failed(bus.producer("b.headers").send("x", { headers: { tenant: null } }));
  assert.ok(e instanceof InvalidHeader && e.message.includes('"tenant" is null'), e.message);
});

test("bad input: an unknown option is an error that names ours", async () => {
  const p = bus.producer("b.options");
  const c = await bus.consumer("b.options", { group: "g" });
  for (const [call, words] of [
    [() => p.send("x", { msgID: "1" }), /"msgID".*it is id here/],
    [() => c.fetch(1, { expires: 5 }), /"expires".*it is timeout here/],
    [() => bus.request("b.x", "", { noMux: true }), /"noMux"/],
    [() => bus.respond("b.x", () => "", { queue: "q" }), /"queue".*it is group here/],
    [() => p.flush({ timeout: 1 }), /"timeout"/],
    [() => p.sendMany("abc"), /bodies/],
  ]) {
    const e = await failed((async () => call())());
    assert.ok(e instanceof ConfigError, String(e));
    assert.match(e.message, words);
  }
  await c.close();
});

test("sendMany takes async iterables", async () => {
  async function* bodies() {
    yield "1";
    yield { n: 2 };
  }
  assert.equal((await bus.producer("b.many").sendMany(bodies())).length, 2);
});

test("errors have their class in every realm, and those of another copy are instances as well", async (t) => {
  // As Jest loads the modules of a test: all in a realm of its own, the addon in the main one.
  const realm = vm.createContext({
    ...{ process, Buffer, console, setTimeout, clearTimeout, setInterval, clearInterval, setImmediate, performance },
    ...{ AbortController, AbortSignal, Uint8Array, ArrayBuffer, WeakRef, URL },
  });
  const cache = new Map();
  function load(file) {
    if (cache.has(file)) return cache.get(file).exports;
    const real = createRequire(file);
    const module = { exports: {} };
    cache.set(file, module);
    const require = (id) => (isBuiltin(id) || id.endsWith(".node") ? real(id) : load(real.resolve(id)));
    const code = `(function (exports, require, module, __filename, __dirname) {${readFileSync(file, "utf8")}\n})`;
    vm.runInContext(code, realm, { filename: file })(module.exports, require, module, file, dirname(file));
    return module.exports;
  }
  const copy = load(createRequire(import.meta.url).resolve("nats-eventbus"));
  const own = await copy.connect({ servers: server.url, jetstream: true });
  t.after(() => own.close());
  const e = await failed(own.stream("NOPE").info());
  assert.equal(e.code, "not_found");
  assert.ok(e instanceof copy.NotFoundError && e instanceof copy.EventBusError);
  assert.ok(e instanceof NotFoundError && e instanceof EventBusError, "of another copy");
  assert.ok(!(e instanceof ConfigError));
  assert.ok(new copy.Reject("no") instanceof Reject && !(new copy.Reject("no") instanceof RetryAfter));
  assert.ok(new copy.RetryAfter(5) instanceof RetryAfter && !(new Error("x") instanceof Reject));
});

test("one AbortSignal for many waits has one listener", async (t) => {
  const warnings = [];
  const told = (w) => warnings.push(w.name);
  process.on("warning", told);
  t.after(() => process.off("warning", told));
  const shutdown = new AbortController();
  const p = bus.producer("b.abort");
  await Promise.all(Array.from({ length: 50 }, () => p.send("x", { signal: shutdown.signal })));
  const waits = Array.from({ length: 50 }, () => bus.request("b.abort.ask", "", { signal: shutdown.signal }));
  shutdown.abort(new Error("bye"));
  const ends = await Promise.allSettled(waits);
  assert.ok(ends.every((end) => end.status === "rejected"));
  await new Promise((resolve) => setImmediate(resolve));
  assert.deepEqual(
    warnings.filter((name) => name === "MaxListenersExceededWarning"),
    [],
  );
});

test("bad input: names of other clients say what they are here, and looking at objects is harmless", async () => {
  const m = await sent("b.habits", "x");
  const p = bus.producer("b.habits");
  for (const [call, words] of [
    [() => m.data, /m\.body/],
    [() => m.subject, /m\.topic/],
    [() => m.respond("x"), /bus\.respond/],
    [() => bus.publish("a", "x"), /bus\.producer/],
    [() => bus.subscribe("a"), /bus\.consumer/],
    [() => bus.drain(), /bus\.close/],
    [() => p.publish("x"), /producer\.send/],
  ]) {
    assert.throws(call, (e) => e instanceof ConfigError && words.test(e.message));
  }
  for (const o of [m, bus, p]) assert.ok(inspect(o).startsWith("<"));
  assert.equal(Object.keys(m).includes("data"), false);
});
