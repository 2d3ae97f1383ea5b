/** Messages and acks. */
import { isUtf8 } from "node:buffer";
import { inspect } from "node:util";
import { time } from "./convert";
import { DecodeError, guard } from "./errors";
import type { Time } from "./generated/settings";
import { lookUp } from "./headers";
import { decode } from "./json";
import type { Addon } from "./native";

/** @internal Numbers per message in a pack, and their places; the addon's pack.rs says the same. */
export const STRIDE = 12;
const TOPIC_START = 0;
const TOPIC_END = 1;
const HEADERS_START = 2;
const BODY_START = 3;
const BODY_END = 4;
const LARGE = 5;
const TOKEN_LOW = 6;
const TOKEN_HIGH = 7;
const ATTEMPT = 8;
const SEQUENCE = 9;
const TIME = 10;
const FAILURES = 11;

/** Bytes above which a pack must not be kept alive by one of its messages. */
const LARGE_PACK = 128 * 1024;

/** The server's word that a message is stored. */
export class PubAck {
  constructor(
    /** The stream it is stored in. */
    readonly stream: string,
    /** Its sequence there. */
    readonly sequence: number,
    /** Whether it was already stored under the same id. */
    readonly duplicate: boolean,
  ) {}
}

/** @internal Where a message came from, for settling it. */
export interface Origin {
  readonly group: string | undefined;
  readonly stream: string | undefined;
  readonly settler?: Settler;
}

/** @internal */
export interface Settler {
  ack(low: number, high: number): void;
  nak(low: number, high: number, delay: Time | undefined): boolean;
  term(low: number, high: number, reason: string | undefined): boolean;
  inProgress(low: number, high: number): boolean;
  ackConfirmed(low: number, high: number, timeout: Time, signal?: AbortSignal): Promise<void>;
}

interface Head {
  key?: string;
  id?: string;
  headers: Record<string, string>;
  /** All values of those headers that have several. */
  repeated?: Record<string, string[]>;
}

/** @internal A body as text. */
export function text(body: Buffer, topic: string): string {
  if (!isUtf8(body)) throw new DecodeError("the body is not UTF-8", { topic });
  return body.toString("utf8");
}

/** @internal A body decoded as JSON. */
export function json(body: Buffer, topic: string): unknown {
  const written = text(body, topic);
  try {
    return decode(written);
  } catch (e) {
    const why = e instanceof Error ? e.message : String(e);
    throw new DecodeError(`the body is not JSON: ${why}`, { topic, cause: e });
  }
}

/** A message received. Its parts are read from the batch it came in when they are asked for. */
export class Message {
  private settled = false;
  private head?: Head;
  private bytes?: Buffer;

  /** @internal */
  constructor(
    private readonly pack: Addon.Pack,
    private readonly at: number,
    private readonly origin: Origin,
  ) {}

  private number(place: number): number {
    return this.pack.meta[this.at + place] as number;
  }

  /** The topic it was sent to. */
  get topic(): string {
    return this.pack.data.toString("utf8", this.number(TOPIC_START), this.number(TOPIC_END));
  }
  /** The group it was received for; undefined for a reply. */
  get group(): string | undefined {
    return this.origin.group;
  }
  /** The stream it is stored in; undefined in core mode. */
  get stream(): string | undefined {
    return this.origin.stream;
  }
  /** The body. */
  get body(): Buffer {
    if (this.bytes) return this.bytes;
    const large = this.number(LARGE);
    const own = large >= 0 ? this.pack.large[large] : undefined;
    const part = this.pack.data.subarray(this.number(BODY_START), this.number(BODY_END));
    // A part keeps its whole pack alive: of a large one it is copied.
    this.bytes = own ?? (this.pack.data.length > LARGE_PACK ? Buffer.from(part) : part);
    return this.bytes;
  }

  private get heading(): Head {
    if (!this.head) {
      const [start, end] = [this.number(HEADERS_START), this.number(BODY_START)];
      this.head = start === end ? { headers: {} } : (JSON.parse(this.pack.data.toString("utf8", start, end)) as Head);
    }
    return this.head;
  }

