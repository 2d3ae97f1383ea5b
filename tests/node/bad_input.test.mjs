// Bad input gives the right typed error within 2 s, and harms nothing: the table all languages share.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { after, before, test } from "node:test";
import { connect, EventBusError } from "nats-eventbus";
import { Clock } from "../support/clock.mjs";
import { startServer } from "../support/server.mjs";

const { cases } = JSON.parse(readFileSync(new URL("../shared/bad_input.json", import.meta.url), "utf8"));
const PASSWORD = 'authorization { users = [ {user: "app", password: "right"} ] }';

let servers;
before(async () => {
  servers = {
    jetstream: await startServer({ jetstream: true }),
    core: await startServer(),
    password: await startServer({ config: PASSWORD }),
  };
});
after(async () => {
  for (const server of Object.values(servers ?? {})) await server.stop();
});

async function attempt(bus, given) {
  const body = Buffer.alloc(given.body_size ?? 1, "x");
  const { headers } = given;
  const early = given.do.startsWith("send") ? bus.producer(given.topic) : undefined;
  if (given.closed) await bus.close();
  switch (given.do) {
    case "connect":
      return;
    case "send":
      return early.send(body, headers && { headers });
    case "send_nowait":
      return early.sendNow(body);
    case "consume":
      return bus.consumer(given.topic, { group: given.group });
    case "request":
      return bus.request(given.topic, body, { timeout: 1000 });
    default:
      throw new TypeError(`unknown: ${given.do}`);
  }
}

for (const given of cases) {
  test(given.name, async () => {
    const server = servers[given.server]?.url ?? "nats://127.0.0.1:1";
    const settings = { servers: server, jetstream: given.server === "jetstream", ...given.settings };
    const clock = new Clock();
    let bus;
    await assert.rejects(
      async () => {
        bus = await connect(settings);
        await attempt(bus, given);
      },
      (e) => {
        assert.ok(e instanceof EventBusError, String(e));
        assert.equal(e.code, given.code, e.message);
        assert.ok(!e.message.includes("wrong"), "no secret in an error");
        return true;
      },
    );
    assert.ok(clock.took() < 2000);
    if (bus && !given.closed) {
      // The connection lives on.
      await bus.producer("still.alive").send("x");
    }
    await bus?.close();
  });
}
