/** How long handlers may still run once a bus, a consumer or a responder closes. */

/** Milliseconds that handlers have to end once their signal is aborted. */
const GRACE = 1000;
/** The longest a timer can wait. */
const LONGEST = 0x7fffffff;

/** @internal The time for draining, of one bus; a second signal ends it early. */
export class Draining {
  private isHurried = false;
  /** Ends the waits that there are. */
  private readonly waits = new Set<() => void>();

  constructor(private readonly limit: number) {}

  /** Ends the time now. */
  hurry(): void {
    this.isHurried = true;
    for (const end of this.waits) end();
  }

  /** Whether `work` is over within the time. */
  within(work: Promise<unknown>): Promise<boolean> {
    return this.wait(work, this.isHurried ? 0 : this.limit);
  }

  /** Waits for handlers that were asked to stop, or for what closes a bus in a hurry. */
  grace(work: Promise<unknown>): Promise<boolean> {
    return over(work, GRACE, () => {});
  }

  /** Waits for `work`, and fails as it does; in a hurry no longer than {@link grace}. */
  async unlessHurried(work: Promise<unknown>): Promise<void> {
    work.catch(() => {});
    if (!this.isHurried && (await this.wait(work, LONGEST))) await work;
    else await this.grace(work);
  }

  private async wait(work: Promise<unknown>, limit: number): Promise<boolean> {
    let wait: (() => void) | undefined;
    const result = await over(work, limit, (end) => {
      wait = end;
      this.waits.add(end);
    });
    if (wait) this.waits.delete(wait);
    return result;
  }
}

/** Whether `work` is over within the limit, and before the function that `hand` gets is called. */
async function over(work: Promise<unknown>, limit: number, hand: (end: () => void) => void): Promise<boolean> {
  let clock: NodeJS.Timeout | undefined;
  const late = new Promise<boolean>((resolve) => {
    const end = () => resolve(false);
    clock = setTimeout(end, Math.min(limit, LONGEST));
    hand(end);
  });
  const done = () => true;
  const result = await Promise.race([work.then(done, done), late]);
  clearTimeout(clock);
  return result;
}