  /** Headers; of a repeated one the first value. By a name in any case: {@link header}. */
  get headers(): Readonly<Record<string, string>> {
    return this.heading.headers;
  }
  /** The first value of a header, by its name in any case; undefined where there is none. */
  header(name: string): string | undefined {
    return lookUp(this.heading.headers, name);
  }
  /** All values of a header, by its name in any case, in order; empty where there is none. */
  headerValues(name: string): readonly string[] {
    const { headers, repeated } = this.heading;
    const all = repeated && lookUp(repeated, name);
    if (all) return all;
    const one = lookUp(headers, name);
    return one === undefined ? [] : [one];
  }
  /** The key that orders it, if any. */
  get key(): string | undefined {
    return this.heading.key;
  }
  /** The message id, if any. */
  get id(): string | undefined {
    return this.heading.id;
  }
  /** The server's delivery count, from 1; 1 in core mode. */
  get attempt(): number {
    return this.number(ATTEMPT);
  }
  /** How often handlers failed on it, or died with it, before. Counted for handlers; 0 where messages are taken one by one. */
  get failures(): number {
    return this.number(FAILURES);
  }
  /** Its sequence in the stream; undefined in core mode. */
  get sequence(): number | undefined {
    const n = this.number(SEQUENCE);
    return Number.isNaN(n) ? undefined : n;
  }
  /** When it was stored; undefined in core mode. */
  get timestamp(): Date | undefined {
    const ms = this.number(TIME);
    return Number.isNaN(ms) ? undefined : new Date(ms);
  }

  /**
   * The body as text.
   * @throws {@link DecodeError} when it is not UTF-8.
   */
  text(): string {
    return text(this.body, this.topic);
  }

  /**
   * The body decoded as JSON. Integers beyond 2^53 are BigInt, exactly.
   * @throws {@link DecodeError} when it is not JSON.
   */
  // biome-ignore lint/suspicious/noExplicitAny: as JSON.parse
  json<T = any>(): T {
    return json(this.body, this.topic) as T;
  }

  /** What settles it, once; undefined when that was done already or there is nothing to settle. */
  private settle(): Settler | undefined {
    if (this.settled) return undefined;
    this.settled = true;
    return this.settles ? this.origin.settler : undefined;
  }

  private get settles(): boolean {
    return this.number(TOKEN_LOW) !== 0 || this.number(TOKEN_HIGH) !== 0;
  }

  /**
   * Done. Returns at once; acks travel in batches.
   * @returns false when it was settled before, or has nothing to settle (core mode).
   */
  ack(): boolean {
    const settler = this.settle();
    settler?.ack(this.number(TOKEN_LOW), this.number(TOKEN_HIGH));
    return settler !== undefined;
  }

  /**
   * To be delivered again.
   * @param options.delay After this time (milliseconds, or a text such as `"30s"`); default at once.
   * @returns false when it was settled before, or has nothing to settle.
   * @throws {@link ConfigError} when the delay is not a time.
   */
  nak(options?: { delay?: Time }): boolean {
    const delay = time("delay", options?.delay);
    const nak = (s: Settler | undefined) => s?.nak(this.number(TOKEN_LOW), this.number(TOKEN_HIGH), delay) ?? false;
    if (this.settled) return false;
    const told = guard(() => nak(this.settles ? this.origin.settler : undefined));
    this.settled = true;
    return told;
  }

  /**
   * Never to be delivered again.
   * @param reason Why; the server keeps it.
   * @returns false when it was settled before, or has nothing to settle.
   */
  term(reason?: string): boolean {
    return this.settle()?.term(this.number(TOKEN_LOW), this.number(TOKEN_HIGH), reason) ?? false;
  }

  /**
   * A handler still works on it: its ack wait starts again. Done for you up to `maxProcessing`.
   * @returns false when it was settled before, or has nothing to settle.
   */
  inProgress(): boolean {
    if (this.settled || !this.settles) return false;
    return this.origin.settler?.inProgress(this.number(TOKEN_LOW), this.number(TOKEN_HIGH)) ?? false;
  }

  /**
   * Acks and waits for the server's word; done at once in core mode.
   * @param options.timeout Milliseconds or text; default 5 s.
   * @param options.signal Stops the wait, not the ack.
   * @throws {@link Timeout} when no word came in time; {@link ConflictError} when it was settled before.
   */
  async ackConfirmed(options?: { timeout?: Time; signal?: AbortSignal }): Promise<void> {
    const { settler } = this.origin;
    if (!settler || !this.settles) return;
    options?.signal?.throwIfAborted();
    const timeout = time("timeout", options?.timeout) ?? 5000;
    const told = settler.ackConfirmed(this.number(TOKEN_LOW), this.number(TOKEN_HIGH), timeout, options?.signal);
    this.settled = true;
    await told;
  }

  /** @internal What a responder answers it by. */
  get token(): [low: number, high: number] {
    return [this.number(TOKEN_LOW), this.number(TOKEN_HIGH)];
  }

  [inspect.custom](): string {
    const parts = [`topic=${JSON.stringify(this.topic)}`];
    if (this.sequence !== undefined) parts.push(`sequence=${this.sequence}`, `attempt=${this.attempt}`);
    if (this.key !== undefined) parts.push(`key=${JSON.stringify(this.key)}`);
    return `<Message ${parts.join(" ")} body=${this.body.length} bytes>`;
  }
}
