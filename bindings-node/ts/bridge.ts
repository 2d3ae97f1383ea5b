/** How results come back: one table of who waits, one drain per wake-up. */
import { onAbort } from "./abort";
import { ClosedError, type EventBusError, fromJson } from "./errors";
import { LETTERS } from "./generated/defaults";
import { tell } from "./listeners";
import { PubAck } from "./message";
import { type Addon, addon } from "./native";

const TRIPLE = 3;
/** Flags of the addon's triples; from 0 on they are an ack: twice the stream's place, and 1 for a duplicate. */
const SENT = -1;
const FAILED = -3;

interface Waiter {
  resolve(value: unknown): void;
  reject(e: unknown): void;
}

/** One result of a `sendMany`. */
export type Sent = PubAck | EventBusError | null;

/** @internal The results of one bus. */
export class Bridge {
  readonly native: Addon.Bridge;
  private readonly waiting = new Map<number, Waiter>();
  /** Get failures by token, any number of times, until a letter without one. */
  private readonly listeners = new Map<number, (e: EventBusError) => void>();
  /** Asked for credentials by token, any number of times, until a letter without a question. */
  private readonly sources = new Map<number, (question: number) => void>();
  private readonly triples = new Float64Array(LETTERS * TRIPLE);
  private readonly streams: string[] = [];
  private last = 0;

  constructor() {
    // Weakly, for the addon holds this function for as long as it lives itself.
    const self = new WeakRef(this);
    this.native = new addon.Bridge(() => self.deref()?.drain());
  }

  /** A number for a call that ends by a letter. */
  token(): number {
    this.last += 1;
    return this.last;
  }

  /** The token under which the core tells this listener of failures. */
  listen(listener: (e: EventBusError) => void): number {
    const token = this.token();
    this.listeners.set(token, listener);
    return token;
  }

  /** The token under which the core asks this source for credentials. */
  source(ask: (question: number) => void): number {
    const token = this.token();
    this.sources.set(token, ask);
    return token;
  }

  /** Nothing will come for this token. */
  forget(token: number): void {
    this.waiting.delete(token);
  }

  /**
   * Waits for the letter of a call that was started. An aborted wait calls `abandoned` and rejects with the reason.
   */
  wait<T>(token: number, signal?: AbortSignal, abandoned?: () => void): Promise<T> {
    return new Promise<T>((resolve, reject) => {
      const waiter = { resolve: resolve as (value: unknown) => void, reject };
      this.waiting.set(token, signal ? this.abortable(token, waiter, signal, abandoned) : waiter);
    });
  }

  private abortable(token: number, waiter: Waiter, signal: AbortSignal, abandoned?: () => void): Waiter {
    const abort = () => {
      this.waiting.delete(token);
      abandoned?.();
      waiter.reject(signal.reason);
    };
    const over = onAbort(signal, abort);
    return {
      resolve: (value) => {
        over();
        waiter.resolve(value);
      },
      reject: (e) => {
        over();
        waiter.reject(e);
      },
    };
  }

  private take(token: number): Waiter | undefined {
    const waiter = this.waiting.get(token);
    this.waiting.delete(token);
    return waiter;
  }

  /** Completes what the core has finished; says how much there was. */
  drain(): number {
    const { triples } = this;
    const told = this.native.drain(triples);
    const n = told < 0 ? -1 - told : told;
    for (let i = 0; i < n * TRIPLE; i += TRIPLE) {
      const waiter = this.take(triples[i] as number);
      waiter?.resolve(this.sent(triples[i + 1] as number, triples[i + 2] as number));
    }
    const others = told < 0 ? this.native.others() : [];
    for (const other of others) this.complete(other);
    return n + others.length;
  }

  private complete(other: Addon.Other): void {
    const waiter = this.take(other.token);
    if (!waiter) this.tell(other);
    else if (other.error !== undefined) waiter.reject(fromJson(other.error));
    else if (other.acks) waiter.resolve(this.many(other.acks, other.errors ?? []));
    else waiter.resolve(other.reply);
  }

  private tell({ token, error, question }: Addon.Other): void {
    if (question !== undefined) {
      this.sources.get(token)?.(question);
      return;
    }
    if (error === undefined) this.sources.delete(token);
    const listener = this.listeners.get(token);
    if (error === undefined) this.listeners.delete(token);
    else if (listener) tell("onError of a producer", () => listener(fromJson(error)));
  }

  private many(acks: Float64Array, errors: string[]): Sent[] {
    const out: Sent[] = new Array(acks.length / 2);
    for (let i = 0; i < out.length; i++) {
      const [sequence, flags] = [acks[2 * i] as number, acks[2 * i + 1] as number];
      out[i] = flags === FAILED ? fromJson(errors[sequence] as string) : (this.sent(sequence, flags) ?? null);
    }
    return out;
  }

  /** An ack, null for a send in core mode, undefined for anything that is simply done. */
  private sent(sequence: number, flags: number): PubAck | null | undefined {
    if (flags < 0) return flags === SENT ? null : undefined;
    const place = flags >> 1;
    let stream = this.streams[place];
    if (stream === undefined) {
      stream = this.native.stream(place);
      this.streams[place] = stream;
    }
    return new PubAck(stream, sequence, (flags & 1) === 1);
  }

  /** After the bus is closed no more letters come. */
  end(): void {
    while (this.drain() > 0);
    for (const [token, waiter] of this.waiting) {
      this.waiting.delete(token);
      waiter.reject(new ClosedError("the bus is closed"));
    }
    this.listeners.clear();
  }
}

/** @internal `promise`, unless the signal is aborted first. What was started continues. */
export function unlessAborted<T>(promise: Promise<T>, signal: AbortSignal | undefined): Promise<T> {
  if (!signal) return promise;
  if (signal.aborted) return Promise.reject(signal.reason);
  return new Promise<T>((resolve, reject) => {
    const over = onAbort(signal, () => reject(signal.reason));
    promise.then(resolve, reject).finally(over);
  });
}
