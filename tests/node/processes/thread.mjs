// A thread with a bus of its own; `workerData`: the server's address, a topic, how it is to end.
import { parentPort, workerData } from "node:worker_threads";
import { connect } from "nats-eventbus";

const { servers, topic, how } = workerData;
const bus = await connect({ servers, jetstream: true });
const producer = bus.producer(topic, { maxInFlight: 200 });
const consumer = await bus.consumer(topic, { group: "g" });
let handled = 0;
let over = false;

const sending = (async () => {
  while (!over) await Promise.allSettled(Array.from({ length: 50 }, () => producer.send("x")));
})();
/** The rare calls, so that a thread is terminated with promises of the core pending, too. */
const calling = (async () => {
  while (!over) await bus.streams().catch(() => {});
})();

await consumer.run(async () => {
  handled += 1;
  if (handled !== 50) return;
  parentPort.postMessage("flows");
  if (how === "process.exit") process.exit(7);
  if (how === "throw") setImmediate(() => Promise.reject(new Error("the end of a thread")));
  if (how === "close") {
    over = true;
    void Promise.all([sending, calling]).then(() => bus.close());
  }
});
