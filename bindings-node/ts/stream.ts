/** Streams. */
import { inspect } from "node:util";
import { camel } from "./convert";
import { guardAsync } from "./errors";
import type { Addon } from "./native";

/** A stream as the server describes it. */
export interface StreamInfo {
  /** Its name. */
  name: string;
  /** The subjects it stores. */
  subjects: string[];
  /** Messages stored now. */
  messages: number;
  /** Bytes stored now. */
  bytes: number;
  /** Sequence of the oldest message. */
  firstSequence: number;
  /** Sequence of the newest message. */
  lastSequence: number;
  /** Consumers it has. */
  consumers: number;
  /** Replicas it is stored on. */
  replicas: number;
  /** How long ids are remembered, in milliseconds. */
  duplicateWindow: number;
}

/** @internal The core counts in seconds. */
export function streamInfo(wire: unknown): StreamInfo {
  const info = camel(wire) as StreamInfo;
  return { ...info, duplicateWindow: info.duplicateWindow * 1000 };
}

/** A stream by name; nothing is asked of the server before {@link info}. */
export class Stream {
  /** @internal */
  constructor(private readonly native: Addon.Stream) {}

  /** Its name. */
  get name(): string {
    return this.native.name;
  }

  /**
   * What the server says of it.
   * @throws {@link NotFoundError} when it does not exist.
   */
  async info(): Promise<StreamInfo> {
    return streamInfo(JSON.parse(await guardAsync(() => this.native.info())));
  }

  [inspect.custom](): string {
    return `<Stream ${JSON.stringify(this.name)}>`;
  }
}
