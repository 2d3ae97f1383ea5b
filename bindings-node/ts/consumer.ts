/** The consumer. */
import { inspect } from "node:util";
import { type Bridge, unlessAborted } from "./bridge";
import { count, time } from "./convert";
import type { Draining } from "./draining";
import { ClosedError, guard, guardAsync } from "./errors";
import { FETCH_TIMEOUT } from "./generated/defaults";
import type { ConsumerOptions, Time } from "./generated/settings";
import { type Handler, type HandlerOptions, handle } from "./handlers";
import type { Mark } from "./inside";
import type { Message, Settler } from "./message";
import { type Addon, addon } from "./native";
import { known } from "./options";
import { Source } from "./source";

const FETCH = new Set(["timeout", "signal"]);
/** Acks handed to the core in one call at most. */
const ACKS = 512;
/** Messages taken from the core in one call at most. */
const PACK = 256;

/** @internal What a consumer needs of its bus. */
export interface Home {
  readonly bridge: Bridge;
  readonly draining: Draining;
  readonly mark: Mark;
  forget(part: object): void;
  running(run: Promise<void>): void;
}

/** Collects acks and hands them over in one call per turn of the loop. */
class Acks {
  private readonly halves = new Uint32Array(2 * ACKS);
  private n = 0;
  private due = false;
  /** A tick, not a microtask: loops that find their messages at hand stay in microtasks, and so share one call. */
  private readonly tick = () => {
    this.due = false;
    this.flush();
  };

  constructor(private readonly native: Addon.Consumer) {}

  add(low: number, high: number): void {
    this.halves[this.n++] = low;
    this.halves[this.n++] = high;
    if (this.n === this.halves.length) this.flush();
    else if (!this.due) {
      this.due = true;
      process.nextTick(this.tick);
    }
  }

  flush(): void {
    if (this.n === 0) return;
    this.native.ackMany(this.halves.subarray(0, this.n));
    this.n = 0;
  }
}

/**
 * Receives the messages of a topic for a group. Iterate it, or take with {@link next} and {@link fetch}, or let
 * {@link run} call a handler.
 */
export class Consumer implements AsyncIterable<Message> {
  private readonly source: Source;
  private readonly acks: Acks;
  private closing: Promise<void> | undefined;
  private readonly leaving: (() => void)[] = [];
  /** The group. */
  readonly group: string;
  /** The stream; undefined in core mode. */
  readonly stream: string | undefined;

  /** @internal */
  constructor(
    private readonly native: Addon.Consumer,
    private readonly home: Home,
    /** The topic, with its wildcards. */
    readonly topic: string,
    options: ConsumerOptions,
  ) {
    this.group = options.group;
    this.stream = native.stream ?? undefined;
    this.acks = new Acks(native);
    const origin = { group: this.group, stream: this.stream, settler: this.settler() };
    const max = Math.min(PACK, options.prefetch ?? PACK);
    this.source = new Source(native, home.bridge, origin, max, () => this.acks.flush());
  }

  private settler(): Settler {
    const { native, acks, home } = this;
    return {
      ack: (low, high) => acks.add(low, high),
      nak: (low, high, delay) => native.nak(low, high, delay),
      term: (low, high, reason) => guard(() => native.term(low, high, reason)),
      inProgress: (low, high) => native.inProgress(low, high),
      ackConfirmed: (low, high, timeout, signal) => {
        acks.flush();
        const token = home.bridge.token();
        guard(() => native.ackConfirmed(token, low, high, timeout));
        return home.bridge.wait<void>(token, signal);
      },
    };
  }

  /**
   * The next message; null once the consumer is closed.
   * @param options.signal Stops the wait; no message is lost by it.
   * @throws {@link EventBusError} when the consumer cannot continue: its durable or stream is gone.
   */
  next(options?: { signal?: AbortSignal }): Promise<Message | null> {
    return this.source.next(options?.signal);
  }

