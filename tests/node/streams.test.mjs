// Contract: streams, requests, and topics from untrusted parts.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { ConflictError, connect, InvalidTopic, NotFoundError, topic } from "nats-eventbus";
import { eventually, startServer } from "../support/server.mjs";
import { api } from "./raw.mjs";
import { failed, gate, make, open, stored, streamOf } from "./world.mjs";

let server;
let bus;
let core;
before(async () => {
  server = await startServer({ jetstream: true });
  bus = await connect({ servers: server.url, jetstream: true });
  core = await connect(server.url);
});
after(async () => {
  await bus?.close();
  await core?.close();
  await server?.stop();
});

test("an operator's stream is found by subject first, and used", async (t) => {
  await make(server, "s.wide.>", { name: "WIDE" });
  assert.equal((await bus.producer("s.wide.42.done").send("x")).stream, "WIDE");
  const c = await bus.consumer("s.wide.*.done", { group: "g" });
  t.after(() => c.close());
  const m = await c.next();
  assert.deepEqual([c.stream, m.stream, m.topic], ["WIDE", "WIDE", "s.wide.42.done"]);
  const names = (await bus.streams()).filter((s) => s.subjects.some((x) => x.startsWith("s.wide"))).map((s) => s.name);
  assert.deepEqual(names, ["WIDE"]);
});

test("a stream that is missing is declared as the platform declares it, and so is a durable", async () => {
  await bus.producer("s.platform.x").send("x");
  await (await bus.consumer("s.platform.x", { group: "cg" })).close();
  const { config } = await api(server.port, "STREAM.INFO.s_platform_x_STREAM");
  const want = {
    subjects: ["s.platform.x"],
    storage: "file",
    retention: "limits",
    max_age: 86_400e9,
    max_msgs: 1_000_000,
    max_bytes: 2 ** 30,
    num_replicas: 1,
    duplicate_window: 120e9,
  };
  assert.deepEqual(Object.fromEntries(Object.keys(want).map((k) => [k, config[k]])), want);
  const durable = (await api(server.port, "CONSUMER.INFO.s_platform_x_STREAM.cg")).config;
  assert.deepEqual(
    [durable.durable_name, durable.filter_subject, durable.ack_policy, durable.ack_wait, durable.max_deliver],
    ["cg", "s.platform.x", "explicit", 30e9, -1],
  );
});

test("declared with NATS_STREAM_REPLICAS: one server alone refuses 3, in its own words", async (t) => {
  process.env.NATS_STREAM_REPLICAS = "3";
  t.after(() => delete process.env.NATS_STREAM_REPLICAS);
  const three = await connect({ servers: server.url, jetstream: true });
  const one = await connect({ servers: server.url, jetstream: true, replicas: 1 });
  t.after(() => Promise.all([three.close(), one.close()]));
  const e = await failed(three.producer("s.replicas").send("x"));
  assert.match(e.server, /replicas/);
  await assert.rejects(three.consumer("s.replicas", { group: "g" }), /replicas/);
  assert.equal((await one.producer("s.replicas").send("x")).sequence, 1, "explicit beats environment");
});

test("declare: false makes a stream's absence an error, for one handle or the whole connection", async (t) => {
  const strict = await connect({ servers: server.url, jetstream: true, declare: false });
  t.after(() => strict.close());
  for (const [b, declare, name] of [
    [bus, false, "s.absent.here"],
    [strict, undefined, "s.absent.there"],
  ]) {
    const failing = [b.producer(name, { declare }).send("x"), b.consumer(name, { group: "g", declare })];
    for (const e of await Promise.all(failing.map(failed))) {
      assert.ok(e instanceof NotFoundError && e.topic === name && /declare/.test(e.message), String(e));
    }
    assert.ok(!(await b.streams()).some((s) => s.subjects.includes(name)));
    await make(server, name);
    assert.equal((await b.producer(name, { declare }).send("x")).sequence, 1, "one that is there is used");
  }
});

test("a name collision (a.b, a_b) is an error naming both topics and the stream", async () => {
  await bus.producer("s.same").send("x");
  const failing = [bus.producer("s_same").send("x"), bus.consumer("s_same", { group: "g" })];
  for (const e of await Promise.all(failing.map(failed))) {
    assert.ok(e instanceof ConflictError, String(e));
    assert.ok(e.message.includes("s.same") && e.message.includes("s_same"), e.message);
    assert.deepEqual([e.topic, e.stream], ["s_same", "s_same_STREAM"]);
  }
});

