/** Handlers: how many run at once, and what their ends mean for the message. */
import { AsyncResource } from "node:async_hooks";
import type { Consumer } from "./consumer";
import type { Draining } from "./draining";
import { Reject, RetryAfter } from "./errors";
import { checked, described, find, ran } from "./failures";
import type { Time } from "./generated/settings";
import type { Mark } from "./inside";
import { tell, warn } from "./listeners";
import type { Message } from "./message";

/** What a handler gets besides the message. */
export interface HandlerContext {
  /**
   * Aborted when the time for draining is over, or a second signal came. A handler that rejects after it has not
   * failed: its message goes to another worker. One that has not ended a second later loses its message to another.
   */
  signal: AbortSignal;
}

/** Handles a message: resolved = ack, rejected = retry. */
export type Handler = (m: Message, context: HandlerContext) => unknown;

/** How handlers are run. */
export interface HandlerOptions {
  /** Ends the run as closing the consumer does. */
  signal?: AbortSignal;
  /** Gets what handlers throw, besides `RetryAfter` where there are retries; it is counted in `handlerErrors`, too. Default: a process warning. */
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
 * @internal Up to `concurrency` messages at once. One worker waits for the next message; when its handler has to wait, another worker
 * does so. One at a time thus costs no promise beyond the handler's own.
 */
export class Workers {
  private busy = 0;
  /** What is being handled by handlers that wait for something. */
  readonly running = new Set<Message>();
  private waiting = false;
  private over = false;
  private readonly idlers: (() => void)[] = [];
  private ended: () => void = () => {};
  private broken: (e: unknown) => void = () => {};

  constructor(
    private readonly size: number,
    private readonly work: Work,
    mark: Mark,
  ) {
    mark.on(this.worker);
  }

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

  /** A function of this object's own, so that it can be marked. */
  private readonly worker = async (): Promise<void> => {
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
          this.running.add(m);
          result = await result;
        }
        this.work.done(m, result);
      } catch (e) {
        this.work.failed(m, e);
      } finally {
        this.busy -= 1;
        this.running.delete(m);
        if (this.busy === 0) for (const idler of this.idlers.splice(0)) idler();
      }
    }
    if (this.over) this.ended();
  };

  /** Nothing more is begun. */
  release(): void {
    this.over = true;
    this.ended();
  }

  /** Resolves when no handler runs. */
  idle(): Promise<void> {
    if (this.busy === 0) return Promise.resolve();
    return new Promise((resolve) => this.idlers.push(resolve));
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
  /** How long handlers have to end. */
  readonly draining: Draining;
  readonly mark: Mark;
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
  const work: Work = {
    local: runner.local,
    next: runner.next,
    handle: (m) => new AsyncResource("nats-eventbus.handler").runInAsyncScope(handler, undefined, m, context),
    done: (m, result) => {
      ran(result);
      m.ack();
    },
    failed: (m, e) => {
      // It was interrupted: another worker shall have it.
      if (cancel.signal.aborted && !find(e)) m.nak();
      else failed(m, e, runner.finish, onError);
    },
  };
  const workers = new Workers(runner.concurrency, work, runner.mark);
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
    if (!(await runner.draining.within(workers.idle()))) {
      cancel.abort(new Error("the time for draining is over"));
      await runner.draining.grace(workers.idle());
      for (const m of workers.running) m.nak();
    }
    runner.flush();
    await closed;
  }
}
