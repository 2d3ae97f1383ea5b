// Contract: streams as operators have them: elsewhere, mirrored, full, gone.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import {
  ConfigError,
  ConflictError,
  connect,
  InvalidHeader,
  NotFoundError,
  NotSupportedError,
  Reject,
} from "nats-eventbus";
import { eventually, freePort, startServer } from "../support/server.mjs";
import { api } from "./raw.mjs";
import { failed, make, stored, streamOf } from "./world.mjs";

/** The reasons of all dead letters. */
async function reasons(letters) {
  const all = [];
  for await (const letter of letters) all.push(letter.reason);
  return all;
}

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

test("a domain reaches JetStream behind a leaf node: sending, consuming, dead letters", async (t) => {
  const port = await freePort();
  const hub = await startServer({
    jetstream: true,
    config: `jetstream { domain: hub }\nleafnodes { listen: "127.0.0.1:${port}" }`,
  });
  t.after(() => hub.stop());
  const leaf = await startServer({ config: `leafnodes { remotes: [{ url: "nats://127.0.0.1:${port}" }] }` });
  t.after(() => leaf.stop());
  const settings = { servers: leaf.url, jetstream: true };
  assert.ok((await failed(connect(settings))) instanceof NotFoundError);
  assert.ok((await failed(connect({ ...settings, domain: "hub", apiPrefix: "x" }))) instanceof ConfigError);
  const far = await connect({ ...settings, domain: "hub" });
  t.after(() => far.close());
  await far.producer("far").send("x");
  const c = await far.consumer("far", { group: "g" });
  const run = c.run(
    () => {
      throw new Reject("no");
    },
    { onError: () => {} },
  );
  const letters = () => reasons(far.deadLetters("far", { group: "g" }));
  await eventually(async () => (await letters()).length === 1, { what: "a dead letter" });
  assert.deepEqual(await letters(), ["no"]);
  await c.close();
  await run;
});

test("a stream by name, such as a mirror; its dead letters are found by its name", async (t) => {
  await make(server, "op.origin");
  const mirror = { name: "OP_MIRROR", mirror: { name: streamOf("op.origin") } };
  assert.equal((await api(server.port, "STREAM.CREATE.OP_MIRROR", mirror)).error, undefined);
  await bus.producer("op.origin").send("x");
  const c = await bus.consumer("op.origin", { group: "g", stream: "OP_MIRROR" });
  t.after(() => c.close());
  const m = await c.next();
  assert.deepEqual([c.stream, m.topic, m.text()], ["OP_MIRROR", "op.origin", "x"]);
  await m.ackConfirmed();
  const letters = bus.deadLetters("op.origin", { group: "g", stream: "OP_MIRROR" });
  assert.deepEqual(await reasons(letters), []);
  assert.ok((await failed(bus.consumer("op.origin", { group: "g", stream: "NONE" }))) instanceof NotFoundError);
});

test("a durable by name, with its own filters; without it the conflict says so", async (t) => {
  await make(server, "op.d.>", { name: "OP_D" });
  const config = { durable_name: "two", ack_policy: "explicit", filter_subjects: ["op.d.a", "op.d.b"] };
  const made = await api(server.port, "CONSUMER.DURABLE.CREATE.OP_D.two", { stream_name: "OP_D", config });
  assert.equal(made.error, undefined);
  for (const token of ["a", "b", "c"]) await bus.producer(`op.d.${token}`).send("x");
  const c = await bus.consumer("op.d.a", { group: "g", durable: "two" });
  t.after(() => c.close());
  const got = await c.fetch(2);
  assert.deepEqual(
    got.map((m) => m.topic),
    ["op.d.a", "op.d.b"],
  );
  for (const m of got) await m.ackConfirmed();
  const e = await failed(bus.consumer("op.d.a", { group: "two" }));
  assert.ok(e instanceof ConflictError && /\(durable\)/.test(e.message), String(e));
});

test("one stream a family where streamLayout asks for it", async (t) => {
  const b = await connect({ servers: server.url, jetstream: true, streamLayout: "family" });
  t.after(() => b.close());
  for (let n = 0; n < 3; n++) {
    const ack = await b.producer(`coze.agent.${n}.made`).send("x");
    assert.equal(ack.stream, "coze_agent_ALL_STREAM");
  }
  const c = await b.consumer("coze.agent.*.made", { group: "g" });
  assert.equal((await c.fetch(3)).length, 3);
});

test("a stream with fewer replicas than asked for warns, once", async (t) => {
  await make(server, "op.replicas");
  const b = await connect({ servers: server.url, jetstream: true, replicas: 3 });
  t.after(() => b.close());
  assert.deepEqual(b.warnings, []);
  await b.producer("op.replicas").send("x");
  await (await b.consumer("op.replicas", { group: "g" })).close();
  assert.equal(b.warnings.length, 1);
  assert.match(b.warnings[0], /op_replicas_STREAM/);
});

test("want of storage says what is reserved and what to do", async (t) => {
  const small = await startServer({ jetstream: true, config: "jetstream { max_file_store: 1500MB }" });
  t.after(() => small.stop());
  const b = await connect({ servers: small.url, jetstream: true });
  t.after(() => b.close());
  await b.producer("a").send("x");
  const e = await failed(b.producer("b").send("x"));
  assert.ok(e instanceof ConfigError && !e.retryable, String(e));
  assert.match(e.message, /reserve 1\.00 GiB already.*1 GiB.*stream_layout/);
});

test("a lost stream is declared again by a living producer", async () => {
  const p = bus.producer("op.lost");
  await p.send("1");
  await api(server.port, `STREAM.DELETE.${streamOf("op.lost")}`);
  const acks = await p.sendMany(["2", "3", "4"], { key: "k" });
  assert.deepEqual(
    acks.map((a) => a.sequence),
    [1, 2, 3],
  );
  assert.equal(await stored(server, streamOf("op.lost")), 3);
});

test("a stream's ack is never taken for a reply", async () => {
  await make(server, "op.ask");
  const e = await failed(bus.request("op.ask", "x"));
  assert.ok(e instanceof ConflictError && /a stream stores this topic/.test(e.message), String(e));
  assert.equal(e.stream, streamOf("op.ask"));
});

test("a ttl that would not be kept is refused before anything is stored", async () => {
  await make(server, "op.ttl");
  const p = bus.producer("op.ttl");
  for (let n = 0; n < 2; n++) {
    const e = await failed(p.send("x", { ttl: 5000 }));
    assert.ok(e instanceof NotSupportedError && /allow_msg_ttl/.test(e.message), String(e));
  }
  assert.equal(await stored(server, streamOf("op.ttl")), 0);
  assert.ok((await failed(p.send("x", { headers: { "Nats-TTL": "5" } }))) instanceof InvalidHeader);
});

test("core mode: what only JetStream has is a config error that names it", async (t) => {
  const core = await connect({ servers: server.url, jetstream: false });
  t.after(() => core.close());
  for (const options of [{ ttl: 5000 }, { id: "x" }, { expectedLastSequence: 1 }]) {
    const e = await failed(core.producer("op.core").send("x", options));
    assert.ok(e instanceof ConfigError && /jetstream on/.test(e.message), String(e));
  }
  const all = [{ maxDeliver: 3 }, { order: "stream" }, { deliver: "new" }, { stream: "S" }, { durable: "d" }];
  for (const options of all) {
    const e = await failed(core.consumer("op.core", { group: "g", ...options }));
    assert.ok(e instanceof ConfigError && /jetstream on/.test(e.message), String(e));
  }
});
