// Issue 4, items 1 and 2, from Node: reconnects, and what happens to a connection as events.
import assert from "node:assert/strict";
import { once } from "node:events";
import { test } from "node:test";
import { ConfigError, ConnectionError, connect, NotSent, Timeout } from "nats-eventbus";
import { eventually, startServer } from "../support/server.mjs";

const QUICK = { initial: 20, max: 50 };

async function withServer(options, body) {
  const server = await startServer(options);
  try {
    await body(server);
  } finally {
    await server.stop();
  }
}

/** The next event of a kind, whatever comes before it. */
async function kind(events, wanted) {
  for (;;) {
    const { value, done } = await events.next();
    assert.ok(!done, `no ${wanted}`);
    if (value.kind === wanted) return value;
  }
}

test("a loss is told with its cause, and the last event is the end", async () => {
  await withServer({}, async (server) => {
    const bus = await connect({ servers: server.url, reconnect: QUICK });
    const events = bus.events();
    await server.kill();
    const lost = await kind(events, "disconnected");
    assert.equal(lost.server, `127.0.0.1:${server.port}`);
    assert.ok(lost.cause && lost.time instanceof Date && Date.now() - lost.time.getTime() < 10_000);
    assert.ok((await kind(events, "connecting")).cause);
    await server.start();
    assert.equal((await kind(events, "reconnected")).server, `127.0.0.1:${server.port}`);
    assert.equal(bus.state, "connected");
    const waiting = kind(events, "closed");
    await bus.close();
    const closed = await waiting;
    assert.deepEqual([closed.cause, closed.missed], ["closed by its owner", 0]);
    assert.deepEqual(await events.next(), { done: true, value: undefined });
    for await (const event of bus.events()) assert.fail(event.kind);
  });
});

test("listeners that throw or are slow harm nothing, and can be ended", async () => {
  await withServer({}, async (server) => {
    const bus = await connect({ servers: server.url, onLog: () => {} });
    const told = [];
    bus.onEvent(() => new Promise(() => {}));
    bus.onEvent(() => {
      throw new RangeError("a listener's own mistake");
    });
    const stop = bus.onEvent((event) => told.push(event.kind));
    const warned = once(process, "warning");
    for (const n of [1, 2]) {
      await bus.forceReconnect();
      await eventually(() => told.length === 2 * n);
    }
    assert.match(String((await warned)[0]), /a listener's own mistake/);
    assert.deepEqual(told, ["disconnected", "reconnected", "disconnected", "reconnected"]);
    stop();
    const events = bus.events();
    await bus.forceReconnect();
    assert.equal((await kind(events, "disconnected")).cause, "a reconnect was asked for");
    for await (const event of events) {
      assert.equal(event.kind, "reconnected");
      break;
    }
    assert.equal((await events.next()).done, true, "break ends the listening");
    assert.equal(told.length, 4);
    await bus.producer("t").send("x");
    assert.throws(() => bus.onEvent(undefined), ConfigError);
    await bus.close();
  });
});

test("giving up is an event and an error on every waiter", async () => {
  await withServer({ jetstream: true }, async (server) => {
    const bus = await connect({ servers: server.url, jetstream: true, reconnect: { ...QUICK, attempts: 2 } });
    const events = bus.events();
    const p = bus.producer("t.x");
    await p.send("x");
    const c = await bus.consumer("t.y", { group: "g" });
    bus.on("t.x", { group: "h" }, async () => {});
    const running = bus.run();
    const reading = (async () => {
      for await (const _ of c) assert.fail("nothing was sent");
    })();
    const ends = Promise.allSettled([running, reading]);
    await eventually(() => bus.metrics().settled === 1);
    await server.kill();
    assert.match((await kind(events, "closed")).cause, /given up/);
    assert.equal(bus.state, "closed");
    for (const { reason } of await ends) assert.match(String(reason), /^ConnectionError: .*given up/);
    const gone = (e) => e instanceof ConnectionError && e.code === "connection" && /given up/.test(e.message);
    await assert.rejects(p.send("x"), gone);
    await assert.rejects(bus.request("nobody"), gone);
    await assert.rejects(bus.streams(), gone);
    assert.throws(() => p.sendNow("x"), gone);
    await bus.close();
  });
});

test("the first connection may come later; what is held when it is given up was not sent", async () => {
  await withServer({}, async (server) => {
    await server.kill();
    const waits = { servers: server.url, retryOnInitialConnect: true };
    const given = await connect({ ...waits, reconnect: { initial: 1000, max: 1000, attempts: 2 } });
    await assert.rejects(given.producer("t").send("x"), (e) => e instanceof NotSent && /given up/.test(e.message));
    await given.close();
    const bus = await connect({ ...waits, reconnect: QUICK });
    assert.equal(bus.state, "connecting");
    const events = bus.events();
    const sending = bus.producer("t").send("x");
    await server.start();
    assert.equal(await sending, null);
    assert.equal((await kind(events, "connected")).server, `127.0.0.1:${server.port}`);
    await bus.close();
  });
});

test("a dead peer is noticed", async () => {
  await withServer({}, async (server) => {
    const times = { pingInterval: 100, connectTimeout: 300, apiTimeout: 500 };
    const bus = await connect({ servers: server.url, ...times });
    const events = bus.events();
    server.pause();
    assert.match((await kind(events, "disconnected")).cause, /did not answer/);
    await assert.rejects(bus.forceReconnect(), Timeout);
    server.resume();
    await kind(events, "reconnected");
    await bus.close();
  });
});

test("settings of reconnecting are checked", async () => {
  await assert.rejects(connect({ reconnect: { attempts: 0 } }), ConfigError);
});
