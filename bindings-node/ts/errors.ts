/** The class tree of errors, and the one place where the core's errors become it. */
import { addon } from "./native";

/** What an error may name besides its text. */
export interface ErrorFields {
  /** The topic concerned. */
  topic?: string | null;
  /** The stream concerned. */
  stream?: string | null;
  /** The group concerned. */
  group?: string | null;
  /** The server's (or responder's) own text. */
  server?: string | null;
  /** The id of the message concerned. */
  id?: string | null;
  /** The single failures behind a flush's error. */
  failures?: readonly EventBusError[];
  /** What lies behind it. */
  cause?: unknown;
}

/** The classes of an error, by name: the same in every copy of this package. */
const BRAND = Symbol.for("nats-eventbus.error");
interface Branded {
  [BRAND]?: readonly string[];
}

/** The names of a class and of those it specialises, up to the root. */
function names(made: unknown): string[] {
  const out: string[] = [];
  for (let c = made; typeof c === "function" && c !== Error && c.name; c = Object.getPrototypeOf(c)) out.push(c.name);
  return out;
}

/** An error of the bus. Its `code` is stable and the same in every language. */
export class EventBusError extends Error {
  /** The stable code, such as `publish.unknown`. */
  declare readonly code: string;
  /** Whether the same call may succeed later unchanged. */
  declare readonly retryable: boolean;
  /** The topic concerned. */
  declare readonly topic?: string;
  /** The stream concerned. */
  declare readonly stream?: string;
  /** The group concerned. */
  declare readonly group?: string;
  /** The server's (or responder's) own text. */
  declare readonly server?: string;
  /** The id of the message that was not acked, given or generated: to look for it, or to send it again. */
  declare readonly id?: string;
  /** The single failures behind a flush's error; at most 100. */
  declare readonly failures?: readonly EventBusError[];

  constructor(message: string, fields: ErrorFields = {}) {
    super(message, "cause" in fields ? { cause: fields.cause } : undefined);
    const kind = kindOf(new.target);
    this.name = kind?.class ?? "EventBusError";
    const own: Record<string, unknown> = { code: kind?.code ?? "internal", retryable: kind?.retryable ?? false };
    for (const name of ["topic", "stream", "group", "server", "id"] as const) {
      if (fields[name] != null) own[name] = fields[name];
    }
    if (fields.failures?.length) own.failures = fields.failures;
    Object.assign(this, own);
    Object.defineProperty(this, BRAND, { value: names(new.target) });
  }

  /** An error of another copy of this package, or of another realm (as under Jest), is one of the class of its name, too. */
  static override [Symbol.hasInstance](this: { name: string }, value: unknown): boolean {
    // biome-ignore lint/complexity/noThisInStatic: it is the method of each class, and asked of that
    return isInstance(this, value);
  }
}

/** Whether a value is of a class: of ours by its brand, too. */
function isInstance(of: { name: string }, value: unknown): boolean {
  if (Function.prototype[Symbol.hasInstance].call(of, value)) return true;
  const ours = of === EventBusError || CLASSES[of.name] === (of as unknown);
  return ours && isBranded(value, of.name);
}

function isBranded(value: unknown, name: string): boolean {
  return typeof value === "object" && value !== null && !!(value as Branded)[BRAND]?.includes(name);
}

/** A setting or an argument is wrong: fix the one named. */
export class ConfigError extends EventBusError {}
/** No connection: the rest is retried for you. */
export class ConnectionError extends EventBusError {}
/** The server refused the credentials. */
export class AuthError extends ConnectionError {}
/** The TLS handshake failed: fix certificates or names. */
export class TlsError extends ConnectionError {}
/** The server denies the subject named: ask for the right. */
export class PermissionError extends EventBusError {}
/** The stream, consumer or JetStream itself does not exist: declare it. */
export class NotFoundError extends EventBusError {}
/** The server or the stream cannot do what was asked: nothing was done. */
export class NotSupportedError extends EventBusError {}
/** What exists differs from what was asked: correct one of them. */
export class ConflictError extends EventBusError {}
/** The message is not stored and never will be: change it or make room. */
export class PublishRejected extends EventBusError {}
/** Body, headers or topic are over a limit. */
export class TooLarge extends PublishRejected {}
/** An expected sequence did not match. */
export class WrongSequence extends PublishRejected {}
/** The stream is at its limit and discards new messages. */
export class StreamFull extends PublishRejected {}
/** Never handed to a live connection before its deadline. */
export class NotSent extends PublishRejected {}
/** The topic cannot be published to. */
export class InvalidTopic extends PublishRejected {}
/** A header name or value cannot be sent. */
export class InvalidHeader extends PublishRejected {}
/** The deadline passed; it may be stored: check, or send again with the same id. */
export class PublishUnknown extends EventBusError {}
/** The window is full: slow down. */
export class Backpressure extends EventBusError {}
/** The time given ran out. */
export class Timeout extends EventBusError {}
/** Nobody answers the topic. */
export class NoResponders extends EventBusError {}
/** The responder failed; its words are in `server`. */
export class RequestFailed extends EventBusError {}
/** The bus, producer or consumer is closed. */
export class ClosedError extends EventBusError {}
/** A body is not what it was read as. */
export class DecodeError extends EventBusError {}
/** A defect in this library: please report it. */
export class InternalError extends EventBusError {}

