// Time limits that hold on a machine that stalls: the time this process did not get to run does not count.
const LOOK = 10;
let stalled = 0;
let last;

/** Milliseconds so far for which a loop that wanted to run could not. */
function stalls() {
  const now = performance.now();
  if (last === undefined) setInterval(stalls, LOOK).unref();
  else stalled += Math.max(0, now - last - 2 * LOOK);
  last = now;
  return stalled;
}

/** How long something takes, but for what the machine took. */
export class Clock {
  #stalled = stalls();
  #began = performance.now();

  /** Milliseconds since it was made. */
  took() {
    const more = stalls() - this.#stalled;
    return performance.now() - this.#began - more;
  }
}
