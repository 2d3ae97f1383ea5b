/** Nouns that give one thing after another, as async iterators; and nouns with bytes. */
import { json, text } from "./message";

/** @internal Names and values as an object. */
export function headers(pairs: readonly [string, string][]): Readonly<Record<string, string>> {
  return Object.fromEntries(pairs);
}

/** One thing after another: `for await`. */
export abstract class Cursor<T> implements AsyncIterable<T> {
  /** The next one; undefined at the end. */
  abstract next(): Promise<T | undefined>;

  async *[Symbol.asyncIterator](): AsyncGenerator<T, undefined> {
    for (let found = await this.next(); found !== undefined; found = await this.next()) yield found;
  }
}

/** Something with bytes. */
export abstract class Decoded {
  /** @internal */
  protected abstract bytes(): Buffer;
  /** @internal What an error names. */
  protected abstract named(): string;

  /**
   * The bytes as text.
   * @throws {@link DecodeError} when they are not UTF-8.
   */
  text(): string {
    return text(this.bytes(), this.named());
  }

  /**
   * The bytes decoded as JSON. Integers beyond 2^53 are BigInt, exactly.
   * @throws {@link DecodeError} when they are not JSON.
   */
  // biome-ignore lint/suspicious/noExplicitAny: as JSON.parse
  json<T = any>(): T {
    return json(this.bytes(), this.named()) as T;
  }

  /** @internal */
  protected size(): string {
    const { truncated } = this as { truncated?: number };
    return truncated === undefined ? `${this.bytes().length} bytes` : `${truncated} bytes, not kept`;
  }
}
