// Contract, errors: what they tell, and what nothing ever tells.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { inspect } from "node:util";
import * as eb from "nats-eventbus";
import { startServer } from "../support/server.mjs";
import { api } from "./raw.mjs";
import { failed, gate, make, reaches, silence, stored, streamOf } from "./world.mjs";

const { connect } = eb;
const classes = { ...eb };
const { users } = JSON.parse(readFileSync(new URL("../shared/nkeys.json", import.meta.url), "utf8"));
const PASSWORD = 'authorization { users = [ {user: "app", password: "right"} ] }';

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

async function full(topic) {
  await make(server, topic, { max_msgs: 1, discard: "new" });
  await Promise.all([bus.producer(topic).send("x"), bus.producer(topic).send("x")]);
}

/** A failure: its class, what must be named, and how it is made. */
const FAILURES = {
  full: ["StreamFull", "topic stream server", full],
  "too large for the stream": [
    "TooLarge",
    "topic stream server",
    async (topic) => {
      await make(server, topic, { max_msg_size: 10 });
      await bus.producer(topic).send(Buffer.alloc(100));
    },
  ],
  refused: [
    "PublishRejected",
    "topic stream server",
    async (topic) => {
      await make(server, topic);
      await make(server, topic, { sealed: true });
      await bus.producer(topic).send("x");
    },
  ],
  "wrong sequence": [
    "WrongSequence",
    "topic stream server",
    (topic) => bus.producer(topic).send("x", { expectedLastSequence: 7 }),
  ],
  "bad header": ["InvalidHeader", "topic", (topic) => bus.producer(topic).send("x", { headers: { "a:b": "c" } })],
  unknown: [
    "PublishUnknown",
    "topic stream",
    async (topic) => {
      await silence(server, topic);
      await bus.producer(topic, { deliveryTimeout: 2000 }).send("x");
    },
  ],
  "other settings": [
    "ConflictError",
    "topic stream group",
    async (topic) => {
      await (await bus.consumer(topic, { group: "g" })).close();
      await bus.consumer(topic, { group: "g", ackWait: 7000 });
    },
  ],
  gone: [
    "NotFoundError",
    "topic stream group server",
    async (topic) => {
      const c = await bus.consumer(topic, { group: "g" });
      await reaches(server, topic, { num_waiting: 1 });
      await api(server.port, `STREAM.DELETE.${streamOf(topic)}`);
      await c.next();
    },
  ],
  "settled before": [
    "ConflictError",
    "topic group",
    async (topic) => {
      await bus.producer(topic).send("x");
      const c = await bus.consumer(topic, { group: "g" });
      const m = await c.next();
      m.ack();
      await m.ackConfirmed().finally(() => c.close());
    },
  ],
  "no stream": ["NotFoundError", "stream server", (topic) => bus.stream(streamOf(topic)).info()],
  nobody: ["NoResponders", "topic", (topic) => bus.request(topic, "x")],
  late: [
    "Timeout",
    "topic",
    async (topic) => {
      const { opened, go } = gate();
      const responder = await bus.respond(topic, () => opened);
      try {
        await bus.request(topic, "x", { timeout: 100 });
      } finally {
        go();
        await responder.close();
      }
    },
  ],
  failing: [
    "RequestFailed",
    "topic server",
    async (topic) => {
      await bus.respond(topic, () => {
        throw new Error("no such agent");
      });
      await bus.request(topic, "x");
    },
  ],
  "closed producer": [
    "ClosedError",
    "topic",
    async (topic) => {
      const p = bus.producer(topic);
      p.close();
      await p.send("x");
    },
  ],
  "closed consumer": [
    "ClosedError",
    "topic",
    async (topic) => {
      const c = await bus.consumer(topic, { group: "g" });
      await c.close();
      await c.fetch(1);
    },
  ],
  "not JSON": [
    "DecodeError",
    "topic",
    async (topic) => {
      await bus.producer(topic).send("{");
      const c = await bus.consumer(topic, { group: "g" });
      const m = await c.next();
      m.ack();
      await c.close();
      m.json();
    },
  ],
  "letters of core mode": [
    "ConfigError",
    "topic",
    async (topic) => {
      const core = await connect(server.url);
      try {
        core.deadLetters(topic, { group: "g" });
      } finally {
        await core.close();
      }
    },
  ],
};