  /**
   * Waits for up to `max` messages; fewer, or none, when the time runs out first.
   * @param options.timeout Milliseconds or text; default 5 s.
   * @param options.signal Stops the wait; what was taken is handed out again, first.
   * @throws {@link ClosedError} when the consumer is closed; what {@link next} throws, when there is no message.
   */
  async fetch(max = 1, options?: { timeout?: Time; signal?: AbortSignal }): Promise<Message[]> {
    count("max", max, 1);
    known("fetch", options, FETCH);
    const limit = time("timeout", options?.timeout) ?? FETCH_TIMEOUT;
    const left = guard(() => addon.milliseconds(limit, "timeout"));
    const out: Message[] = [];
    const timer = new AbortController();
    const clock = setTimeout(() => timer.abort(), Math.min(left, 0x7fffffff));
    const signal = options?.signal ? AbortSignal.any([timer.signal, options.signal]) : timer.signal;
    try {
      options?.signal?.throwIfAborted();
      while (out.length < max) {
        const m = this.source.take();
        if (m) {
          out.push(m);
          continue;
        }
        if (m === null) {
          if (out.length === 0) throw new ClosedError("the consumer is closed", { topic: this.topic });
          break;
        }
        // They are asked for whatever the prefetch.
        this.native.want(max - out.length);
        await unlessAborted(this.source.wait(), signal);
      }
    } catch (e) {
      if (options?.signal?.aborted) {
        this.source.putBack(out);
        throw e;
      }
      if (out.length === 0 && !timer.signal.aborted) throw e;
    } finally {
      clearTimeout(clock);
    }
    return out;
  }

  /** Leaving the loop closes the consumer: what is buffered goes to another worker at once. */
  [Symbol.asyncIterator](): AsyncIterator<Message, undefined> {
    const { source } = this;
    const result = (m: Message | null): IteratorResult<Message, undefined> =>
      m === null ? { value: undefined, done: true } : { value: m, done: false };
    return {
      next: () => {
        const m = source.quick();
        return m ? Promise.resolve({ value: m, done: false }) : source.next().then(result);
      },
      return: async () => {
        await this.close();
        return { value: undefined, done: true };
      },
    };
  }

  /**
   * Calls `handler` for each message until the consumer is closed or the signal is aborted; then waits for running
   * handlers, up to the bus's `drainTimeout`. Each handler starts in the async context in which this was called. Resolved = ack, rejected = again after `backoff`, {@link Reject} = dead
   * letter at once, {@link RetryAfter} = after that delay, both in an `AggregateError` too; after `maxDeliver` attempts =
   * dead letter. What the handler settles itself stands. In core mode there is no redelivery.
   * @throws {@link EventBusError} when the consumer cannot continue; {@link ConfigError} when the handler is no function, or
   * a generator.
   */
  run(handler: Handler, options?: HandlerOptions): Promise<void> {
    const { source } = this;
    const run = handle(this, handler, options ?? {}, {
      concurrency: this.native.handle(),
      draining: this.home.draining,
      mark: this.home.mark,
      local: () => source.quick(),
      next: () => source.next(),
      finish: (m, how, text, delay) => guard(() => this.native.finish(...m.token, how, text, delay)),
      flush: () => this.acks.flush(),
    }).finally(() => this.native.handled());
    this.home.running(run);
    return run;
  }

  /**
   * Stops pulling and gives back what is buffered, so that another worker has it now. The durable stays. Messages
   * already handed out can still be settled.
   */
  close(): Promise<void> {
    this.closing ??= this.leave();
    return this.closing;
  }

  /** @internal Called when closing begins. */
  onLeave(f: () => void): void {
    if (this.closing) f();
    else this.leaving.push(f);
  }

  private async leave(): Promise<void> {
    for (const f of this.leaving.splice(0)) f();
    this.acks.flush();
    // In core mode no other worker can have what is here: all of it is handed out.
    const left = this.stream === undefined ? new Uint32Array() : this.source.surrender();
    try {
      await guardAsync(() => this.native.close());
    } finally {
      // Only now, lest they come straight back here.
      this.native.giveBack(left);
      this.acks.flush();
      this.home.forget(this);
    }
  }

  /** As {@link close}. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  [inspect.custom](): string {
    const stream = this.stream === undefined ? "" : ` stream=${JSON.stringify(this.stream)}`;
    return `<Consumer topic=${JSON.stringify(this.topic)} group=${JSON.stringify(this.group)}${stream}>`;
  }
}
