// Contract, consuming: durables that exist are bound as they are; new ones have what was given.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { ConfigError, ConflictError, connect } from "nats-eventbus";
import { eventually, startServer } from "../support/server.mjs";
import { api } from "./raw.mjs";

let server;
let bus;
before(async () => {
  server = await startServer({ jetstream: true });
  bus = await connect({ servers: server.url, jetstream: true });
  await bus.declareStream("S", ["d.*"]);
});
after(async () => {
  await bus?.close();
  await server?.stop();
});

async function durable(name, config) {
  const body = { stream_name: "S", config: { durable_name: name, ack_policy: "explicit", ...config } };
  const made = await api(server.port, `CONSUMER.DURABLE.CREATE.S.${name}`, body);
  assert.equal(made.error, undefined);
}
const config = async (name) => (await api(server.port, `CONSUMER.INFO.S.${name}`)).config;

test("an existing durable is bound as it is; settings given that differ are an error naming each field", async () => {
  await durable("bound", { filter_subject: "d.a", ack_wait: 5e9, max_ack_pending: 7, max_deliver: 2 });
  const before = await config("bound");
  await (await bus.consumer("d.a", { group: "bound" })).close();
  const given = { ackWait: "9s", maxAckPending: 70, deliver: "new", maxDeliver: 5 };
  const failed = await bus.consumer("d.b", { group: "bound", ...given }).catch((e) => e);
  assert.ok(failed instanceof ConflictError, String(failed));
  assert.deepEqual([failed.code, failed.topic, failed.stream, failed.group], ["conflict", "d.b", "S", "bound"]);
  for (const field of ["filter_subject", "ack_wait", "max_ack_pending", "deliver_policy", "max_deliver"]) {
    assert.ok(failed.message.includes(field), `${field} in ${failed.message}`);
  }
  const same = { ackWait: 5000, maxAckPending: 7, deliver: "all", maxDeliver: 2 };
  await (await bus.consumer("d.a", { group: "bound", ...same })).close();
  assert.deepEqual(await config("bound"), before, "a durable is never altered unasked");
});

test("… or updated, if asked", async () => {
  await durable("updated", { filter_subject: "d.a", description: "ours" });
  const given = { group: "updated", ackWait: 9000, order: "stream", update: true };
  await (await bus.consumer("d.b", given)).close();
  const { ack_wait, max_ack_pending, filter_subject, description } = await config("updated");
  assert.deepEqual([ack_wait, max_ack_pending, filter_subject, description], [9e9, 1, "d.b", "ours"]);
  await assert.rejects(
    bus.consumer("d.b", { ...given, deliver: "last" }),
    (e) => e instanceof ConflictError && /deliver_policy/.test(e.message),
  );
});

test("settings the user did not give adapt to the durable's: its max deliver is the last attempt", async () => {
  await durable("adapted", { filter_subject: "d.poison", max_deliver: 2 });
  await bus.producer("d.poison").send("x");
  const c = await bus.consumer("d.poison", { group: "adapted", backoff: { initial: 10 } });
  const before = bus.metrics().deadLetters;
  const attempts = [];
  const run = c.run(
    (m) => {
      attempts.push(m.attempt);
      throw new Error("boom");
    },
    { onError: () => {} },
  );
  await eventually(() => bus.metrics().deadLetters === before + 1, { what: "a dead letter" });
  await c.close();
  await run;
  assert.deepEqual(attempts, [1, 2]);
});

test("a new durable begins where asked, and has the settings given", async (t) => {
  await bus.producer("d.new").sendMany(["1", "2"]);
  const first = async (deliver, group) => {
    const c = await bus.consumer("d.new", { group, deliver, ackWait: 7000, maxAckPending: 5 });
    t.after(() => c.close());
    return c;
  };
  assert.equal((await (await first("last", "last")).next()).text(), "2");
  assert.equal((await (await first("last_per_subject", "each")).next()).text(), "2");
  assert.equal((await (await first("all", "all")).next()).text(), "1");
  const c = await first("new", "new");
  await bus.producer("d.new").send("3");
  assert.equal((await c.next()).text(), "3");
  const { ack_wait, max_ack_pending, deliver_policy } = await config("new");
  assert.deepEqual([ack_wait, max_ack_pending, deliver_policy], [7e9, 5, "new"]);
});

test("settings of a durable that are none are config errors", async () => {
  for (const wrong of [
    { deliver: "soon" },
    { ackWait: 5 },
    { ackWait: "x" },
    { maxAckPending: 0 },
    { update: "yes" },
  ]) {
    const [name] = Object.keys(wrong);
    const snake = name.replace(/[A-Z]/g, (c) => `_${c.toLowerCase()}`);
    await assert.rejects(
      bus.consumer("d.bad", { group: "bad", ...wrong }),
      (e) => e instanceof ConfigError && e.message.includes(snake),
    );
  }
});