test("an error names the topic, stream and group concerned, and the server's own text", async (t) => {
  for (const [name, [kind, names, make]] of Object.entries(FAILURES)) {
    await t.test(name, async () => {
      const topic = `e.${name.replaceAll(" ", "-")}`;
      const e = await failed(make(topic));
      assert.equal(e.constructor, classes[kind], String(e));
      const want = { topic, stream: streamOf(topic), group: "g" };
      for (const field of names.split(" ")) {
        if (field === "server") {
          assert.ok(e.server && e.message.includes(e.server), e.message);
        } else {
          assert.equal(e[field], want[field], `${field} of ${e.message}`);
        }
      }
    });
  }
});

test("StreamFull is retryable: nothing was stored, and once there is room the same send succeeds", async () => {
  const e = await failed(full("e.room"));
  assert.ok(e instanceof eb.StreamFull && e.retryable, String(e));
  assert.equal(await stored(server, streamOf("e.room")), 1);
  await api(server.port, `STREAM.PURGE.${streamOf("e.room")}`);
  assert.ok((await bus.producer("e.room").send("x")).sequence > 0);
});

test("one stable code per kind: programs compare them, so they are written down here once more", () => {
  const kinds = {
    ConfigError: ["config", false],
    ConnectionError: ["connection", true],
    AuthError: ["connection.auth", false],
    TlsError: ["connection.tls", false],
    PermissionError: ["permission", false],
    NotFoundError: ["not_found", false],
    NotSupportedError: ["not_supported", false],
    ConflictError: ["conflict", false],
    PublishRejected: ["publish.rejected", false],
    TooLarge: ["publish.rejected.too_large", false],
    WrongSequence: ["publish.rejected.wrong_sequence", false],
    StreamFull: ["publish.rejected.stream_full", true],
    NotSent: ["publish.rejected.not_sent", true],
    InvalidTopic: ["publish.rejected.invalid_topic", false],
    InvalidHeader: ["publish.rejected.invalid_header", false],
    PublishUnknown: ["publish.unknown", true],
    Backpressure: ["backpressure", true],
    Timeout: ["timeout", true],
    NoResponders: ["request.no_responders", true],
    RequestFailed: ["request.failed", false],
    ClosedError: ["closed", false],
    DecodeError: ["decode", false],
  };
  for (const [name, [code, retryable]] of Object.entries(kinds)) {
    const e = new classes[name]("text");
    assert.deepEqual([e.name, e.code, e.retryable, e instanceof eb.EventBusError], [name, code, retryable, true]);
  }
});

const HUNTER = "hunter2-TopSecret";
const SEED = users[0].seed;
const JWT = "eyJ0eXAiOiJKV1QifQ.eyJzdWIiOiJVU0VSIn0.c2lnbmF0dXJl";
const SECRETS = {
  password: [{ user: "app", password: HUNTER }, HUNTER],
  token: [{ token: HUNTER }, HUNTER],
  nkey: [{ nkey: SEED }, SEED],
  jwt: [{ jwt: JWT, nkey: SEED }, JWT, SEED],
  address: [{ servers: `nats://app:${HUNTER}@HOST` }, HUNTER],
  "token in an address": [{ servers: `nats://${HUNTER}@HOST` }, HUNTER],
  // Mistakes are told without what was mistaken.
  half: [{ password: HUNTER }, HUNTER],
  "two ways": [{ token: HUNTER, nkey: SEED }, HUNTER, SEED],
  "mistyped nkey": [{ nkey: `${SEED.slice(0, -2)}AA` }, SEED.slice(0, -2)],
  "a number": [{ user: "app", password: 82_736_455 }, "82736455"],
  "a list": [{ token: [HUNTER] }, HUNTER],
  "comma in an address": [{ servers: `nats://app:${HUNTER},x@HOST` }, HUNTER],
  "comma in a token in an address": [{ servers: `nats://${HUNTER},x@HOST` }, HUNTER],
  "no user in an address": [{ servers: `nats://:${HUNTER}@HOST` }, HUNTER],
  "local and other addresses": [{ servers: `local:///nonexistent,nats://app:${HUNTER}@HOST` }, HUNTER],
  "at in an address": [{ servers: `nats://app:${HUNTER}@x@HOST` }, HUNTER],
  "scheme of an address": [{ servers: `http://app:${HUNTER}@HOST` }, HUNTER],
};

