// Notices: what an operator should read, and failed consumers that stay in health until opened again or dismissed.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { ConfigError, connect, NotFoundError, Reject } from "nats-eventbus";
import { eventually, startServer } from "../support/server.mjs";
import { api } from "./raw.mjs";
import { failed, streamOf } from "./world.mjs";

let server;
before(async () => {
  server = await startServer({ jetstream: true });
});
after(() => server?.stop());

async function own(t, settings = {}) {
  const b = await connect({ servers: server.url, jetstream: true, ...settings });
  t.after(() => b.close());
  return b;
}

/** A run that ends because its stream is deleted. */
async function brokenRun(b, topic) {
  b.on(topic, { group: "g" }, () => {});
  const ended = failed(b.run());
  await eventually(async () => (await b.health()).consumers.length > 0);
  await api(server.port, `STREAM.DELETE.${streamOf(topic)}`);
  return ended;
}

test("onLog gets every notice with what it names, up to the one that the bus is closed", async (t) => {
  const notices = [];
  const b = await own(t, { onLog: (notice) => notices.push(notice) });
  const handler = () => {
    throw new Reject("no use");
  };
  const run = (await b.consumer("n.log", { group: "g" })).run(handler, { onError: () => {} });
  await b.producer("n.log").send("x");
  const letter = await eventually(() => notices.find((n) => n.kind === "dead_letter"));
  const { time, ...rest } = letter;
  assert.deepEqual(rest, {
    level: "warning",
    kind: "dead_letter",
    text: "sequence 1 became a dead letter: no use",
    topic: "n.log",
    group: "g",
    stream: "n_log_STREAM",
    missed: 0,
  });
  assert.ok(Math.abs(time.getTime() - Date.now()) < 60_000);
  assert.ok(notices.some((n) => n.level === "info" && n.kind === "stream_declared"));
  await b.close();
  await run;
  await eventually(() => notices.at(-1).kind === "closed");
});

test("what onLog throws is a process warning, and the next notice comes all the same", async (t) => {
  const warnings = [];
  const listen = (w) => warnings.push(w.message);
  process.on("warning", listen);
  t.after(() => process.off("warning", listen));
  let count = 0;
  const b = await own(t, {
    onLog: () => {
      count += 1;
      throw new Error("the log is full");
    },
  });
  await b.declareStream("N1", ["n.one"]);
  await b.declareStream("N2", ["n.two"]);
  await b.close();
  await eventually(() => count >= 2 && warnings.filter((w) => /onLog failed.*the log is full/.test(w)).length >= 2);
  await assert.rejects(connect({ servers: server.url, onLog: "console" }), ConfigError);
});

test("without onLog warnings and errors are process warnings, infos go nowhere", async (t) => {
  const warnings = [];
  const listen = (w) => warnings.push(w);
  process.on("warning", listen);
  t.after(() => process.off("warning", listen));
  const b = await own(t);
  await brokenRun(b, "n.default");
  const told = await eventually(() => warnings.find((w) => w.message.includes('topic "n.default"')));
  assert.equal(told.name, "EventBusWarning");
  assert.match(told.message, /group "g", stream "n_default_STREAM"\]$/);
  assert.ok(!warnings.some((w) => /declared/.test(w.message)));
});

test("a consumer whose run has failed stays in health until it is dismissed", async (t) => {
  const b = await own(t, { onLog: () => {} });
  assert.ok((await brokenRun(b, "n.dismiss")) instanceof NotFoundError);
  const broken = await b.health();
  assert.deepEqual([broken.ok, broken.alive], [false, false]);
  assert.deepEqual([broken.consumers[0].topic, broken.consumers[0].code], ["n.dismiss", "not_found"]);
  assert.equal(b.dismiss("another"), 0);
  assert.equal(b.dismiss("n.dismiss", { group: "another" }), 0);
  assert.equal(b.dismiss("n.dismiss", { group: "g" }), 1);
  assert.ok((await b.health()).ok);
  assert.throws(() => b.dismiss(5), ConfigError);
});

test("a consumer whose run has failed stays in health until it is opened again", async (t) => {
  const b = await own(t, { onLog: () => {} });
  await brokenRun(b, "n.again");
  assert.equal((await b.health()).ok, false);
  await b.consumer("n.again", { group: "g" });
  assert.ok((await b.health()).ok);
});
