// Contract: the connection: made, lost, made again.
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { ConnectionError, connect, NotSent, TlsError } from "nats-eventbus";
import { eventually, startServer } from "../support/server.mjs";
import { failed, inTime, open, stored, streamOf } from "./world.mjs";

const { users } = JSON.parse(readFileSync(new URL("../shared/nkeys.json", import.meta.url), "utf8"));
const NOBODY = "nats://127.0.0.1:1";

async function start(t, options) {
  const server = await startServer(options);
  t.after(() => server.stop());
  return server;
}

/** A bus that is closed first, while its servers are there. */
async function using(bus, work) {
  try {
    return await work(bus);
  } finally {
    await bus.close();
  }
}

/** A message goes through to the server and back. */
async function works(bus) {
  const c = await bus.consumer("n.works", { group: "g" });
  await bus.producer("n.works").send("x");
  const m = await inTime(c.next(), 5000, "the message's way");
  assert.equal(m.text(), "x");
  await c.close();
}

test("connect fails fast on the first connection", async () => {
  const started = performance.now();
  const e = await failed(connect(NOBODY));
  assert.ok(e instanceof ConnectionError && e.code === "connection" && e.retryable, String(e));
  assert.ok(performance.now() - started < 4000);
});

/** Connects before there is a server. */
async function waits(t, jetstream) {
  const server = await start(t, { jetstream: true });
  await server.kill();
  const settings = { retryOnInitialConnect: true, reconnect: { initial: 50, max: 200 } };
  const connecting = connect({ servers: server.url, jetstream, ...settings });
  await using(await inTime(connecting, 2000, "connecting"), async (bus) => {
    assert.equal(bus.state, "connecting");
    const sending = bus.producer("n.first").send("x");
    assert.ok(await open(sending, 500), "sent to nobody");
    await server.start();
    const ack = await inTime(sending, 10_000, "the send");
    assert.equal(bus.state, "connected");
    assert.equal(ack !== null, jetstream);
    if (jetstream) assert.equal(await stored(server, streamOf("n.first")), 1);
    await works(bus);
  });
}

test("with retryOnInitialConnect it waits in the background, and sends are held until there is a server", (t) =>
  waits(t, true));

test("with retryOnInitialConnect in core mode, too", (t) => waits(t, false));

test("one that waits for a first server can be closed: what was held is rejected", async () => {
  const bus = await connect({ servers: NOBODY, retryOnInitialConnect: true, drainTimeout: 300 });
  const sending = failed(bus.producer("n.held").send("x"));
  await inTime(bus.close(), 3000, "closing");
  assert.ok((await sending) instanceof NotSent);
  assert.equal(bus.state, "closed");
});

test("state is observable: connected, disconnected, connected again, closed", async (t) => {
  const server = await start(t);
  const bus = await connect(server.url);
  await using(bus, async () => {
    assert.equal(bus.state, "connected");
    await server.kill();
    await eventually(() => bus.state === "disconnected");
    await server.start();
    await eventually(() => bus.state === "connected");
    assert.equal(bus.metrics().reconnects, 1);
  });
  assert.equal(bus.state, "closed");
});

test("reconnects for ever, with exponential backoff, capped: the waits are those of the setting", async (t) => {
  const server = await start(t);
  const reconnect = { initial: 100, factor: 2, max: 400, jitter: 0 };
  await using(await connect({ servers: server.url, reconnect }), async (bus) => {
    const calls = [];
    await server.kill();
    // Whoever listens there now hangs up at once.
    const listener = createServer((socket) => {
      calls.push(performance.now());
      socket.on("error", () => {});
      socket.end();
    });
    await new Promise((resolve) => listener.listen(server.port, "127.0.0.1", resolve));
    await eventually(() => calls.length >= 8, { what: "eight calls" });
    await new Promise((resolve) => listener.close(resolve));
    const gaps = calls.slice(1).map((at, i) => at - calls[i]);
    // Uncapped they were longer, each of them.
    assert.ok(gaps.slice(4).every((gap) => gap > 390) && Math.min(...gaps.slice(4)) < 900, String(gaps));
    await server.start();
    await eventually(() => bus.state === "connected");
    await works(bus);
  });
});

test("every server of the pool is tried, at first and after a loss", async (t) => {
  const [one, two] = [await start(t), await start(t)];
  await using(await connect({ servers: [NOBODY, one.url] }), (bus) => assert.equal(bus.server.port, one.port));
  await using(await connect({ servers: [one.url, two.url] }), async (bus) => {
    const [here, there] = bus.server.port === one.port ? [one, two] : [two, one];
    await here.kill();
    await eventually(() => bus.server.port === there.port && bus.state === "connected");
    await works(bus);
  });
});

test("tls:// anywhere in the pool means TLS everywhere: a server without it is not used", async (t) => {
  const plain = await start(t);
  assert.ok((await failed(connect({ servers: [plain.url, "tls://127.0.0.1:1"] }))) instanceof ConnectionError);
  for (const options of [{ servers: plain.url.replace("nats:", "tls:") }, { servers: plain.url, tls: {} }]) {
    const e = await failed(connect(options));
    assert.ok(e instanceof TlsError && e.code === "connection.tls", String(e));
  }
});

test("credentials files are read again on every reconnect: rotated ones are picked up", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "eventbus-nk-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const [old, renewed] = users;
  const file = join(folder, "user.nk");
  const takes = (user) => `authorization { users = [ {nkey: ${user.public}} ] }`;
  writeFileSync(file, old.seed);
  const server = await start(t, { config: takes(old) });
  const settings = { nkey: file, reconnect: { initial: 50, max: 200 } };
  await using(await connect({ servers: server.url, ...settings }), async (bus) => {
    await server.kill();
    server.reconfigure(takes(renewed));
    await server.start();
    const e = await failed(bus.producer("n.rotated", { deliveryTimeout: 600 }).send("x"));
    assert.ok(e instanceof NotSent, String(e));
    writeFileSync(file, renewed.seed);
    await eventually(() => bus.state === "connected");
    await works(bus);
  });
});
