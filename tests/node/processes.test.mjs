// Processes and threads: how a process ends with everything live, what keeps it, and worker threads that come and go.
import assert from "node:assert/strict";
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, readdirSync } from "node:fs";
import { after, before, test } from "node:test";
import { Worker } from "node:worker_threads";
import { connect } from "nats-eventbus";
import { eventually, startServer } from "../support/server.mjs";

let server;
before(async () => {
  server = await startServer({ jetstream: true });
});
after(() => server?.stop());

const file = (name) => new URL(`./processes/${name}`, import.meta.url);

/** Runs a process to its end: `[code, stdout, stderr]`; one that does not end in time is killed. */
async function ends(how, topic) {
  const child = spawn(process.execPath, [file("ending.mjs").pathname, server.url, topic, how], { timeout: 20_000 });
  const out = ["", ""];
  child.stdout.on("data", (d) => (out[0] += d));
  child.stderr.on("data", (d) => (out[1] += d));
  const [code, signal] = await once(child, "close");
  return [code ?? signal, ...out];
}

/** The same way, some processes, two at a time; each must end so. */
async function allEnd(how, expected, times = 4) {
  for (let n = 0; n < times; n += 2) {
    const topic = `p.${how.replace(/\W+/g, "_")}.${n}`;
    for (const end of await Promise.all([ends(how, `${topic}.a`), ends(how, `${topic}.b`)])) {
      assert.deepEqual(end, expected);
    }
  }
}

test("process.exit with everything live is clean", () => allEnd("process.exit", [7, "", ""]));
test("process.exit in a handler is clean", () => allEnd("process.exit in a handler", [7, "", ""]));
test("process.exit while connecting is clean", () => allEnd("process.exit while connecting", [7, "", ""]));
test("process.exit while closing is clean", () => allEnd("process.exit while closing", [7, "", ""]));
test("an exit listener may use the bus", () => allEnd("an exit listener", [7, "connected", ""], 2));
test("an exception that nobody catches is told, and nothing else", async () => {
  const [code, , told] = await ends("an exception", "p.exception");
  assert.equal(code, 1);
  assert.match(told, /Error: the end\n/);
  assert.doesNotMatch(told, /panic|fatal|abort/i);
});

test("a closed bus lets the process end", () => allEnd("closed", [0, "", ""]));
test("a bus that is closing keeps the process until it is closed", () =>
  allEnd("closed, not waited for", [0, "", ""], 2));
test("await using lets the process end", () => allEnd("closed by await using", [0, "", ""], 2));
test("a failed connect keeps nothing alive", () => allEnd("never connected", [0, "connection", ""], 2));
test("an open bus keeps the process alive, also an idle one", () => allEnd("idle, not closed", [0, "alive", ""], 2));

/** Open descriptors of this process; 0 where the system does not tell. */
const descriptors = () => (existsSync("/proc/self/fd") ? readdirSync("/proc/self/fd").length : 0);

/** Threads in traffic, two at a time, while this thread's own bus is in traffic, too. */
async function threads(t, how, exit, times = 4) {
  const bus = await connect({ servers: server.url, jetstream: true });
  t.after(() => bus.close());
  const topic = `p.threads.${how.replace(/\W+/g, "_")}`;
  const producer = bus.producer(topic);
  const [sent, got] = [new Set(), new Set()];
  let over = false;
  const run = (await bus.consumer(topic, { group: "g" })).run(async (m) => void got.add(m.text()));
  const sending = (async () => {
    for (let n = 0; !over; n++) {
      await producer.send(`${n}`);
      sent.add(`${n}`);
    }
  })();
  let held;
  for (let n = 0; n < times; n++) {
    const workers = [0, 1].map((k) => {
      const workerData = { servers: server.url, topic: `${topic}.thread${k}`, how };
      return new Worker(file("thread.mjs"), { workerData, stderr: true });
    });
    // Not `once` of node:events, which an error fails: here it is expected.
    const first = (name) => workers.map((w) => new Promise((resolve) => w.once(name, resolve)));
    const [exits, errors, flows] = [first("exit"), first("error"), first("message")];
    await Promise.all(flows);
    if (how === "terminate") await Promise.all(workers.map((w) => w.terminate()));
    for (const code of await Promise.all(exits)) assert.equal(code, exit);
    if (how === "throw") for (const e of await Promise.all(errors)) assert.equal(e.message, "the end of a thread");
    // Their connections end with them; the first round also loads what stays.
    held ??= descriptors();
    await eventually(() => descriptors() <= held, { what: `${held} descriptors, not ${descriptors()}` });
  }
  over = true;
  await sending;
  await eventually(() => [...sent].every((n) => got.has(n)), { what: "all that was acked to be handled" });
  assert.ok(sent.size > 10 && bus.state === "connected" && bus.metrics().reconnects === 0);
  await bus.close();
  await run;
}

test("threads that are terminated at work leave nothing, and others go on", (t) => threads(t, "terminate", 1, 8));
test("a thread that closes its bus ends by itself", (t) => threads(t, "close", 0));
test("process.exit in a thread ends that thread alone", (t) => threads(t, "process.exit", 7));
test("an exception in a thread ends that thread alone", (t) => threads(t, "throw", 1));

test("a thread may be terminated at any moment of connecting", async () => {
  for (let n = 0; n < 8; n++) {
    const workerData = { servers: server.url, topic: `p.early.${n}`, how: "terminate" };
    const workers = [0, 1, 2].map(() => new Worker(file("thread.mjs"), { workerData }));
    await Promise.all(workers.map((w) => once(w, "online")));
    // Some are just loading, some connect, some are connected.
    for (let turns = 0; turns < n * 200; turns++) await new Promise(setImmediate);
    assert.deepEqual(await Promise.all(workers.map((w) => w.terminate())), [1, 1, 1]);
  }
});
