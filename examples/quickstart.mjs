// Sends three messages and receives them, on an embedded server: node quickstart.mjs [local://DIR]

import { connect, topic } from "nats-eventbus";

const TOPIC = topic("coze", "workflow", "42", "done");
const COUNT = 3;

const bus = await connect({
  servers: process.argv[2] ?? "local://./data",
  jetstream: true,
  name: "quickstart",
});
try {
  const producer = bus.producer(TOPIC);
  for (let n = 0; n < COUNT; n += 1) {
    const ack = await producer.send({ title: "你好", n, id: 7412281404246959965n }, { key: "doc-7" });
    console.log("stored", ack);
  }

  const consumer = await bus.consumer(TOPIC, { group: "quickstart" });
  for (const m of await consumer.fetch(COUNT)) {
    console.log("received", m.json(), "key", m.key, "attempt", m.attempt);
    m.ack();
  }
} finally {
  await bus.close();
}
