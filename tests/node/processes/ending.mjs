// A process that ends in one of several ways; arguments: the server's address, a topic, how. What it prints is looked at.
import { connect } from "nats-eventbus";

const [servers, topic, how] = process.argv.slice(2);
const open = () => connect({ servers, jetstream: true });

/** Everything there is, live and at work; resolves when messages flow. */
async function busy(handled = () => {}) {
  const bus = await open();
  const producer = bus.producer(topic);
  const iterated = await bus.consumer(topic, { group: "iterated" });
  const run = (await bus.consumer(topic, { group: "run", concurrency: 4 })).run(async () => handled());
  await bus.respond(`${topic}.ask`, () => "yes");
  bus.onEvent(() => {});
  const flows = (async () => {
    for await (const m of iterated) return m.ack();
  })();
  const iterating = (async () => {
    for await (const m of await bus.consumer(topic, { group: "more" })) m.ack();
  })();
  const sends = Promise.all(Array.from({ length: 500 }, () => producer.send("x")));
  const asks = Promise.all(Array.from({ length: 20 }, () => bus.request(`${topic}.ask`)));
  // What is cut off by closing is looked at elsewhere.
  for (const p of [run, iterating, sends, asks]) p.catch(() => {});
  await flows;
  return { bus, producer, iterating, run };
}

const ways = {
  "process.exit": async () => {
    await busy();
    process.exit(7);
  },
  "process.exit in a handler": () => busy(() => process.exit(7)),
  "process.exit while connecting": async () => {
    for (let n = 0; n < 5; n++) void open();
    await open();
    process.exit(7);
  },
  "process.exit while closing": async () => {
    const { bus } = await busy();
    void bus.close();
    setImmediate(() => process.exit(7));
  },
  "an exception": async () => {
    await busy();
    throw new Error("the end");
  },
  "an exit listener": async () => {
    const { bus, producer } = await busy();
    process.on("exit", () => {
      // Too late to wait for anything, and no harm.
      producer.sendNow("x");
      void bus.close();
      process.stdout.write(bus.state);
    });
    process.exit(7);
  },
  closed: async () => {
    const { bus } = await busy();
    await bus.close();
  },
  "closed, not waited for": async () => {
    const { bus } = await busy();
    void bus.close();
  },
  "closed by await using": async () => {
    const bus = await open();
    await bus.producer(topic).send("x");
    await bus[Symbol.asyncDispose]();
  },
  "never connected": async () => {
    await connect({ servers: "nats://127.0.0.1:1", connectTimeout: 200 }).catch((e) => process.stdout.write(e.code));
  },
  "idle, not closed": async () => {
    await open();
    // By itself this timer keeps nothing: only a process that lives for another reason sees it.
    setTimeout(() => {
      process.stdout.write("alive");
      process.exit(0);
    }, 500).unref();
  },
};

await ways[how]();