type ErrorClass = new (message: string, fields?: ErrorFields) => EventBusError;

/** @internal Every class by its name. */
export const CLASSES: Readonly<Record<string, ErrorClass>> = {
  ConfigError,
  ConnectionError,
  AuthError,
  TlsError,
  PermissionError,
  NotFoundError,
  NotSupportedError,
  ConflictError,
  PublishRejected,
  TooLarge,
  WrongSequence,
  StreamFull,
  NotSent,
  InvalidTopic,
  InvalidHeader,
  PublishUnknown,
  Backpressure,
  Timeout,
  NoResponders,
  RequestFailed,
  ClosedError,
  DecodeError,
  InternalError,
};

// Codes are the core's: looked up, never written down here.
const KINDS = new Map(addon.errorKinds().map((kind) => [CLASSES[kind.class] as unknown, kind]));

function kindOf(made: unknown) {
  for (let c = made; typeof c === "function"; c = Object.getPrototypeOf(c)) {
    const kind = KINDS.get(c);
    if (kind) return kind;
  }
  return undefined;
}

interface Wire extends ErrorFields {
  class: string;
  message: string;
  failures?: EventBusError[];
}

function build(wire: Wire): EventBusError {
  const made = CLASSES[wire.class] ?? InternalError;
  return new made(wire.message, { ...wire, failures: (wire.failures as unknown as Wire[] | undefined)?.map(build) });
}

/** @internal The core's error from its JSON text. */
export function fromJson(text: string): EventBusError {
  return build(JSON.parse(text) as Wire);
}

/** Whether it is an error, of whatever realm: the addon's are of the one that loaded it. */
function isError(e: unknown): e is Error {
  return typeof e === "object" && e !== null && typeof (e as { message?: unknown }).message === "string";
}

/** @internal Whatever the addon threw, as an error of the tree. */
export function typed(e: unknown): unknown {
  if (!isError(e) || e instanceof EventBusError) return e;
  if (e.message.startsWith('{"class"') || e.message.startsWith('{"code"')) {
    try {
      return fromJson(e.message);
    } catch {
      return new InternalError(e.message, { cause: e });
    }
  }
  const code = (e as { code?: unknown }).code;
  if (code === "GenericFailure") return new InternalError(e.message, { cause: e });
  // The addon's own checks of arguments: StringExpected, InvalidArg and the like.
  return typeof code === "string" && /Expected$|^InvalidArg$/.test(code) ? new ConfigError(e.message, { cause: e }) : e;
}

/** @internal Calls the addon; what it throws becomes typed. */
export function guard<T>(call: () => T): T {
  try {
    return call();
  } catch (e) {
    throw typed(e);
  }
}

/** @internal Calls the addon for a promise; what it throws or rejects with becomes typed. */
export async function guardAsync<T>(call: () => Promise<T>): Promise<T> {
  try {
    return await call();
  } catch (e) {
    throw typed(e);
  }
}

/**
 * Thrown by a handler: the message is never to be delivered again.
 */
export class Reject extends Error {
  /** @param reason Why; the server keeps it. */
  constructor(readonly reason: string = "rejected by the handler") {
    super(reason);
    this.name = "Reject";
    Object.defineProperty(this, BRAND, { value: ["Reject"] });
  }

  /** One of another copy of this package, or of another realm, is one as well. */
  static override [Symbol.hasInstance](value: unknown): boolean {
    return isBranded(value, "Reject");
  }
}

/**
 * Thrown by a handler: the message is to be delivered again after a delay of its own.
 */
export class RetryAfter extends Error {
  /** @param delay Milliseconds, or a text such as `"30s"`. */
  constructor(readonly delay: number | string) {
    super(`retry after ${typeof delay === "number" ? `${delay} ms` : delay}`);
    this.name = "RetryAfter";
    Object.defineProperty(this, BRAND, { value: ["RetryAfter"] });
  }

  /** One of another copy of this package, or of another realm, is one as well. */
  static override [Symbol.hasInstance](value: unknown): boolean {
    return isBranded(value, "RetryAfter");
  }
}
