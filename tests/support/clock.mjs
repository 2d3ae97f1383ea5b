// Time limits that hold on a machine that stalls: the time this process did not get to run does not count. What keeps
// JavaScript from running while the process could does count: it is looked for by a thread of its own.
import { Worker } from "node:worker_threads";

const LOOK = 10;
/** Milliseconds so far for which a thread that wanted to run could not, and when it looked last. */
const shared = new Float64Array(new SharedArrayBuffer(16));
let watching;

const watch = `
  const { shared, LOOK } = require("node:worker_threads").workerData;
  const never = new Int32Array(new SharedArrayBuffer(4));
  const now = () => performance.timeOrigin + performance.now();
  for (let last = now(); ; last = shared[1]) {
    Atomics.wait(never, 0, 0, LOOK);
    shared[1] = now();
    shared[0] += Math.max(0, shared[1] - last - 2 * LOOK);
  }`;

function stalled() {
  if (!watching) {
    watching = new Worker(watch, { eval: true, workerData: { shared, LOOK } });
    watching.unref();
  }
  return shared[0];
}

/** How long something takes, but for what the machine took. */
export class Clock {
  #stalled = stalled();
  #began = performance.now();

  /** Milliseconds since it was made. */
  took() {
    // A stall that has just ended may not have been seen yet.
    const unseen = shared[1] === 0 ? 0 : performance.timeOrigin + performance.now() - shared[1] - 2 * LOOK;
    return performance.now() - this.#began - (stalled() - this.#stalled) - Math.max(0, unseen);
  }
}
