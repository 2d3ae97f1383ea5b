/** The producer. */
import { inspect } from "node:util";
import { type Body, bytes, type Encoder } from "./bodies";
import type { Bridge, Sent } from "./bridge";
import { extras, type SendOptions } from "./convert";
import { ConfigError, type EventBusError, guard, typed } from "./errors";
import type { ProducerSettings } from "./generated/settings";
import type { PubAck } from "./message";
import type { Addon } from "./native";
import { known } from "./options";

/** Settings of a producer. */
export interface ProducerOptions extends ProducerSettings {
  /** Makes the bytes or the text of each body that is neither. Default: the connection's, else JSON. */
  encoder?: Encoder;
  /**
   * Gets every failure without a waiter, of `sendNow` and of aborted waits, which `flush` then does not throw;
   * its `id` names the message. Kept until the producer is closed and its sends are settled. Default: none.
   */
  onError?: (e: EventBusError) => void;
}

/** What may go with many bodies: as with one, without what only one message can have. */
export type SendManyOptions = Omit<SendOptions, "id" | "expectedLastSequence" | "expectedLastSubjectSequence">;

const TOO_MUCH = 2 ** 32 - 1;
const FLUSH = new Set(["signal"]);
/** What a send in core mode gives; one for all. */
const SENT = Promise.resolve(null);

/** Sends to one topic. */
export class Producer {
  /** Whether the wait for a send was given up when its result may have been on its way, since the last flush. */
  private abandoned = false;
  /** The short ways of a send without options. */
  private readonly plain: ReturnType<Addon.Producer["plain"]>;
  private readonly start: ReturnType<Addon.Producer["starter"]>;

  /** @internal */
  constructor(
    private readonly native: Addon.Producer,
    private readonly bridge: Bridge,
    /** The topic it sends to. */
    readonly topic: string,
    private readonly onError: ProducerOptions["onError"],
    private readonly encoder: Encoder | undefined,
  ) {
    this.plain = native.plain();
    this.start = native.starter();
    if (onError) native.listen(bridge.listen(onError));
  }

  private outcome<T>(token: number, signal: AbortSignal | undefined): Promise<T> {
    const abandoned = () => {
      if (!this.native.abandon(token)) this.abandoned = true;
    };
    return this.bridge.wait<T>(token, signal, signal && abandoned);
  }

  private async settled(signal: AbortSignal | undefined): Promise<void> {
    const token = this.bridge.token();
    guard(() => this.native.flush(token));
    await this.outcome<void>(token, signal);
  }

  /**
   * Sends one message; resolves with the server's ack, or null in core mode.
   *
   * Waits for a place when `maxInFlight` sends are unsettled. The body may be changed once `send` has returned.
   * @throws {@link PublishRejected} and its kinds: not stored, and never will be. {@link PublishUnknown}: the deadline
   * passed, it may be stored. {@link ClosedError}, {@link ConfigError}.
   */
  send(body: Body, options?: SendOptions): Promise<PubAck | null> {
    try {
      const part = bytes(body, this.encoder);
      if (options === undefined) {
        if (this.plain?.(part)) return SENT;
        const token = this.bridge.token();
        return this.start(part, token) ? this.bridge.wait(token) : SENT;
      }
      const { signal } = options;
      signal?.throwIfAborted();
      const token = this.bridge.token();
      const pending = this.native.send(token, part, extras(options));
      return pending ? this.outcome(token, signal) : SENT;
    } catch (e) {
      return Promise.reject(typed(e));
    }
  }

  /**
   * Enqueues one message and returns at once; a failure goes to `onError`, or shows at the next {@link flush}.
   * @throws {@link Backpressure} when `maxInFlight` sends are unsettled; {@link TooLarge} and the like at once.
   */
  sendNow(body: Body, options?: Omit<SendOptions, "signal">): void {
    try {
      const part = bytes(body, this.encoder);
      if (options === undefined && this.plain?.(part)) return;
      this.native.sendNow(part, options && extras(options));
    } catch (e) {
      throw typed(e);
    }
  }

  /**
   * Sends many messages; resolves with one outcome each, in order: an ack (null in core mode) or the error.
   * @throws {@link ConfigError} when a body cannot be sent at all; then none was.
   */
  async sendMany(bodies: Iterable<Body> | AsyncIterable<Body>, options?: SendManyOptions): Promise<Sent[]> {
    options?.signal?.throwIfAborted();
    if (typeof bodies !== "object" || bodies === null || ArrayBuffer.isView(bodies)) {
      throw new ConfigError("bodies: give an array, or another iterable, of bodies");
    }
    const parts: Uint8Array[] = [];
    if (Symbol.asyncIterator in bodies) for await (const body of bodies) parts.push(bytes(body, this.encoder));
    else if (Symbol.iterator in bodies) for (const body of bodies) parts.push(bytes(body, this.encoder));
    else throw new ConfigError("bodies: give an array, or another iterable, of bodies");
    const ends = new Uint32Array(parts.length);
    const total = parts.reduce((sum, part) => sum + part.length, 0);
    if (total > TOO_MUCH) throw new ConfigError(`bodies: together they have ${total} bytes, over 4 GiB: send fewer`);
    const data = Buffer.allocUnsafe(total);
    let at = 0;
    for (let i = 0; i < parts.length; i++) {
      const part = parts[i] as Uint8Array;
      data.set(part, at);
      at += part.length;
      ends[i] = at;
    }
    const token = this.bridge.token();
    guard(() => this.native.sendMany(token, data, ends, options && extras(options)));
    return this.outcome(token, options?.signal);
  }

  /**
   * Resolves when every send before it is settled; in core mode, when the server has processed them.
   * @param options.signal Stops the wait.
   * @throws What failed since the last flush and was not reported, without `onError`; several as `failures` of
   * one error.
   */
  async flush(options?: { signal?: AbortSignal }): Promise<void> {
    known("flush", options, FLUSH);
    options?.signal?.throwIfAborted();
    await this.settled(options?.signal);
    // Failures without a waiter came with the first flush's end; a second one reports them.
    while (this.abandoned) {
      this.abandoned = false;
      await this.settled(options?.signal);
    }
  }

  /** Refuses further sends; those in flight keep their outcome. */
  close(): void {
    this.native.close();
    const over = () => this.native.unlisten();
    // The listener hears of the last outcome; then nothing of it is kept.
    if (this.onError) void this.flush().then(over, over);
  }

  [inspect.custom](): string {
    return `<Producer topic=${JSON.stringify(this.topic)}>`;
  }
}
