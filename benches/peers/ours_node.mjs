// This package, from Node: defaults throughout, but for `dedupe` where the workload says so.

import { Backpressure, connect } from "nats-eventbus";
import { bursts, CREDIT, Marks, payload, ready, rest, roundTrips, run } from "./harness.mjs";
import { Journey } from "./journey.mjs";

const open = (spec, jetstream = false) => connect({ servers: spec.url, jetstream });

/** Sends without waiting while there is room; else the promise of one that waits for it. */
function now(p, body, options) {
  try {
    p.sendNow(body, options);
  } catch (e) {
    if (!(e instanceof Backpressure)) throw e;
    return p.send(body, options);
  }
}

/** The workload's way of sending n messages, and how many at a time. */
function sender(p, spec, stored) {
  const body = payload(spec);
  const keys = Array.from({ length: spec.keys }, (_, i) => `key-${i}`);
  const pending = [];
  let at = 0;
  const ways = {
    await: [
      async (n) => {
        for (let i = 0; i < n; i++) await p.send(body);
      },
      64,
    ],
    nowait: [
      async (n) => {
        for (let i = 0; i < n; i++) {
          const full = now(p, body);
          if (full) await full;
        }
      },
      256,
    ],
    many: [
      async (n) => {
        for (const result of await p.sendMany(new Array(n).fill(body))) if (result instanceof Error) throw result;
      },
      stored ? 10 * spec.window : spec.window,
    ],
    gather: [(n) => Promise.all(Array.from({ length: n }, () => p.send(body))), spec.window],
    sliding: [
      async (n) => {
        for (let i = 0; i < n; i++) {
          const slot = at++ % spec.window;
          if (pending[slot]) await pending[slot];
          pending[slot] = p.send(body);
        }
      },
      256,
    ],
    keyed: [
      (n) => Promise.all(Array.from({ length: n }, () => p.send(body, { key: keys[at++ % keys.length] }))),
      spec.window,
    ],
  };
  return ways[spec.mode];
}

async function publish(spec, stored) {
  const bus = await open(spec, stored);
  const p = bus.producer(spec.subject, stored ? { dedupe: spec.ids } : {});
  const [send, chunk] = sender(p, spec, stored);
  return bursts(spec, send, () => p.flush(), chunk);
}

const core_publish = (spec) => publish(spec, false);
const js_publish = (spec) => publish(spec, true);

async function core_receive(spec) {
  const bus = await open(spec);
  const c = await bus.consumer(spec.subject, { group: "bench" });
  const credit = bus.producer(`${spec.subject}.credit`);
  const marks = new Marks(spec);
  let n = 0;
  const over = () => {
    if (n % CREDIT === 0) credit.sendNow("");
    return marks.due(n);
  };
  ready();
  if (spec.mode === "handler") {
    await new Promise((resolve) => {
      c.run(async () => {
        if ((++n & 255) === 0 && over()) {
          resolve();
          await new Promise(() => {});
        }
      });
    });
  } else for await (const _ of c) if ((++n & 255) === 0 && over()) break;
  return marks.outcome();
}

async function js_consume(spec) {
  const bus = await open(spec, true);
  const c = await bus.consumer(spec.subject, { group: spec.durable });
  const mask = spec.batch === 1 ? 0 : 15;
  const marks = new Marks(spec);
  let n = 0;
  const last = async (m) => {
    await m.ackConfirmed();
    marks.close(n);
    return marks.outcome();
  };
  ready();
  if (spec.mode === "handler") {
    let total = 0;
    let ended;
    await new Promise((resolve) => {
      ended = c.run(async () => {
        if ((++n & 15) === 0 && !total && marks.due(n)) {
          total = n;
          resolve();
        }
      });
    });
    // Closing flushes the acks.
    total = n;
    await c.close();
    marks.close(total);
    await ended;
    return marks.outcome();
  }
  if (spec.mode === "iterate") {
    for await (const m of c) {
      if ((++n & mask) === 0 && marks.due(n)) return last(m);
      m.ack();
    }
  }
  for (;;) {
    for (const m of await c.fetch(spec.batch)) {
      if ((++n & mask) === 0 && marks.due(n)) return last(m);
      m.ack();
    }
  }
}

const js_fetch1 = (spec) => js_consume({ ...spec, mode: "fetch", batch: 1 });

async function request(spec) {
  const bus = await open(spec);
  const body = payload(spec);
  return roundTrips(spec, () => bus.request(spec.subject, body));
}

async function receive(c, handle) {
  for await (const m of c) {
    handle(m);
    m.ack();
  }
}

async function journey(spec) {
  const bus = await open(spec, spec.stream !== "");
  const c = await bus.consumer(spec.subject, { group: spec.durable || "bench" });
  const p = bus.producer(spec.subject);
  const trip = new Journey(spec);
  receive(c, (m) => trip.arrived(m.body));
  return trip.run((body) => now(p, body));
}

async function agent(spec) {
  const bus = await open(spec, true);
  const p = bus.producer(spec.subject);
  const trip = new Journey(spec, 3);
  const event = JSON.parse(spec.body);
  for (let i = 0; i < 3; i++) {
    receive(await bus.consumer(spec.subject, { group: `${spec.durable}-${i}` }), (m) => {
      m.json();
      trip.arrived();
    });
  }
  return trip.closed(() => {
    event.meta.send_time_ms += 1;
    return now(p, event);
  });
}

async function fan_out(spec) {
  const bus = await open(spec, true);
  const marks = new Marks(spec);
  let n = 0;
  await new Promise((resolve, reject) => {
    const handle = () => (++n & 15) === 0 && marks.due(n) && resolve();
    (async () => {
      for (let i = 0; i < spec.consumers; i++) {
        receive(await bus.consumer(`${spec.subject}.${i}`, { group: `${spec.durable}-${i}` }), handle);
      }
      ready();
    })().catch(reject);
  });
  return marks.outcome();
}

async function idle(spec) {
  const bus = await open(spec, true);
  const c = await bus.consumer(spec.subject, { group: spec.durable });
  c.next();
  return rest(spec);
}

await run({ core_publish, js_publish, core_receive, js_consume, js_fetch1, request, journey, agent, fan_out, idle });
