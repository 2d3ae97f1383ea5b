// Handlers: the context each starts in, and what becomes of whatever they throw, return or settle themselves.
import assert from "node:assert/strict";
import { AsyncLocalStorage } from "node:async_hooks";
import { after, before, test } from "node:test";
import { ConfigError, connect, Reject, RequestFailed, RetryAfter } from "nats-eventbus";
import { eventually, startServer } from "../support/server.mjs";
import { failed, reaches } from "./world.mjs";

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

test("each handler starts in the context of run, not in what the one before it left", async (t) => {
  const tenant = new AsyncLocalStorage();
  for (const concurrency of [1, 3]) {
    for (const async of [true, false]) {
      const b = await own(t);
      const topic = `h.context.${concurrency}.${async}`;
      await b.producer(topic).sendMany(["one", "two", "three", "four"]);
      const seen = [];
      const set = (m) => {
        seen.push(tenant.getStore());
        tenant.enterWith(m.text());
      };
      const later = async (m) => {
        set(m);
        await new Promise(setImmediate);
        assert.equal(tenant.getStore(), m.text());
        tenant.enterWith("later");
      };
      tenant.run("on", () => b.on(topic, { group: "g", concurrency }, async ? later : set));
      const run = tenant.run("run", () => b.run());
      await eventually(() => seen.length === 4);
      await b.close();
      await run;
      assert.deepEqual(seen, ["run", "run", "run", "run"]);
    }
  }
});

test("onError leaves nothing in the context of the next handler", async (t) => {
  const tenant = new AsyncLocalStorage();
  const b = await own(t);
  await b.producer("h.context.error").sendMany(["one", "two"]);
  const seen = [];
  const c = await b.consumer("h.context.error", { group: "g" });
  const handler = () => {
    seen.push(tenant.getStore());
    throw new Reject();
  };
  const run = tenant.run("run", () => c.run(handler, { onError: () => tenant.enterWith("left") }));
  await eventually(() => seen.length === 2);
  await b.close();
  await run;
  assert.deepEqual(seen, ["run", "run"]);
});

test("a responder's handlers start in the context of respond", async (t) => {
  const tenant = new AsyncLocalStorage();
  const b = await own(t);
  const handler = () => {
    const found = tenant.getStore();
    tenant.enterWith("left");
    return found;
  };
  await tenant.run("respond", () => b.respond("h.context.ask", handler));
  for (let n = 0; n < 3; n++) assert.equal((await b.request("h.context.ask")).text(), "respond");
});

const hostile = () =>
  Object.defineProperty(new RangeError("x"), "message", {
    get: () => {
      throw new Error("no words");
    },
  });
const proxy = () =>
  new Proxy(
    {},
    {
      get: () => {
        throw new Error("get");
      },
      getPrototypeOf: () => {
        throw new Error("prototype");
      },
    },
  );
const trapped = () => Object.defineProperty(new Error("x"), "stack", { get: () => assert.fail("no stack") });

test("whatever is thrown is a failed attempt, and the run goes on", async (t) => {
  const b = await own(t);
  const odd = [
    hostile(),
    Object.freeze(new TypeError("frozen")),
    Object.freeze({ a: 1 }),
    null,
    undefined,
    7,
    Symbol("s"),
    "words",
    proxy(),
    trapped(),
    new AggregateError([new AggregateError([new Error("inner")], "mid")], "outer"),
  ];
  const expected = [/^RangeError$/, /^TypeError: frozen$/, /a: 1/, /^null$/, /^undefined$/, /^7$/, /Symbol\(s\)/];
  expected.push(/^words$/, /./, /^Error: x$/, /^AggregateError: outer: AggregateError: mid: Error: inner$/);
  await b.producer("h.thrown").sendMany(odd.map((_, n) => `${n}`));
  const reported = [];
  const c = await b.consumer("h.thrown", { group: "g", maxDeliver: 1 });
  const run = c.run(
    async (m) => {
      throw odd[m.json()];
    },
    { onError: (e) => reported.push(e) },
  );
  await eventually(() => b.metrics().deadLetters === odd.length);
  assert.equal(reported.length, odd.length);
  const reasons = [];
  for await (const letter of b.deadLetters("h.thrown", { group: "g" })) reasons[letter.json()] = letter.reason;
  for (const [n, pattern] of expected.entries()) assert.match(reasons[n], pattern);
  await b.close();
  await run;
});

