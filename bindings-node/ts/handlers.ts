/** Handlers: so many at once, and what their ends mean for the message. */
import type { Consumer } from "./consumer";
import type { Time } from "./convert";
import { ConfigError, Reject, RetryAfter } from "./errors";
import { tell, warn, why } from "./listeners";
import type { Message } from "./message";

/** What a handler is told besides the message. */
export interface HandlerContext {
  /** Aborted when the time for draining is over: what is not settled by then is delivered again. */
  signal: AbortSignal;
}

/** Handles a message: resolved = ack, rejected = retry. */
export type Handler = (m: Message, context: HandlerContext) => unknown;

/** How handlers are run. */
export interface HandlerOptions {
  /** Ends the run as closing the consumer does. */
  signal?: AbortSignal;
  /** Told of what handlers throw, besides `RetryAfter` where there are retries; it is counted in `handlerErrors`, too. Default: a process warning. */
  onError?: (e: unknown, m: Message) => void;
}

/** So many at once; the others wait. */
export class Slots {
  private readonly running = new Set<Promise<void>>();
  private freed: (() => void) | undefined;
  private over = false;

  constructor(private readonly size: number) {}

  /** Waits for a place. One waiter at a time. */
  async free(): Promise<void> {
    while (this.running.size >= this.size && !this.over) {
      await new Promise<void>((resolve) => {
        this.freed = resolve;
      });
    }
  }

  /** Ends the wait for a place: nothing more is begun. */
  release(): void {
    this.over = true;
    this.freed?.();
  }

  /** Takes a place until the work is over; it must not reject. */
  start(work: Promise<void>): void {
    this.running.add(work);
    void work.finally(() => {
      this.running.delete(work);
      this.freed?.();
    });
  }

  /** Waits until all are over, or the time is: then false. */
  async idle(limit: number): Promise<boolean> {
    let clock: NodeJS.Timeout | undefined;
    const over = new Promise<boolean>((resolve) => {
      clock = setTimeout(() => resolve(false), Math.min(limit, 0x7fffffff));
    });
    const done = Promise.all(this.running).then(() => true);
    const result = await Promise.race([done, over]);
    clearTimeout(clock);
    return result;
  }
}

/** @internal Tells the core how a handler ended; what follows from it is decided there. */
export type Finish = (m: Message, how: "done" | "failed" | "rejected" | "retry", text?: string, delay?: Time) => void;

function text(e: unknown): string {
  return e instanceof Error ? `${e.name}: ${e.message}` : why(e);
}

type OnError = NonNullable<HandlerOptions["onError"]>;

async function one(m: Message, handler: Handler, signal: AbortSignal, onError: OnError, finish: Finish): Promise<void> {
  try {
    await handler(m, { signal });
    finish(m, "done");
  } catch (e) {
    let failure = e;
    try {
      if (e instanceof RetryAfter) {
        finish(m, "retry", undefined, e.delay);
        // In core mode there is no retry: it is told as any failure.
        if (m.stream !== undefined) return;
      } else if (e instanceof Reject) finish(m, "rejected", String(e.reason ?? "rejected"));
      else finish(m, "failed", text(e));
    } catch (second) {
      // A delay that is none: the message has its end all the same.
      failure = second;
      finish(m, "failed", text(second));
    }
    tell("onError of a handler", () => onError(failure, m));
  }
}

/** @internal Runs handlers until the consumer is closed. */
export async function handle(
  consumer: Consumer,
  handler: Handler,
  options: HandlerOptions,
  drainTimeout: number,
  concurrency: number,
  finish: Finish,
): Promise<void> {
  if (typeof handler !== "function") throw new ConfigError("handler: give a function");
  const slots = new Slots(concurrency);
  const cancel = new AbortController();
  const { signal, onError = (e: unknown, m: Message) => warn(`the handler of ${m.topic}`, e) } = options;
  const stop = () => void consumer.close().catch(() => {});
  signal?.addEventListener("abort", stop, { once: true });
  if (signal?.aborted) stop();
  // A handler that is stuck must not keep the time for draining from running.
  consumer.onLeave(() => slots.release());
  try {
    for (let m = await consumer.next(); m !== null; m = await consumer.next()) {
      slots.start(one(m, handler, cancel.signal, onError, finish));
      await slots.free();
    }
  } finally {
    signal?.removeEventListener("abort", stop);
    const closed = consumer.close();
    if (!(await slots.idle(drainTimeout))) cancel.abort(new Error("the time for draining is over"));
    await closed;
  }
}
