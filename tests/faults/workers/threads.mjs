// A worker whose threads are workers, too, each with a bus of its own: two at a time, round after round. One is
// terminated in the middle of its work, the other one closes its bus and ends. Settings as in worker.py, and `after`
// (messages a thread handles first). Commands: `threads N` (so many rounds, then `settled` is written), `rest`, `close`.
import { once } from "node:events";
import { isMainThread, parentPort, threadId, Worker } from "node:worker_threads";
import { connect } from "nats-eventbus";
import { camel, commands, finish, Ledger, settings } from "./common.mjs";

const { servers, who, topic, group, after } = settings;
const ledger = new Ledger("worker");
const bus = await connect({ servers, jetstream: true, name: who });
let calls = threadId * 1_000_000;
let handled = 0;

function handle(m) {
  const [body, call] = [m.json(), calls++];
  ledger.write("start", {
    call,
    id: m.id,
    attempt: m.attempt,
    key: m.key,
    n: body.n,
    from: body.from,
    seq: m.sequence,
  });
  ledger.write("end", { call, how: "ok" });
  handled += 1;
  if (handled === after) parentPort?.postMessage("enough");
}

const consumer = await bus.consumer(topic, { group, ...camel(settings.consumer) });
const running = consumer.run(async (m) => handle(m));

async function round() {
  const threads = [0, 1].map(() => new Worker(new URL(import.meta.url), { argv: process.argv.slice(2) }));
  const ends = threads.map((thread) => once(thread, "exit"));
  await Promise.all(threads.map((thread) => once(thread, "message")));
  threads[1].postMessage("close");
  await threads[0].terminate();
  const [[terminated], [closed]] = await Promise.all(ends);
  if (terminated !== 1 || closed !== 0) ledger.write("error", { code: "thread", text: `${terminated}, ${closed}` });
  ledger.write("round");
}

async function obey() {
  for await (const line of commands()) {
    const [command, count] = line.split(" ");
    if (command === "threads") {
      for (let n = 0; n < Number(count); n++) await round();
      ledger.write("settled");
    } else if (command === "rest") ledger.rest(bus);
    else break;
  }
  await bus.close();
}

if (isMainThread) {
  process.once("SIGTERM", () => void bus.close());
  const quiet = ledger.tellMetrics(bus);
  void obey();
  ledger.write("ready");
  await running;
  quiet();
  ledger.metrics(bus);
  await bus.close();
  ledger.write("left");
  finish();
} else {
  // Nothing but the bus keeps this thread.
  parentPort.once("message", () => void bus.close());
  parentPort.unref();
  await running;
}