test("without onError the warning never fails on what was thrown", async (t) => {
  const b = await own(t);
  const odd = [hostile(), proxy(), trapped()];
  await b.producer("h.warned").sendMany(odd.map((_, n) => `${n}`));
  const c = await b.consumer("h.warned", { group: "g", maxDeliver: 1 });
  const run = c.run((m) => {
    throw odd[m.json()];
  });
  await eventually(() => b.metrics().deadLetters === odd.length);
  await b.close();
  await run;
});

test("Reject and RetryAfter are found in a group of errors, and in groups within it", async (t) => {
  const b = await own(t);
  const groups = {
    reject: new AggregateError([new Error("a"), new AggregateError([new Reject("never")])]),
    retry: new AggregateError([new AggregateError([new RetryAfter(10)]), new Error("a")]),
  };
  await b.producer("h.groups").sendMany(Object.keys(groups));
  const seen = [];
  const c = await b.consumer("h.groups", { group: "g", maxDeliver: 9 });
  const run = c.run(
    (m) => {
      seen.push(m.text());
      if (m.text() === "reject" || m.attempt === 1) throw groups[m.text()];
    },
    { onError: () => {} },
  );
  await reaches(server, "h.groups", { num_ack_pending: 0, num_pending: 0 });
  await eventually(() => seen.length === 3);
  assert.deepEqual(seen.sort(), ["reject", "retry", "retry"]);
  await b.close();
  await run;
});

test("a generator function as handler is a ConfigError", async (t) => {
  const b = await own(t);
  const c = await b.consumer("h.generators", { group: "g", maxDeliver: 1 });
  for (const handler of [function* () {}, async function* () {}, undefined]) {
    assert.throws(() => b.on("h.generators", { group: "g" }, handler), ConfigError);
    await assert.rejects(b.respond("h.generators.ask", handler), ConfigError);
    await assert.rejects(c.run(handler), ConfigError);
  }
});

test("a function that returns a generator has failed", async (t) => {
  const b = await own(t);
  await b.producer("h.generated").send("x");
  const c = await b.consumer("h.generated", { group: "g", maxDeliver: 1 });
  const reported = [];
  const run = c.run(() => (function* () {})(), { onError: (e) => reported.push(e) });
  await eventually(() => reported.length === 1);
  assert.match(reported[0].message, /use return, not yield/);
  await b.close();
  await run;
  await (await own(t, { jetstream: false })).respond("h.generated.ask", () => (function* () {})());
  const e = await failed((await own(t)).request("h.generated.ask"));
  assert.ok(e instanceof RequestFailed, String(e));
});

test("a handler's own settling stands, and what it throws later still reaches onError", async (t) => {
  const b = await own(t);
  await b.producer("h.own").sendMany(["ack", "term", "nak"]);
  const [seen, reported] = [[], []];
  const c = await b.consumer("h.own", { group: "g", maxDeliver: 3 });
  const run = c.run(
    async (m) => {
      seen.push(m.text());
      if (m.attempt > 1) return;
      m[m.text()]();
      throw new Error(`after ${m.text()}`);
    },
    { onError: (e) => reported.push(e.message) },
  );
  await reaches(server, "h.own", { num_ack_pending: 0, num_pending: 0 });
  await eventually(() => seen.length === 4);
  assert.deepEqual(seen.sort(), ["ack", "nak", "nak", "term"]);
  assert.deepEqual(reported.sort(), ["after ack", "after nak", "after term"]);
  assert.equal(b.metrics().deadLetters ?? 0, 0);
  await b.close();
  await run;
});
