/** How long handlers may still run once a bus, a consumer or a responder closes. */

/** Milliseconds that handlers have to end once their signal is aborted. */
const GRACE = 1000;
/** The longest a timer can wait. */
const LONGEST = 0x7fffffff;

/** @internal The time for draining, of one bus; a second signal ends it early. */
export class Draining {
  private hurryUp: () => void = () => {};
  /** Whether nothing is to be waited for any longer. */
  isHurried = false;
  private readonly hurried = new Promise<boolean>((resolve) => {
    this.hurryUp = () => {
      this.isHurried = true;
      resolve(false);
    };
  });

  constructor(private readonly limit: number) {}

  /** Ends the time now. */
  hurry(): void {
    this.hurryUp();
  }

  /** Whether `work` is over within the time. */
  within(work: Promise<unknown>): Promise<boolean> {
    return Promise.race([over(work, this.limit), this.hurried]);
  }

  /** Waits for handlers that were asked to stop, or for what closes a bus in a hurry. */
  grace(work: Promise<unknown>): Promise<boolean> {
    return over(work, GRACE);
  }

  /** Waits for `work`; in a hurry no longer than {@link grace}. */
  async unlessHurried(work: Promise<unknown>): Promise<void> {
    work.catch(() => {});
    if (!(await Promise.race([work.then(() => true), this.hurried]))) await this.grace(work);
  }
}

async function over(work: Promise<unknown>, limit: number): Promise<boolean> {
  let clock: NodeJS.Timeout | undefined;
  const late = new Promise<boolean>((resolve) => {
    clock = setTimeout(() => resolve(false), Math.min(limit, LONGEST));
  });
  const done = () => true;
  const result = await Promise.race([work.then(done, done), late]);
  clearTimeout(clock);
  return result;
}
