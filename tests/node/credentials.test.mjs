// Issue 4, items 2 to 4, from Node: credentials that rotate, warnings, TLS settings, WebSockets.
import assert from "node:assert/strict";
import { once } from "node:events";
import { chmodSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer } from "node:net";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { test } from "node:test";
import { AuthError, ConfigError, connect, TlsError } from "nats-eventbus";
import { startServer } from "../support/server.mjs";

const [USER] = JSON.parse(readFileSync(new URL("../shared/nkeys.json", import.meta.url), "utf8")).users;
const password = (word) => `authorization { users = [ {user: "app", password: "${word}"} ] }`;
const nkey = `authorization { users = [ {nkey: ${USER.public}} ] }`;

async function withServer(options, body) {
  const server = await startServer(options);
  try {
    await body(server);
  } finally {
    await server.stop();
  }
}

async function kind(events, wanted) {
  for await (const event of { [Symbol.asyncIterator]: () => ({ next: () => events.next() }) }) {
    if (event.kind === wanted) return event;
  }
  return assert.fail(`no ${wanted}`);
}

test("a callback gives credentials that rotate", async () => {
  await withServer({ config: password("first") }, async (server) => {
    let [word, asked] = ["first", 0];
    const credentials = async () => {
      asked += 1;
      return { user: "app", password: word };
    };
    const bus = await connect({ servers: server.url, credentials, reconnect: { initial: 20, max: 50 } });
    assert.equal(asked, 1);
    const events = bus.events();
    await server.kill();
    server.reconfigure(password("second"));
    await server.start();
    assert.match((await kind(events, "auth_failed")).cause, /authorization violation/i);
    word = "second";
    await kind(events, "reconnected");
    await bus.producer("t").send("x");
    await bus.close();
  });
});

test("a callback that fails is an AuthError that does not repeat what it threw", async () => {
  process.env.NATS_TOKEN = "left over";
  await withServer({ config: nkey }, async (server) => {
    const good = await connect({ servers: server.url, credentials: () => ({ nkey: USER.seed }) });
    await good.close();
    const throws = () => {
      throw new RangeError("hunter2");
    };
    const rejects = async () => throws();
    const bad = [throws, rejects, () => new Promise(() => {}), () => 7, () => undefined, () => "hunter2"];
    for (const credentials of bad) {
      await assert.rejects(
        connect({ servers: server.url, credentials, apiTimeout: 200 }),
        (e) => e instanceof AuthError && !e.message.includes("hunter2"),
      );
    }
    const both = { servers: server.url, credentials: () => "x", token: "t" };
    await assert.rejects(connect(both), ConfigError);
  });
  delete process.env.NATS_TOKEN;
});

test("a file of secrets that others can read is warned of", async () => {
  const folder = mkdtempSync(join(tmpdir(), "eventbus-"));
  const file = join(folder, "user.nk");
  writeFileSync(file, USER.seed, { mode: 0o644 });
  const warnings = [];
  const note = (w) => warnings.push(w);
  process.on("warning", note);
  await withServer({ config: nkey }, async (server) => {
    await (await connect({ servers: server.url, nkey: file })).close();
    chmodSync(file, 0o600);
    await (await connect({ servers: server.url, nkey: file })).close();
  });
  process.off("warning", note);
  rmSync(folder, { recursive: true });
  const ours = warnings.filter((w) => w.message.includes("user.nk"));
  assert.deepEqual(
    ours.map((w) => w.name),
    ["EventBusWarning"],
  );
});

test("TLS settings", async () => {
  await withServer({}, async (server) => {
    await assert.rejects(connect({ servers: server.url, requireTls: true }), TlsError);
    await assert.rejects(connect({ servers: server.url, tls: { first: true } }), TlsError);
    await assert.rejects(connect({ servers: server.url, tls: { serverName: "not a name" } }), ConfigError);
    await assert.rejects(connect({ servers: server.url, tls: { verify: false } }), ConfigError);
  });
});

test("WebSockets", async () => {
  const free = createServer().listen(0, "127.0.0.1");
  await once(free, "listening");
  const { port } = free.address();
  free.close();
  await once(free, "close");
  const config = `websocket { listen: "127.0.0.1:${port}", no_tls: true }`;
  await withServer({ jetstream: true, config }, async () => {
    const bus = await connect({ servers: `ws://127.0.0.1:${port}`, jetstream: true });
    await bus.producer("t.x").send(Buffer.alloc(200_000));
    await bus.forceReconnect();
    const c = await bus.consumer("t.x", { group: "g" });
    for await (const m of c) {
      assert.equal(m.body.length, 200_000);
      await m.ackConfirmed();
      break;
    }
    await bus.close();
  });
});
