// Contract, consuming: a dead letter can be listed, replayed to its group alone, and discarded.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { inspect } from "node:util";
import { ConfigError, connect, DeadLetter, DecodeError, InvalidTopic, NotFoundError, Reject } from "nats-eventbus";
import { eventually, startServer } from "../support/server.mjs";
import { api } from "./raw.mjs";

const BIG = 7512345678901234567n;
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

async function send(b, topic, bodies, ids = "evt") {
  const p = b.producer(topic);
  for (const [i, body] of bodies.entries()) {
    await p.send(body, { id: `${ids}-${i + 1}`, key: "doc", headers: { tenant: "t1" } });
  }
}

/** Makes dead letters of the next `n` messages of the group. */
async function rejectAll(b, topic, group, n, reason = "no use") {
  const before = b.metrics().deadLetters;
  const c = await b.consumer(topic, { group });
  const run = c.run(
    () => {
      throw new Reject(reason);
    },
    { onError: () => {} },
  );
  await eventually(() => b.metrics().deadLetters === before + n, { what: `${n} dead letters` });
  await c.close();
  await run;
}

async function list(dlq) {
  const out = [];
  for await (const letter of dlq) out.push(letter);
  return out;
}

test("a dead letter has body, headers and why", async () => {
  const started = Date.now();
  await send(bus, "dl.list", [{ id: BIG }, Buffer.from([0xff])]);
  await rejectAll(bus, "dl.list", "g", 2);
  const dlq = bus.deadLetters("dl.list", { group: "g" });
  assert.deepEqual([dlq.topic, dlq.group], ["dl.list", "g"]);
  assert.equal(inspect(dlq), '<DeadLetters topic="dl.list" group="g">');
  const [one, two] = await list(dlq);
  assert.ok(one instanceof DeadLetter);
  assert.deepEqual(
    [one.topic, one.stream, one.sequence, one.group, one.reason, one.attempts, one.key, one.id, one.truncated],
    ["dl.list", "dl_list_STREAM", 1, "g", "no use", 1, "doc", "evt-1", undefined],
  );
  assert.deepEqual(one.headers, { tenant: "t1" });
  assert.ok(one.time >= started - 1000 && one.time <= Date.now() + 1000, String(one.time));
  assert.ok(Buffer.isBuffer(one.body));
  assert.deepEqual([one.text(), one.json()], [`{"id":${BIG}}`, { id: BIG }]);
  assert.match(
    inspect(one),
    /<DeadLetter topic="dl.list" group="g" sequence=1 attempts=1 reason="no use" body=26 bytes>/,
  );
  assert.ok(two.position > one.position);
  assert.throws(() => two.text(), DecodeError);
  assert.throws(() => two.json(), DecodeError);
});

test("it can be replayed to its group alone, as the message it was", async (t) => {
  await send(bus, "dl.replay", ["one", "two"]);
  await rejectAll(bus, "dl.replay", "g", 2);
  const other = await bus.consumer("dl.replay", { group: "other" });
  t.after(() => other.close());
  for (let i = 0; i < 2; i++) await (await other.next()).ackConfirmed();
  const dlq = bus.deadLetters("dl.replay", { group: "g" });
  const [one, two] = await list(dlq);
  assert.equal(await one.replay(), undefined);
  await one.replay(); // the same again is the same
  assert.deepEqual(
    (await list(dlq)).map((l) => l.id),
    ["evt-2"],
    "what was replayed is listed no more",
  );
  const c = await bus.consumer("dl.replay", { group: "g" });
  t.after(() => c.close());
  const m = await c.next();
  assert.deepEqual(
    [m.topic, m.text(), m.id, m.key, m.attempt, m.sequence, m.headers.tenant, m.headers["Dlq-Reason"]],
    ["dl.replay", "one", "evt-1", "doc", 1, 1, "t1", undefined],
  );
  await m.ackConfirmed();
  assert.equal(await dlq.replay(), 1);
  const second = await c.next();
  assert.equal(second.text(), "two");
  await second.ackConfirmed();
  assert.equal(two.id, "evt-2");
  assert.deepEqual(await list(dlq), []);
  const info = await api(server.port, "CONSUMER.INFO.dl_replay_STREAM.other");
  assert.deepEqual([info.delivered.consumer_seq, info.num_pending], [2, 0], "no other group sees it");
});

