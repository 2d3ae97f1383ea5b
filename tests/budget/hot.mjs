// One hot path, over a number of messages: `hot.mjs WORKLOAD COUNT URL`. Says `ready` when the other side may start.
import { connect } from "nats-eventbus";

const TOPIC = "budget";
const BODY = Buffer.alloc(128, "x");
const WINDOW = 1000;

const open = (servers, jetstream = false) => connect({ servers, jetstream });

const workloads = {
  /** Each send a call of its own. */
  async core_publish(url, count) {
    const bus = await open(url);
    const p = bus.producer(TOPIC);
    for (let i = 0; i < count; i++) await p.send(BODY);
    await p.flush();
  },
  /** By `for await`. */
  async core_receive(url, count) {
    const bus = await open(url);
    const c = await bus.consumer(TOPIC, { group: "g" });
    process.stdout.write("ready\n");
    let n = 0;
    for await (const _ of c) if (++n === count) return;
  },
  /** A window at a time, with ids, as by default. */
  async js_publish(url, count) {
    const bus = await open(url, true);
    const p = bus.producer(TOPIC);
    for (let i = 0; i < count / WINDOW; i++) await Promise.all(Array.from({ length: WINDOW }, () => p.send(BODY)));
  },
  /** The same by `sendMany`. */
  async js_many(url, count) {
    const bus = await open(url, true);
    const p = bus.producer(TOPIC);
    for (let i = 0; i < count / WINDOW; i++) await p.sendMany(new Array(WINDOW).fill(BODY));
  },
  /** By `for await`, each acked. */
  async js_consume(url, count) {
    const bus = await open(url, true);
    const c = await bus.consumer(TOPIC, { group: "g" });
    let n = 0;
    for await (const m of c) {
      m.ack();
      if (++n === count) return;
    }
  },
};

const [workload, count, url] = process.argv.slice(2);
await workloads[workload](url, Number(count));
// What the end of the process costs is no message's.
process.reallyExit(0);
