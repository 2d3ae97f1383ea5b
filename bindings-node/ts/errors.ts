/** The class tree of errors, and the one place where the core's errors become it. */
import { brand, CLASSES, type ErrorClass, type ErrorFields, EventBusError, isBranded } from "./error";
import { ConfigError, InternalError } from "./generated/errors";

export { CLASSES, type ErrorFields, EventBusError } from "./error";
export * from "./generated/errors";

interface Wire extends ErrorFields {
  class: string;
  message: string;
  failures?: EventBusError[];
}

function build(wire: Wire): EventBusError {
  const made: ErrorClass = CLASSES[wire.class] ?? InternalError;
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
    brand(this, ["Reject"]);
  }

  /** One of another copy of this package, or of another realm, is one as well. */
  static override [Symbol.hasInstance](value: unknown): boolean {
    return isBranded(value, "Reject");
  }
}

/**
 * Thrown by a handler: delivers the message again after a delay of its own.
 */
export class RetryAfter extends Error {
  /** @param delay Milliseconds, or a text such as `"30s"`. */
  constructor(readonly delay: number | string) {
    super(`retry after ${typeof delay === "number" ? `${delay} ms` : delay}`);
    this.name = "RetryAfter";
    brand(this, ["RetryAfter"]);
  }

  /** One of another copy of this package, or of another realm, is one as well. */
  static override [Symbol.hasInstance](value: unknown): boolean {
    return isBranded(value, "RetryAfter");
  }
}
