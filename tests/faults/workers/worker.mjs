// A worker as a process; settings and commands as in worker.py.
import { setTimeout as timer } from "node:timers/promises";
import { EventBusError, Reject, RetryAfter } from "nats-eventbus";
import { camel, commands, errorFields, finish, Ledger, opened, settings } from "./common.mjs";

const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));
const recurse = () => recurse() + 1;
/** What a process that a message kills by `exit` ends with. */
const CODE = 37;

/** Ends this process at once: `exit`, as a library that gives up, or `kill`, as the kernel when memory is short. */
function crash(how) {
  if (how === "exit") process.exit(CODE);
  process.kill(process.pid, "SIGKILL");
}

/**
 * Rejects with the AbortError of a controller of its own. By n: aborted at once, aborted while its work is awaited, and in
 * an error of several.
 */
async function aborted(n) {
  const inner = new AbortController();
  const work = timer(60_000, undefined, { signal: inner.signal });
  if (n % 3) inner.abort();
  else setTimeout(() => inner.abort(), 20);
  await work.catch((e) => {
    throw n % 3 === 2 ? new AggregateError([e], "aborted inside") : e;
  });
}

async function doAs(body, attempt, signal) {
  const [least, most] = settings.work;
  // Uneven, and the same in every run.
  if (most) await sleep(1000 * (least + ((most - least) * ((body.n * 7919) % 101)) / 100));
  switch (body.do) {
    case "raise":
      throw new Error("this one always fails");
    case "once":
      if (attempt === 1) throw new Error("this one fails once");
      break;
    case "reject":
      throw new Reject("this one is refused");
    case "later":
      if (attempt === 1) throw new RetryAfter(settings.later);
      break;
    case "panic":
      return recurse();
    case "inside":
      return aborted(body.n);
    case "inside once":
      if (attempt === 1) await aborted(body.n);
      break;
    case "crash":
      crash(settings.crash);
      break;
    case "hang":
      await new Promise((_, reject) => {
        signal.addEventListener("abort", () => reject(signal.reason));
      });
  }
}

let calls = 0;
/** Handles one message as its body asks. */
async function handle(m, { signal } = new AbortController()) {
  const [body, call] = [m.json(), calls++];
  const start = { key: m.key, n: body.n, from: body.from, seq: m.sequence, failures: m.failures };
  ledger.write("start", { call, id: m.id ?? body.id, attempt: m.attempt, ...start });
  let how = "raised";
  try {
    await doAs(body, m.attempt, signal);
    how = "ok";
  } catch (e) {
    if (e instanceof Reject) how = "rejected";
    if (e instanceof RetryAfter) how = "later";
    if (e === signal.reason) how = "cancelled";
    throw e;
  } finally {
    ledger.write("end", { call, how });
  }
}

/** Opens a consumer beside the first one, and closes it. */
async function openAnother(bus, { topic, ...more }) {
  ledger.write("opening");
  try {
    const consumer = await bus.consumer(topic, camel(more));
    ledger.write("opened");
    await consumer.close();
  } catch (e) {
    ledger.write("error", errorFields(e));
  }
}

/** What the rig asks for. */
async function obey(bus) {
  for await (const command of commands()) {
    if (command === "rest") ledger.rest(bus);
    else if (command === "health") await ledger.health(bus);
    else if (command.startsWith("open ")) await openAnother(bus, JSON.parse(command.slice(5)));
    else return void bus.close();
  }
}

/** Takes messages in a loop, acks each, and leaves the loop after the last one. */
async function leave(bus) {
  let taken = 0;
  for await (const m of await bus.consumer(topic, { group, ...camel(settings.consumer) })) {
    await handle(m);
    m.ack();
    if (++taken === settings.leave) break;
  }
}

const ledger = new Ledger("worker");
const { topic, group } = settings;
const bus = await opened(ledger);
const quiet = ledger.tellMetrics(bus);
// What handlers throw is in the ledger already.
if (!settings.leave) bus.on(topic, { group, onError: () => {}, ...camel(settings.consumer) }, handle);
void obey(bus);
ledger.write("ready");
try {
  await (settings.leave ? leave(bus) : bus.run());
} catch (e) {
  if (!(e instanceof EventBusError)) throw e;
  ledger.write("error", errorFields(e));
  process.exitCode = 3;
}
quiet();
ledger.metrics(bus);
await bus.close();
ledger.write("left");
finish();
