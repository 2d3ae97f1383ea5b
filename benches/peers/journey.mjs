// Messages that a Node peer sends and receives itself: when each was to be sent, when it came, how many are between.

import { Marks, percentiles, ready, residentKb } from "./harness.mjs";

const STAMP = 8;
const GIVE_UP = 10_000;

/** The times at which the pacer wants messages, as it writes them: 8 bytes each, nanoseconds, monotonic clock. */
async function* ticks() {
  let rest = Buffer.alloc(0);
  for await (const chunk of process.stdin) {
    const data = rest.length ? Buffer.concat([rest, chunk]) : chunk;
    const whole = data.length - (data.length % STAMP);
    rest = data.subarray(whole);
    yield data.subarray(0, whole);
  }
}

/** From `send` to `arrived`, at the pacer's times or with a window; each message arrives `copies` times. */
export class Journey {
  constructor(spec, copies = 1) {
    this.spec = spec;
    this.copies = copies;
    this.marks = new Marks(spec);
    this.times = [];
    this.memory = [];
    this.sent = 0;
    this.got = 0;
    this.over = false;
    this.sample = Math.max(Math.floor(spec.count / 50), 1);
  }

  /** A message came back. */
  arrived(body) {
    this.got++;
    if (this.spec.rate) {
      const at = Buffer.from(body.buffer, body.byteOffset, STAMP).readBigUInt64LE();
      this.times.push(Number(process.hrtime.bigint() - at) / 1e6);
    } else if ((this.got & 15) === 0) {
      this.over ||= this.marks.due(Math.floor(this.got / this.copies));
      if (this.spec.count && this.got / this.sample >= this.memory.length + 1)
        this.memory.push([this.got, residentKb()]);
    }
    this.wake?.();
  }

  /** Waits until it is so, or the time is over. */
  until(there, limit = 60_000) {
    if (there()) return;
    return new Promise((resolve) => {
      const end = () => {
        clearTimeout(clock);
        this.wake = undefined;
        resolve();
      };
      const clock = setTimeout(end, limit);
      this.wake = () => there() && end();
    });
  }

  /** As fast as it goes with at most `window` between the two ends. */
  async closed(send) {
    ready();
    const body = Buffer.alloc(this.spec.size, "x");
    const window = this.spec.window * this.copies;
    const between = () => this.sent * this.copies - this.got;
    const room = () => between() < window / 2 || this.over;
    while (!this.over) {
      if (between() >= window) await this.until(room);
      const sending = send(body);
      if (sending) await sending;
      this.sent++;
    }
    return this.marks.outcome(this.memory.length ? { memory: this.memory } : {});
  }

  /** At the pacer's times, whatever comes back; each latency counts from the time it was to be sent. */
  async paced(send) {
    const { spec } = this;
    this.marks.open(0);
    const source = ticks();
    ready();
    for await (const stamps of source) {
      for (let at = 0; at < stamps.length; at += STAMP) {
        const body = Buffer.alloc(spec.size, "x");
        stamps.copy(body, 0, at, at + STAMP);
        const sending = send(body);
        if (sending) await sending;
        this.sent++;
      }
    }
    await this.until(() => this.got >= this.sent, GIVE_UP);
    this.marks.close(this.got);
    const measured = this.times.slice(Math.floor(spec.warmup * spec.rate));
    return this.marks.outcome({ latency: percentiles(measured), lost: this.sent - this.got });
  }

  /** Paced, when there is a rate. */
  run(send) {
    return this.spec.rate ? this.paced(send) : this.closed(send);
  }
}
