// A Node producer or consumer for the interop tests, driven as ../go/main.go is: the same flags, the same lines.
import { createInterface } from "node:readline";
import { parseArgs } from "node:util";
import { parse, stringify } from "lossless-json";
import { connect } from "nats-eventbus";

const { positionals, values: o } = parseArgs({
  allowPositionals: true,
  options: {
    url: { type: "string" },
    topic: { type: "string" },
    group: { type: "string" },
    jetstream: { type: "boolean", default: false },
    count: { type: "string", default: "0" },
    nak: { type: "string", default: "0" },
  },
});

function exact(text) {
  const n = Number(text);
  return Number.isSafeInteger(n) ? n : BigInt(text);
}

// Not the package's own JSON: what it reads is checked by what this writes.
const print = (line) => process.stdout.write(`${stringify(line)}\n`);

async function produce(bus) {
  const producer = bus.producer(o.topic);
  const sends = [];
  for await (const line of createInterface({ input: process.stdin })) {
    const { key, bodies } = parse(line, null, exact);
    sends.push(producer.sendMany(bodies, key ? { key } : undefined));
  }
  for (const results of await Promise.all(sends)) {
    for (const result of results) {
      if (result instanceof Error) throw result;
      print({ stream: result?.stream, sequence: result?.sequence, duplicate: result?.duplicate ?? false });
    }
  }
  await producer.flush();
}

async function consume(bus) {
  const consumer = await bus.consumer(o.topic, { group: o.group });
  process.once("SIGTERM", () => consumer.close());
  print({ ready: true });
  let n = 0;
  for await (const m of consumer) {
    n += 1;
    const event = m.json();
    const id = event.project_document?.id ?? event.resource_document?.res_id ?? event.KnowledgeID;
    if (typeof id !== "bigint") throw new Error(`an id came as ${typeof id}: ${id}`);
    const failing = n <= Number(o.nak);
    if (failing) m.nak();
    else m.ack();
    const { topic, group, headers, key, attempt } = m;
    print({ topic, group, event, headers, key, attempt, settled: failing ? "nak" : "ack" });
    if (n === Number(o.count)) break;
  }
}

const bus = await connect({ servers: o.url, jetstream: o.jetstream });
try {
  await { produce, consume }[positionals[0]](bus);
} finally {
  await bus.close();
}
