// The Node service: takes project and resource events, checks every id in them to the last digit, and answers each with
// an event on coze.workflow.{workflow_id}.indexed.
//
//     node service.mjs local://./data        (default: NATS_SERVER_URL)
//
// An event is acked only once its answer is stored. The answer's message id is made from the event's, so that an event
// delivered again, after a crash of the server or of this process, never leads to a second answer in the stream.
// Prints JSON lines: ready, progress, done. SIGTERM, or the end of their reader, makes it finish what it has in hand.

import { connect } from "nats-eventbus";

const INPUTS = [
  { topic: "opencoze_search_app", group: "cg_search_app", document: "project_document", id: "id" },
  { topic: "opencoze_search_resource", group: "cg_search_resource", document: "resource_document", id: "res_id" },
];
const WORKFLOWS = 50n;
const PROGRESS_MS = 500;

const handled = Object.fromEntries(INPUTS.map(({ topic }) => [topic, 0]));
const totals = { handled, redelivered: 0, repeated: 0, wrong: 0, failed: 0 };
const seen = new Set();
const producers = new Map();

const say = (event, fields = {}) => process.stdout.write(`${JSON.stringify({ event, ...fields })}\n`);

/** The producer of a topic, made once. */
function producer(topic) {
  if (!producers.has(topic)) producers.set(topic, bus.producer(topic));
  return producers.get(topic);
}

/** Whether every id was decoded exactly: as the digits in the body, and the document's own as the sender's text. */
function exact(text, event, input) {
  const document = event[input.document];
  const ids = [...text.matchAll(/"((?:\w+_)?id)":\s*(\d+)/g)];
  return (
    ids.length > 0 &&
    ids.every(([, name, digits]) => BigInt(document[name]) === BigInt(digits)) &&
    BigInt(document[input.id]) === BigInt(event.extra.id_text)
  );
}

/** Answers one event, then acks it. */
async function answer(m, input) {
  try {
    const event = m.json();
    const id = BigInt(event[input.document][input.id]);
    if (!exact(m.text(), event, input)) {
      totals.wrong += 1;
      m.term("an id was not decoded exactly");
      return;
    }
    const p = producer(`coze.workflow.${id % WORKFLOWS}.indexed`);
    const body = { workflow_id: id % WORKFLOWS, id, op: event.op_type, topic: m.topic };
    const ack = await p.send(body, { id: `indexed-${id}` });
    m.ack();
    if (ack.duplicate) totals.repeated += 1;
    if (seen.has(id)) totals.redelivered += 1;
    else handled[m.topic] += 1;
    seen.add(id);
  } catch (error) {
    totals.failed += 1;
    process.stderr.write(`${m.topic} ${m.id}: ${error}\n`);
    m.nak({ delay: "1s" });
  }
}

/** Takes events and answers them, many at once: how many is bounded by the durable's max ack pending. */
async function serve(consumer, input) {
  const running = new Set();
  for await (const m of consumer) {
    const task = answer(m, input).finally(() => running.delete(task));
    running.add(task);
  }
  await Promise.all(running);
}

const bus = await connect({
  servers: process.argv[2] ?? process.env.NATS_SERVER_URL,
  jetstream: true,
  name: "demo-service",
});
const consumers = await Promise.all(INPUTS.map(({ topic, group }) => bus.consumer(topic, { group })));
const progress = setInterval(() => say("progress", totals), PROGRESS_MS);
const stop = () => consumers.forEach((consumer) => void consumer.close());
process.once("SIGTERM", stop).once("SIGINT", stop);
process.stdout.once("error", stop).on("error", () => {}); // whoever started it is gone
say("ready");

await Promise.all(consumers.map((consumer, n) => serve(consumer, INPUTS[n])));
clearInterval(progress);
await bus.close();
say("done", totals);
process.exitCode = totals.wrong > 0 ? 1 : 0;
