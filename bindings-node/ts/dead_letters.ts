/** Dead letters: listed, replayed to their one group, discarded. */
import { inspect } from "node:util";
import { guardAsync } from "./errors";
import { json, text } from "./message";
import type { Addon } from "./native";

/** Names and values in turn, as an object. */
function headers(list: readonly string[]): Readonly<Record<string, string>> {
  const pairs: [string, string][] = [];
  for (let i = 0; i + 1 < list.length; i += 2) pairs.push([list[i] as string, list[i + 1] as string]);
  return Object.fromEntries(pairs);
}

/** A message that could not be handled, and why. */
export class DeadLetter {
  /** Its sequence among the dead letters. */
  readonly position: number;
  /** The topic it was sent to. */
  readonly topic: string;
  /** The stream it is from. */
  readonly stream: string;
  /** Its sequence there. */
  readonly sequence: number;
  /** The group that could not handle it. */
  readonly group: string;
  /** What the last attempt failed with. */
  readonly reason: string;
  /** Attempts made. */
  readonly attempts: number;
  /** How often handlers failed on it, or died with it. */
  readonly failures: number;
  /** When it became a dead letter. */
  readonly time: Date;
  /** The key it was sent with, if any. */
  readonly key: string | undefined;
  /** The id it was sent with, if any. */
  readonly id: string | undefined;
  /** Its own headers. */
  readonly headers: Readonly<Record<string, string>>;
  /** Its body; empty when it was too large to be kept, see {@link truncated}. */
  readonly body: Buffer;
  /** The size of a body that was not kept with the letter; a replay takes it from the stream. */
  readonly truncated: number | undefined;

  /** @internal */
  constructor(private readonly native: Addon.DeadLetter) {
    const parts = native.parts();
    this.position = parts.position;
    this.topic = parts.topic;
    this.stream = parts.stream;
    this.sequence = parts.sequence;
    this.group = parts.group;
    this.reason = parts.reason;
    this.attempts = parts.attempts;
    this.failures = parts.failures;
    this.time = new Date(parts.time);
    this.key = parts.key;
    this.id = parts.id;
    this.headers = headers(parts.headers);
    this.body = parts.body;
    this.truncated = parts.truncated;
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

  /**
   * Sends it to its group again, and to no other, with a new count of attempts; then removes the letter.
   * @throws {@link NotFoundError} when its body was not kept and the stream has the message no more.
   */
  replay(): Promise<void> {
    return guardAsync(() => this.native.replay());
  }

  /**
   * Removes it.
   * @returns false when it was removed already.
   */
  discard(): Promise<boolean> {
    return guardAsync(() => this.native.discard());
  }

  [inspect.custom](): string {
    const { position, topic, group, sequence, attempts, reason } = this;
    const names = `topic=${JSON.stringify(topic)} group=${JSON.stringify(group)}`;
    const size = this.truncated === undefined ? `${this.body.length} bytes` : `${this.truncated} bytes, not kept`;
    const numbers = `position=${position} ${names} sequence=${sequence} attempts=${attempts}`;
    return `<DeadLetter ${numbers} reason=${JSON.stringify(reason)} body=${size}>`;
  }
}

/**
 * The dead letters of a topic and a group. Iterate them, oldest first:
 *
 * ```ts
 * for await (const letter of bus.deadLetters("opencoze_knowledge", { group: "cg_knowledge" })) {
 *   console.log(letter.reason, letter.json());
 *   await letter.replay();
 * }
 * ```
 */
export class DeadLetters implements AsyncIterable<DeadLetter> {
  /** @internal */
  constructor(
    private readonly native: Addon.DeadLetters,
    /** The topic, with its wildcards. */
    readonly topic: string,
    /** The group that could not handle them. */
    readonly group: string,
  ) {}

  /** What is replayed and fails again is another letter: not of this iteration. */
  async *[Symbol.asyncIterator](): AsyncGenerator<DeadLetter, undefined> {
    const last = await guardAsync(() => this.native.last());
    for (let position = 0; position < last; ) {
      const after = position;
      const found = await guardAsync(() => this.native.nextAfter(after));
      if (found === null) return;
      const letter = new DeadLetter(found);
      position = letter.position;
      if (position <= last) yield letter;
    }
  }

  /**
   * Sends all letters there are now to their group again. No other group sees them; a consumer of the group receives
   * each as the message it was, with a new count of attempts. Workers on other clients do not see replays.
   * @returns How many.
   * @throws The first failure ends it; those before are replayed.
   */
  replay(): Promise<number> {
    return guardAsync(() => this.native.replay());
  }

  /**
   * Removes all letters there are now.
   * @returns How many.
   * @throws The first failure ends it; those before are removed.
   */
  discard(): Promise<number> {
    return guardAsync(() => this.native.discard());
  }

  [inspect.custom](): string {
    return `<DeadLetters topic=${JSON.stringify(this.topic)} group=${JSON.stringify(this.group)}>`;
  }
}