test("a replay that fails again is a dead letter again; all are discarded", async () => {
  const dlq = bus.deadLetters("dl.again", { group: "g" });
  await send(bus, "dl.again", ["a", "b", "c"]);
  assert.deepEqual([await list(dlq), await dlq.replay(), await dlq.discard()], [[], 0, 0], "none yet is no error");
  await rejectAll(bus, "dl.again", "g", 3);
  assert.equal(await dlq.replay(), 3);
  await rejectAll(bus, "dl.again", "g", 3, "still no use");
  const letters = await list(dlq);
  assert.deepEqual(letters.map((l) => `${l.text()}: ${l.reason}`).sort(), [
    "a: still no use",
    "b: still no use",
    "c: still no use",
  ]);
  assert.deepEqual([await letters[1].discard(), await letters[1].discard()], [true, false]);
  assert.equal(await dlq.discard(), 2);
  assert.deepEqual(await list(dlq), []);
});

test("leaving the list early, and the letters of one topic of several", async () => {
  await bus.declareStream("W", ["dl.w.>"]);
  for (const topic of ["dl.w.a", "dl.w.b"]) await send(bus, topic, ["1", "2"], topic);
  await rejectAll(bus, "dl.w.*", "g", 4);
  const texts = (await list(bus.deadLetters("dl.w.b", { group: "g" }))).map((l) => `${l.topic} ${l.text()}`);
  assert.deepEqual(texts, ["dl.w.b 1", "dl.w.b 2"]);
  for await (const letter of bus.deadLetters("dl.w.*", { group: "g" })) {
    assert.equal(await letter.discard(), true);
    break;
  }
  assert.equal(await bus.deadLetters("dl.w.*", { group: "g" }).discard(), 3);
});

test("a body too large to be kept is replayed from the stream", async (t) => {
  const small = await startServer({ jetstream: true, config: "max_payload: 2048" });
  t.after(() => small.stop());
  const b = await connect({ servers: small.url, jetstream: true });
  t.after(() => b.close());
  await send(b, "dl.large", [Buffer.alloc(1600, "x"), Buffer.alloc(1600, "y")]);
  await rejectAll(b, "dl.large", "g", 2, "a long reason. ".repeat(40));
  const [one, two] = await list(b.deadLetters("dl.large", { group: "g" }));
  assert.deepEqual([one.truncated, one.body.length], [1600, 0]);
  assert.match(inspect(one), /1600 bytes, not kept/);
  await one.replay();
  const c = await b.consumer("dl.large", { group: "g" });
  t.after(() => c.close());
  const m = await c.next();
  assert.deepEqual([m.body.length, m.headers.tenant], [1600, "t1"]);
  m.ack();
  await api(small.port, "STREAM.PURGE.dl_large_STREAM");
  await assert.rejects(two.replay(), NotFoundError);
});

test("bad input is a typed error", async (t) => {
  for (const options of [undefined, {}, { group: "" }, { group: 5 }, { group: "a.b" }]) {
    assert.throws(() => bus.deadLetters("dl.bad", options), ConfigError);
  }
  assert.throws(() => bus.deadLetters("a..b", { group: "g" }), InvalidTopic);
  const core = await connect(server.url);
  t.after(() => core.close());
  assert.throws(() => core.deadLetters("dl.bad", { group: "g" }), ConfigError);
  const closed = await connect({ servers: server.url, jetstream: true });
  const dlq = closed.deadLetters("dl.bad", { group: "g" });
  await closed.close();
  assert.throws(() => closed.deadLetters("dl.bad", { group: "g" }), { code: "closed" });
  await assert.rejects(dlq.discard(), (e) => e.code !== undefined);
});