test("no secret in any message, repr or log line, at any level", async (t) => {
  const password = await startServer({ config: PASSWORD });
  t.after(() => password.stop());
  // In a process of its own: all it writes is seen.
  const code = `import { connect } from "nats-eventbus";
    import { inspect } from "node:util";
    process.on("warning", (w) => console.log(inspect(w)));
    for (const settings of JSON.parse(process.env.SETTINGS)) {
      try {
        const bus = await connect(settings);
        console.log(inspect(bus, { depth: 9, showHidden: true }), bus.server, bus.metrics(), JSON.stringify(bus.server));
        await bus.close();
      } catch (e) {
        console.log(String(e), inspect(e, { depth: 9, showHidden: true }), JSON.stringify(e), e.stack, e.cause);
      }
    }`;
  for (const [name, [settings, ...secrets]] of Object.entries(SECRETS)) {
    await t.test(name, async () => {
      // One that refuses, one that takes anyone, and one that is not there.
      const all = [password.port, server.port, 1].map((port) => ({
        ...settings,
        servers: (settings.servers ?? "nats://HOST").replaceAll("HOST", `127.0.0.1:${port}`),
      }));
      const run = spawn(process.execPath, ["--input-type=module", "-e", code], {
        env: { ...process.env, SETTINGS: JSON.stringify(all), RUST_LOG: "trace", NODE_DEBUG: "" },
      });
      let told = "";
      for (const stream of [run.stdout, run.stderr]) stream.on("data", (data) => (told += data));
      assert.deepEqual(await once(run, "close"), [0, null], told);
      assert.ok(told.length > 100);
      for (const secret of secrets) assert.ok(!told.includes(secret), `told in ${told}`);
    });
  }
});

test("no secret in the output of a process that an error ends, or where processes are seen", async (t) => {
  const password = await startServer({ config: PASSWORD });
  t.after(() => password.stop());
  // Everything it can tell: what is seen of it and of the server it starts, and how it ends.
  const code = `import { existsSync, readFileSync } from "node:fs";
    import { inspect } from "node:util";
    import { connect } from "nats-eventbus";
    const [folder, refusing] = process.argv.slice(1);
    const seen = (pid, what) => existsSync("/proc/self") && readFileSync("/proc/" + pid + "/" + what, "utf8");
    const bus = await connect("local://" + folder);
    const { pid } = JSON.parse(readFileSync(folder + "/.nats-eventbus/server.json", "utf8"));
    console.log(seen("self", "cmdline"), seen(pid, "cmdline"), seen(pid, "environ"), inspect(bus, { showHidden: true }));
    await bus.close();
    await connect(refusing);`;
  const kinds = {
    password: { NATS_USERNAME: "app", NATS_PASSWORD: HUNTER },
    token: { NATS_TOKEN: HUNTER },
    nkey: { NATS_NKEY_SEED: SEED },
    jwt: { NATS_JWT_TOKEN: JWT, NATS_NKEY_SEED: SEED },
    address: { NATS_SERVER_URL: `nats://app:${HUNTER}@127.0.0.1:1` },
  };
  for (const [name, secrets] of Object.entries(kinds)) {
    await t.test(name, async (u) => {
      const folder = mkdtempSync(join(tmpdir(), "eventbus-secrets-"));
      u.after(() => rmSync(folder, { recursive: true }));
      const run = spawn(process.execPath, ["--input-type=module", "-e", code, folder, password.url], {
        env: { ...process.env, RUST_LOG: "trace", RUST_BACKTRACE: "full", ...secrets },
      });
      let told = "";
      for (const stream of [run.stdout, run.stderr]) stream.on("data", (data) => (told += data));
      assert.deepEqual(await once(run, "close"), [1, null], told);
      assert.match(told, /AuthError/);
      assert.ok(told.includes("nats-server") || !existsSync("/proc/self"));
      for (const secret of [HUNTER, SEED, JWT]) assert.ok(!told.includes(secret), `told in ${told}`);
    });
  }
});

test("no secret of a credentials file that is broken: it is named, not shown", async (t) => {
  const folder = mkdtempSync(join(tmpdir(), "eventbus-creds-"));
  t.after(() => rmSync(folder, { recursive: true }));
  const file = join(folder, "svc.creds");
  for (const text of [SEED, `-----BEGIN NATS USER JWT-----\n${JWT}\n`, `-----BEGIN USER NKEY SEED-----\n${SEED}\n-`]) {
    writeFileSync(file, text);
    const e = await failed(connect({ servers: server.url, credentials: file }));
    assert.ok(e.message.includes(file), e.message);
    assert.ok(!inspect(e).includes(SEED) && !inspect(e).includes(JWT));
  }
});
