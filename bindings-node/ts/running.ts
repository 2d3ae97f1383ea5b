/** One call of `bus.run`: opens the consumers, runs their handlers, drains them at the end. */
import { AsyncResource } from "node:async_hooks";
import type { Consumer } from "./consumer";
import type { ConsumerOptions } from "./generated/settings";
import type { Handler, HandlerOptions } from "./handlers";

/** Settings of a handler registered with {@link Bus.on}. */
export type OnOptions = ConsumerOptions & Omit<HandlerOptions, "signal">;

/** @internal A handler, and the consumer to open for it. */
export interface Registered {
  topic: string;
  options: OnOptions;
  handler: Handler;
}

/** @internal Serves handlers until it is stopped, or a consumer cannot continue. */
export class Running {
  /** Whether it was asked to end. */
  isStopped = false;
  /** Resolves when the handlers have ended. */
  readonly over: Promise<void>;
  private isEnding = false;
  private readonly failures: unknown[] = [];
  private readonly consumers: Consumer[] = [];
  private readonly runs: Promise<void>[] = [];
  private opening: Promise<void> = Promise.resolve();
  private isOver: () => void = () => {};
  private end: () => void = () => {};
  private readonly ended = new Promise<void>((resolve) => {
    this.end = resolve;
  });
  /** A handler registered by a handler has the context of the run all the same. */
  private readonly scope = new AsyncResource("nats-eventbus.run");

  constructor(private readonly open: (topic: string, options: ConsumerOptions) => Promise<Consumer>) {
    this.over = new Promise((resolve) => {
      this.isOver = resolve;
    });
  }

  /** Opens one more consumer, after those before it. */
  add(registered: Registered): void {
    this.scope.runInAsyncScope(() => {
      this.opening = this.opening.then(() => this.start(registered)).catch((e) => this.fail(e));
    });
  }

  /** Asks it to end. */
  stop(): void {
    this.isStopped = true;
    this.leave();
  }

  /** Runs until it is asked to end or fails, then drains. Throws the reason when nothing asked it to end. */
  async serve(handlers: readonly Registered[]): Promise<void> {
    for (const registered of handlers) this.add(registered);
    await this.ended;
    await this.opening;
    await Promise.allSettled(this.runs);
    this.isOver();
    if (this.failures.length > 0) throw this.failures[0];
  }

  private async start({ topic, options, handler }: Registered): Promise<void> {
    if (this.isEnding) return;
    const { onError, ...settings } = options;
    const consumer = await this.open(topic, settings);
    this.consumers.push(consumer);
    const run = consumer.run(handler, { onError });
    this.runs.push(run);
    run.then(
      () => this.leave(),
      (e) => this.fail(e),
    );
    if (this.isEnding) close(consumer);
  }

  private fail(e: unknown): void {
    this.failures.push(e);
    this.leave();
  }

  private leave(): void {
    if (this.isEnding) return;
    this.isEnding = true;
    this.consumers.forEach(close);
    this.end();
  }
}

/** Its run says what goes wrong. */
function close(consumer: Consumer): void {
  consumer.close().catch(() => {});
}
