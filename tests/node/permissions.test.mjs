// Issue 4, item 5, from Node: a denied publish or subscribe fails the very call concerned within 1 s.
import assert from "node:assert/strict";
import { test } from "node:test";
import { ConfigError, connect, NoResponders, PermissionError } from "nats-eventbus";
import { Clock } from "../support/clock.mjs";
import { eventually, startServer } from "../support/server.mjs";

const config = (permissions) =>
  `authorization { users = [ {user: "app", password: "right", permissions: { ${permissions} }}, {user: "admin", password: "right"} ] }`;

async function withServer(permissions, jetstream, body) {
  const server = await startServer({ jetstream, config: config(permissions) });
  try {
    await body(server, (more) => connect({ servers: server.url, user: "app", password: "right", ...more }));
  } finally {
    await server.stop();
  }
}

/** Rejects with a PermissionError that names the topic, within a second. */
async function denied(call, topic) {
  const clock = new Clock();
  await assert.rejects(call, (e) => {
    assert.ok(e instanceof PermissionError, String(e));
    assert.deepEqual([e.code, e.retryable], ["permission", false]);
    assert.ok(e.message.includes(topic), `${e.message} should name ${topic}`);
    return true;
  });
  assert.ok(clock.took() < 1000);
}

test("a denied send of each kind", async () => {
  await withServer('publish: {deny: ["t.secret"]}', true, async (_server, open) => {
    const bus = await open({ jetstream: true });
    await bus.declareStream("T", ["t.>"]);
    const p = bus.producer("t.secret");
    await denied(() => p.send("x"), "t.secret");
    p.sendNow("x");
    await denied(() => p.flush(), "t.secret");
    await denied(() => bus.request("t.secret", "x", { timeout: 30_000 }), "t.secret");
    const many = await p.sendMany(["a", "b"]);
    assert.ok(many.every((r) => r instanceof PermissionError && r.topic === "t.secret"));
    assert.equal((await bus.producer("t.open").send("x")).sequence, 1);
    await bus.close();
    const core = await open({ jetstream: false });
    const failed = [];
    const q = core.producer("t.secret", { onError: (e) => failed.push(e) });
    assert.equal(await q.send("x"), null);
    await q.flush();
    await eventually(() => failed.length === 1);
    assert.ok(failed[0] instanceof PermissionError);
    await core.close();
  });
});

test("a denied subscription fails the opening", async () => {
  await withServer('subscribe: {deny: ["private.>"]}', false, async (_server, open) => {
    const bus = await open();
    await denied(() => bus.consumer("private.a", { group: "g" }), "private.a");
    await denied(() => bus.respond("private.b", () => null), "private.b");
    await bus.close();
  });
  await withServer('subscribe: {deny: ["_INBOX.>"]}', false, async (_server, open) => {
    await denied(() => open(), "_INBOX.");
    const bus = await open({ inboxPrefix: "_INBOX_app" });
    await assert.rejects(bus.request("nobody"), NoResponders);
    await bus.close();
    await assert.rejects(open({ inboxPrefix: "a.*" }), ConfigError);
  });
});

test("rights lost while running end iteration and handlers with that error", async () => {
  await withServer("", false, async (server, open) => {
    const bus = await open();
    const events = bus.events();
    const c = await bus.consumer("t.x", { group: "g" });
    const handled = await bus.consumer("t.y", { group: "g" });
    const of = (topic) => (e) => e instanceof PermissionError && e.topic === topic;
    const running = assert.rejects(
      handled.run(() => assert.fail("nothing was sent")),
      of("t.y"),
    );
    const reading = assert.rejects(async () => {
      for await (const _ of c) assert.fail("nothing was sent");
    }, of("t.x"));
    server.reconfigure(config('subscribe: {deny: ["t.>"]}'));
    process.kill(server.pid, "SIGHUP");
    await Promise.all([reading, running]);
    const { value } = await events.next();
    assert.equal(value.kind, "permission_denied");
    assert.ok(["t.x", "t.y"].includes(value.topic));
    assert.equal(bus.state, "connected");
    await bus.close();
  });
});
