// Responders: every request that arrived is answered, whatever the handler does and whenever the responder closes.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { connect, RequestFailed } from "nats-eventbus";
import { eventually, startServer } from "../support/server.mjs";
import { failed, gate, gated, inTime, open } from "./world.mjs";

let server;
let asker;
before(async () => {
  server = await startServer();
  asker = await connect({ servers: server.url });
});
after(async () => {
  await asker?.close();
  await server?.stop();
});

async function own(t, settings = {}) {
  const b = await connect({ servers: server.url, onLog: () => {}, ...settings });
  t.after(() => b.close());
  return b;
}

test("closing lets running requests finish", async (t) => {
  const b = await own(t);
  const [entered, released] = [gate(), gate()];
  const handler = async () => {
    entered.go();
    await released.opened;
    return "done";
  };
  await b.respond("re.finish", handler);
  const answer = asker.request("re.finish");
  await entered.opened;
  const closing = b.close();
  assert.ok(await open(closing));
  released.go();
  assert.equal((await answer).text(), "done");
  await closing;
});

test("after drainTimeout each asker gets RequestFailed, those whose handler has not begun too", async (t) => {
  const b = await own(t, { drainTimeout: 300 });
  const work = gated();
  const r = await b.respond("re.late", work.handler, { concurrency: 1 });
  const answers = [1, 2, 3].map(() => failed(asker.request("re.late", "x", { timeout: 20_000 })));
  await work.entered;
  await eventually(() => b.metrics().received === 3);
  await inTime(r.close(), 5000, "closing");
  for (const e of await inTime(Promise.all(answers), 2000, "the answers")) {
    assert.ok(e instanceof RequestFailed, String(e));
    assert.match(e.server, /closed before it had answered: ask again/);
  }
  work.go();
});

test("a responder that a handler closes answers that request", async (t) => {
  const b = await own(t);
  const r = await b.respond("re.self", async () => {
    await new Promise(setImmediate);
    await r.close();
    return "last";
  });
  assert.equal((await inTime(asker.request("re.self"), 4000, "the request")).text(), "last");
});

test("whatever a handler throws or returns, the asker gets an answer at once", async (t) => {
  const b = await own(t);
  const hostile = () => {
    throw Object.defineProperty(new RangeError("x"), "message", { get: () => assert.fail("no words") });
  };
  const cyclic = {};
  cyclic.self = cyclic;
  const handlers = {
    hostile,
    nothing: () => Promise.reject(),
    frozen: () => Promise.reject(Object.freeze({ a: 1 })),
    cyclic: () => cyclic,
    symbol: () => Symbol("x"),
    large: () => Buffer.alloc(b.server.maxPayload + 1),
    lone: () => Promise.reject(new Error("\ud800\r\nx")),
    long: () => Promise.reject(new Error("x".repeat(2_000_000))),
  };
  await b.respond("re.any", (m) => handlers[m.text()]());
  for (const name of Object.keys(handlers)) {
    const e = await failed(inTime(asker.request("re.any", name, { timeout: 10_000 }), 5000, name));
    assert.ok(e instanceof RequestFailed, `${name}: ${e}`);
  }
});
