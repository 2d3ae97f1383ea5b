/** Bodies: bytes as they are, text as UTF-8, anything else as JSON, or as the application's own encoder writes it. */
import { types } from "node:util";
import { ConfigError } from "./errors";
import { encode } from "./json";

/**
 * What can be sent: bytes as they are, text as UTF-8, anything else as JSON (BigInt as an exact integer). What JSON has
 * no form for (a Map, a Set, NaN, bytes within an object) is a {@link ConfigError} that names the path.
 */
export type Body = Uint8Array | ArrayBuffer | string | unknown;

/** Makes bytes or a text of a body that is neither. */
export type Encoder = (value: unknown) => Uint8Array | ArrayBuffer | string;

/** What JSON may have written instead of a value that has no form there; only then the value is looked through. */
const SUSPECT = /null|\{\}|\{"0":|"type":"Buffer"/;

const kind = (value: object) => value.constructor?.name ?? "object";

/** Why a value has no form in JSON; undefined when it has one. */
function noForm(value: unknown): string | undefined {
  switch (typeof value) {
    case "number":
      return Number.isFinite(value) ? undefined : `is ${value}, which is not a number in JSON`;
    case "undefined":
      return "is undefined: leave it out, or give null";
    case "function":
    case "symbol":
      return `is a ${typeof value}`;
    case "object":
      if (value === null) return undefined;
      if (ArrayBuffer.isView(value) || types.isAnyArrayBuffer(value)) {
        return `is a ${kind(value)}: bytes within JSON have no one form; write them as base64 or an array, or send them alone`;
      }
      if (types.isMap(value) || types.isSet(value) || types.isWeakMap(value) || types.isWeakSet(value)) {
        return `is a ${kind(value)}: write Object.fromEntries(…) or an array of it`;
      }
      if (types.isPromise(value)) return "is a Promise: await it";
      if (types.isNativeError(value))
        return `is an error (${kind(value)}): send its message, and what else of it is needed`;
      if (types.isRegExp(value)) return "is a RegExp: send its source";
      if (types.isDate(value) && Number.isNaN(value.getTime())) return "is an invalid Date";
      return undefined;
    default:
      return undefined;
  }
}

/** Looks for what JSON has written as something else; of what has a `toJSON`, for what that gives. */
function check(given: unknown, path: string, inArray: boolean): void {
  const has =
    given !== null && typeof given === "object" && typeof (given as { toJSON?: unknown }).toJSON === "function";
  const bytesOrDate = has && (ArrayBuffer.isView(given) || types.isDate(given));
  const value = has && !bytesOrDate ? (given as { toJSON(key: string): unknown }).toJSON("") : given;
  // A property without a value is left out, as JSON does everywhere.
  const leftOut = !inArray && (value === undefined || typeof value === "function" || typeof value === "symbol");
  if (leftOut) return;
  const why = noForm(value);
  if (why !== undefined) throw new ConfigError(`${path} ${why}`);
  if (value === null || typeof value !== "object" || types.isDate(value)) return;
  if (Array.isArray(value)) {
    for (let i = 0; i < value.length; i++) check(value[i], `${path}[${i}]`, true);
    return;
  }
  for (const [name, one] of Object.entries(value)) {
    check(
      one,
      /^[\p{ID_Start}$_][\p{ID_Continue}$]*$/u.test(name) ? `${path}.${name}` : `${path}[${JSON.stringify(name)}]`,
      false,
    );
  }
}

function asJson(body: unknown): string {
  const why = noForm(body);
  if (why !== undefined) {
    throw new ConfigError(
      `body ${why}${why.includes(":") ? "" : ": give bytes, a string, or something JSON can hold"}`,
    );
  }
  let written: { text: string | undefined; exact: boolean };
  try {
    written = encode(body);
  } catch (e) {
    const text = e instanceof Error ? e.message : String(e);
    throw new ConfigError(`body: it cannot be written as JSON: ${text}`, { cause: e });
  }
  if (written.text === undefined) throw new ConfigError(`body is a ${typeof body}, which JSON cannot hold`);
  if (written.exact || SUSPECT.test(written.text)) check(body, "body", true);
  return written.text;
}

/** @internal An encoder that was given; none where none was. */
export function checkedEncoder(given: unknown): Encoder | undefined {
  if (given === undefined || given === null) return undefined;
  if (typeof given !== "function") throw new ConfigError("encoder: give a function");
  return given as Encoder;
}

/** @internal The bytes of a body. */
export function bytes(body: Body, encoder?: Encoder): Uint8Array {
  if (typeof body === "string") return Buffer.from(body);
  // By what they are and not by their class: they may come from another realm, as under Jest.
  if (ArrayBuffer.isView(body)) {
    return body instanceof Uint8Array ? body : new Uint8Array(body.buffer, body.byteOffset, body.byteLength);
  }
  const tag = Object.prototype.toString.call(body);
  if (tag === "[object ArrayBuffer]" || tag === "[object SharedArrayBuffer]")
    return new Uint8Array(body as ArrayBuffer);
  if (!encoder) return Buffer.from(asJson(body));
  const made: unknown = encoder(body);
  if (typeof made === "string" || ArrayBuffer.isView(made) || made instanceof ArrayBuffer) return bytes(made);
  throw new ConfigError(`encoder: it gave a ${typeof made}: it must give bytes or a string`);
}
