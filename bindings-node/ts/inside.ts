/** How code knows that a handler runs it: by its stack. Nothing is tracked while messages flow. */

let last = 0;

/** @internal A name for the function that calls the handlers of an owner, to be found on stacks. */
export class Mark {
  private readonly name: string;

  constructor() {
    last += 1;
    this.name = `nats_eventbus_handlers_${last}_`;
  }

  /** Gives a function this mark. */
  on<F extends (...args: never[]) => unknown>(f: F): F {
    return Object.defineProperty(f, "name", { value: this.name });
  }

  /**
   * Whether a marked function waits for the code that runs now, by calls and by `await`. An async context would know
   * more (callbacks of events and timers), and would cost every promise of the process in Node 20 and 22.
   */
  isOnStack(): boolean {
    const limit = Error.stackTraceLimit;
    Error.stackTraceLimit = 200;
    try {
      return String(new Error().stack).includes(this.name);
    } finally {
      Error.stackTraceLimit = limit;
    }
  }
}
