/** JavaScript values on their way to the addon: what goes with a body, settings, times. */
import { inspect } from "node:util";
import { ConfigError } from "./errors";
import type { Time } from "./generated/settings";
import { type Headers, headerList } from "./headers";
import type { Addon } from "./native";
import { known } from "./options";

/** What may go with one body. */
export interface SendOptions {
  /** Orders messages: those of one key are stored in the order sent. */
  key?: string;
  /** Deduplicates messages; generated when absent. */
  id?: string;
  /** Further headers. */
  headers?: Headers;
  /** How long the stream keeps the message, in milliseconds or as text; at least a second. */
  ttl?: Time;
  /**
   * The sequence the stream's last message must have, 0 for an empty stream; else the message is refused as
   * `WrongSequence`.
   */
  expectedLastSequence?: number;
  /** The same for the last message of the topic. */
  expectedLastSubjectSequence?: number;
  /** Stops the wait, not the message: its failure goes to the producer's `onError`, or shows at the next `flush`. */
  signal?: AbortSignal;
}

/** @internal */
export function optionalText(name: string, value: unknown): string | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value !== "string") throw new ConfigError(`${name}: a ${typeof value} is given where a string is needed`);
  return value;
}

/** @internal */
export function time(name: string, value: unknown): Time | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value !== "number" && typeof value !== "string") {
    throw new ConfigError(`${name}: give milliseconds, or a text such as "30s"`);
  }
  return value;
}

function sequence(name: string, value: unknown): number | undefined {
  if (value === undefined || value === null) return undefined;
  if (typeof value === "number" && Number.isSafeInteger(value) && value >= 0) return value;
  throw new ConfigError(`${name} is ${inspect(value)}: give a sequence, a whole number from 0 to 2^53 - 1`);
}

const SEND = new Set(["key", "id", "headers", "ttl", "expectedLastSequence", "expectedLastSubjectSequence", "signal"]);

/** @internal */
export function extras(options: SendOptions | undefined): Addon.Extras | undefined {
  if (options === undefined || options === null) return undefined;
  known("send", options, SEND);
  return {
    key: optionalText("key", options.key),
    id: optionalText("id", options.id),
    headers: headerList(options.headers),
    ttl: time("ttl", options.ttl),
    expectedLastSequence: sequence("expectedLastSequence", options.expectedLastSequence),
    expectedLastSubjectSequence: sequence("expectedLastSubjectSequence", options.expectedLastSubjectSequence),
  };
}

/** @internal Settings as JSON text; the core knows their names. */
export function settings(value: object | undefined): string {
  return JSON.stringify(value ?? {}, (name, v: unknown) => {
    switch (typeof v) {
      case "number":
        // JSON has no NaN: as a text it is refused with the setting's name instead of being left out.
        return Number.isFinite(v) ? v : String(v);
      case "bigint":
      case "function":
      case "symbol":
        throw new ConfigError(`setting ${name}: a ${typeof v} is not a setting`);
      default:
        return v;
    }
  });
}

/** @internal A whole number from 1 on. */
export function count(name: string, value: unknown, otherwise: number): number {
  if (value === undefined) return otherwise;
  if (typeof value !== "number" || !Number.isSafeInteger(value) || value < 1) {
    throw new ConfigError(`${name} is ${String(value)}: give a whole number from 1 on`);
  }
  return value;
}
