// bus.health() from Node: how a bus is, in and out of trouble; it never rejects.
import assert from "node:assert/strict";
import { test } from "node:test";
import { ConfigError, connect, NotFoundError } from "nats-eventbus";
import { eventually, startServer } from "../support/server.mjs";
import { api } from "./raw.mjs";
import { inTime } from "./world.mjs";

const QUICK = { initial: 20, max: 50 };

async function withServer(body) {
  const server = await startServer({ jetstream: true });
  try {
    await body(server);
  } finally {
    await server.stop();
  }
}

const health = (bus) => inTime(bus.health({ timeout: 10_000 }), 15_000, "health");

test("a bus without trouble", async () => {
  await withServer(async (server) => {
    const bus = await connect({ servers: server.url, jetstream: true });
    const c = await bus.consumer("t.x", { group: "g" });
    const { rtt, ...h } = await health(bus);
    assert.ok(rtt > 0 && rtt < 10_000, "milliseconds");
    assert.deepEqual(h, {
      ok: true,
      alive: true,
      state: "connected",
      server: `127.0.0.1:${server.port}`,
      jetstream: "ok",
      reconnects: 0,
      pendingSends: 0,
      consumers: [{ topic: "t.x", group: "g", stream: "t_x_STREAM" }],
      problems: [],
    });
    await c.close();
    assert.deepEqual((await bus.health({ timeout: "500ms" })).consumers, []);
    await assert.rejects(bus.health({ timeout: -1 }), ConfigError);
    await bus.close();
  });
});

test("an outage, a stall and the end", async () => {
  await withServer(async (server) => {
    const bus = await connect({ servers: server.url, jetstream: true, reconnect: QUICK });
    const p = bus.producer("t.x");
    await p.send("x");
    await server.kill();
    await eventually(() => bus.state === "disconnected");
    p.sendNow("x");
    const lost = await health(bus);
    assert.deepEqual([lost.ok, lost.alive, lost.state, lost.rtt], [false, true, "disconnected", undefined]);
    assert.equal(lost.pendingSends, 1);
    assert.match(lost.problems[0], /the connection was lost/);
    await server.start();
    await p.flush();
    const back = await health(bus);
    assert.deepEqual([back.ok, back.reconnects, back.pendingSends], [true, 1, 0]);
    server.pause();
    const stalled = await inTime(bus.health({ timeout: 200 }), 4000, "health");
    assert.deepEqual([stalled.ok, stalled.alive, stalled.state], [false, true, "connected"]);
    assert.match(stalled.problems[0], /did not answer/);
    server.resume();
    await bus.close();
    const closed = await health(bus);
    assert.deepEqual([closed.ok, closed.alive, closed.state], [false, false, "closed"]);
    assert.deepEqual(closed.problems, ["the bus is closed: connect again"]);
  });
});

test("a failed consumer stays in health, closed or not, until it is dismissed", async () => {
  await withServer(async (server) => {
    const bus = await connect({ servers: server.url, jetstream: true });
    await bus.producer("t.x").send("x");
    const c = await bus.consumer("t.x", { group: "g" });
    await c.next();
    await api(server.port, "CONSUMER.DELETE.t_x_STREAM.g");
    await assert.rejects(c.next(), NotFoundError);
    const failed = await health(bus);
    assert.deepEqual([failed.ok, failed.alive, failed.consumers[0].code], [false, false, "not_found"]);
    assert.match(failed.problems[0], /open it again/);
    await c.close();
    assert.equal((await health(bus)).ok, false);
    assert.equal(bus.dismiss(), 1);
    assert.ok((await health(bus)).ok);
    await bus.close();
  });
});
