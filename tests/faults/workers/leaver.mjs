// A worker that ends in the middle of its work, with everything live; settings as in leaver.py. Ways: `exit`
// (process.exit in a handler), `loop` (process.exit in an iteration), `close` (nothing but the bus is closed).
import { connect } from "nats-eventbus";
import { Ledger, settings } from "./common.mjs";

const { servers, who, topic, group, after, way } = settings;
const ledger = new Ledger("worker");
const bus = await connect({ servers, jetstream: true, name: who });
const options = { group, prefetch: 50, concurrency: 4, maxDeliver: 1000 };
let calls = 0;

/** Handles one message, and says whether it is enough. */
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
  return calls >= after;
}

async function iterate(consumer) {
  for await (const m of consumer) {
    const enough = handle(m);
    m.ack();
    if (enough) process.exit(7);
  }
}

const producer = bus.producer(`${topic}.leavers`);
const sends = Promise.allSettled(Array.from({ length: 100 }, () => producer.send("x")));
bus.onEvent(() => {});
const consumer = await bus.consumer(topic, options);
if (way === "loop") await iterate(consumer);
const leave = way === "exit" ? () => process.exit(7) : () => void bus.close();
await consumer.run(async (m) => {
  if (handle(m)) leave();
});
await sends;
