/** Handlers: so many at once, and what their ends mean for the message. */
import { AsyncResource } from "node:async_hooks";
import type { Consumer } from "./consumer";
import type { Time } from "./convert";
import { Reject, RetryAfter } from "./errors";
import { checked, described, find, ran } from "./failures";
import { tell, warn } from "./listeners";
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

/** @internal What workers do. */
export interface Work {
  /** The next message that is here already; undefined where {@link next} has to be asked. */
  local(): Message | undefined;
  /** Waits for one; null at the end. */
  next(): Promise<Message | null>;
  handle(m: Message): unknown;
  /** What follows from what the handler gave, or threw. What `done` throws counts as the handler's. */
  done(m: Message, result: unknown): void;
  failed(m: Message, e: unknown): void;
}

const isPromise = (v: unknown): v is PromiseLike<unknown> =>
  typeof v === "object" && v !== null && typeof (v as { then?: unknown }).then === "function";

/**
 * @internal So many messages at once. One worker waits for the next message; when its handler has to wait, another worker
 * does so. One at a time thus costs no promise beyond the handler's own.
 */
export class Workers {
  private busy = 0;
  private waiting = false;
  private over = false;
  private readonly idlers: (() => void)[] = [];
  private ended: () => void = () => {};
  private broken: (e: unknown) => void = () => {};

  constructor(
    private readonly size: number,
    private readonly work: Work,
  ) {}

  /** Works until the last message was taken; rejects when the next one cannot be had. */
  run(): Promise<void> {
    return new Promise((resolve, reject) => {
      this.ended = resolve;
      this.broken = (e) => {
        this.over = true;
        reject(e);
      };
      this.start();
    });
  }

  private start(): void {
    this.worker().catch(this.broken);
  }

  private async worker(): Promise<void> {
    while (!this.waiting && !this.over) {
      this.waiting = true;
      const m = this.work.local() ?? (await this.work.next());
      this.waiting = false;
      if (m === null) {
        this.over = true;
        break;
      }
      this.busy += 1;
      try {
        let result = this.work.handle(m);
        if (isPromise(result)) {
          if (this.busy < this.size) this.start();
          result = await result;
        }
        this.work.done(m, result);
      } catch (e) {
        this.work.failed(m, e);
      } finally {
        this.busy -= 1;
        if (this.busy === 0) for (const idler of this.idlers.splice(0)) idler();
      }
    }
    if (this.over) this.ended();
  }

  /** Nothing more is begun. */
  release(): void {
    this.over = true;
    this.ended();
  }

  /** Waits until no handler runs, or the time is over: then false. */
  async idle(limit: number): Promise<boolean> {
    if (this.busy === 0) return true;
    let clock: NodeJS.Timeout | undefined;
    const over = new Promise<boolean>((resolve) => {
      clock = setTimeout(() => resolve(false), Math.min(limit, 0x7fffffff));
    });
    const done = new Promise<boolean>((resolve) => {
      this.idlers.push(() => resolve(true));
    });
    const result = await Promise.race([done, over]);
    clearTimeout(clock);
    return result;
  }
}

/** @internal Tells the core how a handler ended; what follows from it is decided there. */
export type Finish = (m: Message, how: "failed" | "rejected" | "retry", text?: string, delay?: Time) => void;

type OnError = NonNullable<HandlerOptions["onError"]>;

/** Settles by what a handler threw, and reports it. Never throws, whatever was thrown. */
function failed(m: Message, e: unknown, finish: Finish, onError: OnError): void {
  const said = find(e);
  let failure = e;
  try {
    if (said instanceof RetryAfter) {
      finish(m, "retry", undefined, said.delay);
      // In core mode there is no retry: it is reported as any failure.
      if (m.stream !== undefined) return;
    } else if (said instanceof Reject) finish(m, "rejected", String(said.reason ?? "rejected"));
    else finish(m, "failed", described(e));
  } catch (second) {
    // A delay that is none: the message has its end all the same.
    failure = second;
    tell("settling a message", () => finish(m, "failed", described(second)));
  }
  tell("onError of a handler", () => scoped(() => onError(failure, m)));
}

/**
 * Calls in an async context of its own. What the callee sets with `AsyncLocalStorage.enterWith` ends with it: the
 * context of the run stays what it was when the run began.
 */
function scoped(call: () => unknown): unknown {
  return new AsyncResource("nats-eventbus.handler").runInAsyncScope(call);
}

/** @internal What running handlers needs of a consumer. */
export interface Runner extends Pick<Work, "local" | "next"> {
  readonly concurrency: number;
  /** Milliseconds that handlers have to end. */
  readonly drainTimeout: number;
  readonly finish: Finish;
  /** Hands over acks that are still collected. */
  flush(): void;
}

/** @internal Runs handlers until the consumer is closed. */
export async function handle(
  consumer: Consumer,
  handler: Handler,
  options: HandlerOptions,
  runner: Runner,
): Promise<void> {
  checked(handler);
  const cancel = new AbortController();
  const context = { signal: cancel.signal };
  const { signal, onError = (e: unknown, m: Message) => warn(`the handler of ${m.topic}`, e) } = options;
  const workers = new Workers(runner.concurrency, {
    local: runner.local,
    next: runner.next,
    handle: (m) => new AsyncResource("nats-eventbus.handler").runInAsyncScope(handler, undefined, m, context),
    done: (m, result) => {
      ran(result);
      m.ack();
    },
    failed: (m, e) => failed(m, e, runner.finish, onError),
  });
  const stop = () => void consumer.close().catch(() => {});
  signal?.addEventListener("abort", stop, { once: true });
  if (signal?.aborted) stop();
  // A handler that is stuck must not keep the time for draining from running.
  consumer.onLeave(() => workers.release());
  try {
    await workers.run();
  } finally {
    signal?.removeEventListener("abort", stop);
    const closed = consumer.close();
    if (!(await workers.idle(runner.drainTimeout))) cancel.abort(new Error("the time for draining is over"));
    runner.flush();
    await closed;
  }
}
