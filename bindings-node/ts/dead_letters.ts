/** What dead letters have besides their calls: iteration, and their bodies. */
import { json, text } from "./message";

/** @internal Names and values as an object. */
export function headers(pairs: readonly [string, string][]): Readonly<Record<string, string>> {
  return Object.fromEntries(pairs);
}

/** A letter with a body. */
export abstract class Body {
  /** The topic it was sent to. */
  abstract readonly topic: string;
  /** Its body; empty when it was too large to be kept. */
  abstract readonly body: Buffer;
  /** The size of a body that was not kept. */
  abstract readonly truncated: number | undefined;

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

  /** @internal */
  protected size(): string {
    return this.truncated === undefined ? `${this.body.length} bytes` : `${this.truncated} bytes, not kept`;
  }
}

/** Letters, listed one after another. */
export abstract class Listing<L> implements AsyncIterable<L> {
  /** Lists them from the beginning. */
  abstract list(): { next(): Promise<L | undefined> };

  /** What is replayed and fails again is another letter: not of this iteration. */
  async *[Symbol.asyncIterator](): AsyncGenerator<L, undefined> {
    const listing = this.list();
    for (let letter = await listing.next(); letter !== undefined; letter = await listing.next()) yield letter;
  }
}