test("a stream is never altered unless asked: sending, consuming and declaring leave an odd one as it is", async () => {
  await make(server, "s.odd", { max_msgs: 17, storage: "memory", duplicate_window: 40e9, description: "theirs" });
  const config = async () => (await api(server.port, `STREAM.INFO.${streamOf("s.odd")}`)).config;
  const before = await config();
  await bus.producer("s.odd").send("x");
  const c = await bus.consumer("s.odd", { group: "g" });
  await (await c.next()).ackConfirmed();
  await c.close();
  assert.equal((await bus.declareStream(streamOf("s.odd"), ["s.odd"])).name, streamOf("s.odd"));
  await assert.rejects(bus.declareStream(streamOf("s.odd"), ["s.odd", "s.odd.more"]), ConflictError);
  assert.deepEqual(await config(), before);
  assert.equal(await stored(server, streamOf("s.odd")), 1);
});

test("responders of one group share the load: each request is answered by exactly one", async (t) => {
  const answered = [];
  for (const name of ["a", "b"]) {
    const other = await connect(server.url);
    t.after(() => other.close());
    const answer = (m) => {
      answered.push(m.json());
      return name;
    };
    await other.respond("s.share", answer, { group: "agents" });
  }
  const asks = Array.from({ length: 200 }, (_, n) => core.request("s.share", n));
  const by = new Set((await Promise.all(asks)).map((m) => m.text()));
  assert.deepEqual([...by].sort(), ["a", "b"]);
  assert.deepEqual(
    answered.toSorted((x, y) => x - y),
    Array.from({ length: 200 }, (_, n) => n),
  );
});

test("closing a responder lets its running requests finish, and leaves new ones to the others at once", async (t) => {
  const released = gate();
  let running = 0;
  const slow = await core.respond("s.closing", async () => {
    running += 1;
    await released.opened;
    return "slow";
  });
  const early = Promise.all([1, 2, 3, 4, 5].map(() => core.request("s.closing", "x")));
  await eventually(() => running === 5);
  const closing = slow.close();
  const other = await connect(server.url);
  t.after(() => other.close());
  await other.respond("s.closing", () => "quick");
  for (let n = 0; n < 20; n++) assert.equal((await core.request("s.closing", "x")).text(), "quick");
  assert.ok(await open(closing, 1));
  released.go();
  assert.ok((await early).every((m) => m.text() === "slow"));
  await closing;
});

test("$-prefixed and _INBOX roots are refused for publishing, requesting and building", async () => {
  for (const name of ["$SYS.REQ.x", "$JS.API.INFO", "$KV.agents.k", "_INBOX.abc", "_INBOX"]) {
    assert.throws(() => core.producer(name), InvalidTopic, name);
    await assert.rejects(core.request(name, "x"), InvalidTopic, name);
    assert.throws(() => topic(...name.split(".")), InvalidTopic, name);
  }
});

test("a token with ., *, >, white space or control characters is an error, and not escaped", () => {
  assert.equal(topic("coze", "workflow", 42, "done"), "coze.workflow.42.done");
  for (const bad of ["", ".", "a.b", "*", ">", "a*", "a b", "a\t", "a\r\nPUB x", "\0", "\x7f", "\u2003"]) {
    assert.throws(
      () => topic("coze", bad, "done"),
      (e) => e instanceof InvalidTopic && /token 2/.test(e.message),
      JSON.stringify(bad),
    );
  }
});

test("a stream's messages can be purged, all or some, and its consumers listed", async () => {
  const p = bus.producer("s.purged");
  for (let n = 0; n < 5; n++) await p.send({ n });
  const stream = bus.stream(streamOf("s.purged"));
  const c = await bus.consumer("s.purged", { group: "g" });
  await c.next();
  const [consumer] = await stream.consumers();
  assert.deepEqual([consumer.name, consumer.stream, consumer.topics], ["g", stream.name, ["s.purged"]]);
  assert.deepEqual([consumer.durable, consumer.ackWait, consumer.paused], [true, 30_000, false]);
  await c.close();
  assert.equal(await stream.purge({ topic: "s.purged", keep: 3 }), 2);
  assert.equal(await stream.purge({ before: 5 }), 2);
  assert.equal((await stream.info()).messages, 1);
  assert.equal(await stream.purge(), 1);
  await assert.rejects(stream.purge({ keep: 1, before: 2 }), { name: "ConfigError", message: /not both/ });
  await assert.rejects(stream.purge({ kept: 1 }), { name: "ConfigError", message: /no argument "kept"/ });
  await assert.rejects(bus.stream("NONE").consumers(), NotFoundError);
});
