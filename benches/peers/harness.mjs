// What the Node peers share: what to run, how it is measured, how it is told. The loops are each peer's own.

import { readFileSync } from "node:fs";

/** A receiver tells how far it is every so many messages. */
export const CREDIT = 4096;

const DEFAULTS = {
  mode: "",
  subject: "",
  stream: "",
  durable: "",
  size: 128,
  body: "",
  seconds: 1,
  warmup: 0.2,
  count: 0,
  available: 0,
  window: 1000,
  batch: 500,
  ids: false,
  keys: 0,
  consumers: 0,
  rate: 0,
  timer: 0,
  cap: 0,
};

export function ready() {
  process.stdout.write('{"ready":true}\n');
}

/** The body to send. */
export function payload(spec) {
  return spec.body ? Buffer.from(spec.body) : Buffer.alloc(spec.size, "x");
}

/** Memory held now. */
export function residentKb() {
  return Number(readFileSync("/proc/self/statm", "utf8").split(" ")[1]) * 4;
}

/** The most memory held since the program began; resourceUsage's would include the runner's, from before exec. */
function peakKb() {
  return Number(/VmHWM:\s+(\d+)/.exec(readFileSync("/proc/self/status", "utf8"))[1]);
}

const cpu = () => {
  const { user, system } = process.cpuUsage();
  return (user + system) / 1e6;
};

/** Of times in milliseconds, in microseconds. */
export function percentiles(times) {
  const sorted = Float64Array.from(times).sort();
  const at = (share) => (sorted[Math.round((sorted.length - 1) * share)] ?? 0) * 1000;
  return { p50: at(0.5), p90: at(0.9), p99: at(0.99), p999: at(0.999), max: at(1), count: sorted.length };
}

/** Where the measured interval begins and ends. A run is bounded by time, or by a count; then 5 % are the warm-up. */
export class Marks {
  constructor(spec) {
    this.spec = spec;
    this.began = performance.now();
  }

  get measuring() {
    return this.from !== undefined;
  }

  /** Whether the run is over, `n` messages after its start. */
  due(n) {
    const { count, seconds, warmup, available, cap } = this.spec;
    const now = performance.now();
    let over = false;
    if (this.from === undefined) {
      if (count ? n >= Math.floor(count / 20) : now - this.began >= warmup * 1000) this.open(n);
    } else over = count ? n >= count : now - this.from.at >= seconds * 1000;
    if (over || (available && n >= available) || (cap && now - this.began > cap * 1000)) {
      this.close(n);
      return true;
    }
    return false;
  }

  open(n) {
    this.from = { at: performance.now(), cpu: cpu(), n };
  }

  /** The end is now, once what was under way is settled. */
  close(n) {
    this.to = { at: performance.now(), cpu: cpu(), n };
  }

  outcome(more = {}) {
    const { from, to } = this;
    if (!from || !to) throw new Error("over before it was warm: too few messages");
    return {
      seconds: (to.at - from.at) / 1000,
      messages: to.n - from.n,
      cpu: to.cpu - from.cpu,
      rss_kb: peakKb(),
      total: to.n,
      ...more,
    };
  }
}

/** Sends for the time of the warm-up, flushes; then for the measured time, and flushes. */
export async function bursts(spec, send, flush, chunk = 256) {
  let n = 0;
  const burst = async (seconds) => {
    const end = performance.now() + seconds * 1000;
    while (performance.now() < end) {
      await send(chunk);
      n += chunk;
    }
    await flush();
    return n;
  };
  ready();
  const marks = new Marks(spec);
  marks.open(await burst(spec.warmup));
  marks.close(await burst(spec.seconds));
  return marks.outcome();
}

/** Asks one by one, and notes how long each took. */
export async function roundTrips(spec, ask) {
  ready();
  const marks = new Marks(spec);
  const times = [];
  for (let n = 1; ; n++) {
    const asked = performance.now();
    await ask();
    if (marks.measuring) times.push(performance.now() - asked);
    if (marks.due(n)) return marks.outcome({ latency: percentiles(times) });
  }
}

/** Waits idly. */
export async function rest(spec) {
  const sleep = (seconds) => new Promise((resolve) => setTimeout(resolve, seconds * 1000));
  const marks = new Marks(spec);
  await sleep(spec.warmup);
  marks.open(0);
  await sleep(spec.seconds);
  marks.close(0);
  return marks.outcome();
}

/** How late a timer on the same loop is, meanwhile. */
function timer(every) {
  const late = [];
  let due = performance.now() + every * 1000;
  let clock;
  const tick = () => {
    late.push(Math.max(performance.now() - due, 0));
    due = performance.now() + every * 1000;
    clock = setTimeout(tick, every * 1000);
  };
  clock = setTimeout(tick, every * 1000);
  return () => {
    clearTimeout(clock);
    return percentiles(late);
  };
}

/** Runs the workload named in the first argument's JSON, prints what it measured, and ends. */
export async function run(workloads) {
  const spec = { ...DEFAULTS, ...JSON.parse(process.argv[2]) };
  const stop = spec.timer ? timer(spec.timer) : undefined;
  const outcome = await workloads[spec.workload](spec);
  if (stop) outcome.latency = stop();
  process.stdout.write(`${JSON.stringify(outcome)}\n`, () => process.exit(0));
}
