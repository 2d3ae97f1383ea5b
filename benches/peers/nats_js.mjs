// nats.js, as its documentation shows it.

import { jetstream } from "@nats-io/jetstream";
import { connect, headers } from "@nats-io/transport-node";
import { bursts, CREDIT, Marks, payload, ready, rest, roundTrips, run } from "./harness.mjs";
import { Journey } from "./journey.mjs";

const open = (spec) => connect({ servers: spec.url });

/** Messages published before the loop must turn, for nothing is written until then. */
const TURN = 10_000;

async function core_publish(spec) {
  const nc = await open(spec);
  const body = payload(spec);
  const chunk = Math.max(Math.min(TURN, Math.floor(4_000_000 / body.length)), 1);
  const send = async (n) => {
    for (let i = 0; i < n; i++) nc.publish(spec.subject, body);
    await nc.flush();
  };
  return bursts(spec, send, () => nc.flush(), chunk);
}

async function js_publish(spec) {
  const nc = await open(spec);
  const js = jetstream(nc);
  const body = payload(spec);
  let at = 0;
  const options = () => {
    if (spec.ids) return { msgID: `bench.${at++}` };
    if (!spec.keys) return undefined;
    const more = headers();
    more.set("Sharding-Key", `key-${at++ % spec.keys}`);
    return { headers: more };
  };
  const each = async (n) => {
    for (let i = 0; i < n; i++) await js.publish(spec.subject, body, options());
  };
  const gather = (n) => Promise.all(Array.from({ length: n }, () => js.publish(spec.subject, body, options())));
  const [send, chunk] = spec.mode === "gather" ? [gather, spec.window] : [each, 64];
  return bursts(spec, send, () => nc.flush(), chunk);
}

async function core_receive(spec) {
  const nc = await open(spec);
  const marks = new Marks(spec);
  let n = 0;
  const over = () => {
    if (n % CREDIT === 0) nc.publish(`${spec.subject}.credit`);
    return marks.due(n);
  };
  if (spec.mode === "callback") {
    await new Promise((resolve) => {
      nc.subscribe(spec.subject, {
        callback: () => {
          if ((++n & 255) === 0 && over()) resolve();
        },
      });
      nc.flush().then(ready);
    });
  } else {
    const sub = nc.subscribe(spec.subject);
    await nc.flush();
    ready();
    for await (const _ of sub) if ((++n & 255) === 0 && over()) break;
  }
  return marks.outcome();
}

const AHEAD = { max_messages: 1000 };

const bind = (nc, spec, durable) => jetstream(nc).consumers.get(spec.stream, durable);

async function js_consume(spec) {
  const nc = await open(spec);
  const consumer = await bind(nc, spec, spec.durable);
  const marks = new Marks(spec);
  let n = 0;
  const last = async (m) => {
    await m.ackAck();
    marks.close(n);
    return marks.outcome();
  };
  const over = () => (++n & 15) === 0 && marks.due(n);
  ready();
  if (spec.mode === "callback") {
    let ended = false;
    const m = await new Promise((resolve) => {
      const callback = (m) => {
        if (ended) return;
        if (over()) {
          ended = true;
          resolve(m);
        } else m.ack();
      };
      consumer.consume({ ...AHEAD, callback });
    });
    return last(m);
  }
  if (spec.mode === "iterate") {
    for await (const m of await consumer.consume(AHEAD)) {
      if (over()) return last(m);
      m.ack();
    }
  }
  for (;;) {
    for await (const m of await consumer.fetch({ max_messages: spec.batch })) {
      if (over()) return last(m);
      m.ack();
    }
  }
}

async function js_fetch1(spec) {
  const nc = await open(spec);
  const consumer = await bind(nc, spec, spec.durable);
  const marks = new Marks(spec);
  ready();
  for (let n = 1; ; n++) {
    const m = await consumer.next();
    if (marks.due(n)) {
      await m.ackAck();
      marks.close(n);
      return marks.outcome();
    }
    m.ack();
  }
}

async function request(spec) {
  const nc = await open(spec);
  const body = payload(spec);
  return roundTrips(spec, () => nc.request(spec.subject, body));
}

async function receive(consumer, handle) {
  for await (const m of await consumer.consume(AHEAD)) {
    handle(m);
    m.ack();
  }
}

async function journey(spec) {
  const nc = await open(spec);
  const trip = new Journey(spec);
  if (!spec.stream) {
    nc.subscribe(spec.subject, { callback: (_, m) => trip.arrived(m.data) });
    await nc.flush();
    return trip.run((body) => nc.publish(spec.subject, body));
  }
  const js = jetstream(nc);
  receive(await bind(nc, spec, spec.durable), (m) => trip.arrived(m.data));
  return trip.run((body) => void js.publish(spec.subject, body));
}

async function agent(spec) {
  const nc = await open(spec);
  const js = jetstream(nc);
  const trip = new Journey(spec, 3);
  const event = JSON.parse(spec.body);
  for (let i = 0; i < 3; i++) {
    receive(await bind(nc, spec, `${spec.durable}-${i}`), (m) => {
      m.json();
      trip.arrived();
    });
  }
  return trip.closed(() => {
    event.meta.send_time_ms += 1;
    js.publish(spec.subject, JSON.stringify(event));
  });
}

async function fan_out(spec) {
  const nc = await open(spec);
  const marks = new Marks(spec);
  let n = 0;
  await new Promise((resolve, reject) => {
    const callback = (m) => {
      m.ack();
      if ((++n & 15) === 0 && marks.due(n)) resolve();
    };
    (async () => {
      for (let i = 0; i < spec.consumers; i++) {
        const consumer = await bind(nc, spec, `${spec.durable}-${i}`);
        await consumer.consume({ max_messages: spec.batch, callback });
      }
      ready();
    })().catch(reject);
  });
  return marks.outcome();
}

async function idle(spec) {
  const nc = await open(spec);
  receive(await bind(nc, spec, spec.durable), () => {});
  return rest(spec);
}

await run({ core_publish, js_publish, core_receive, js_consume, js_fetch1, request, journey, agent, fan_out, idle });
