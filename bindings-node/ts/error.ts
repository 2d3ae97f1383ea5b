/** The root of all errors, and how an error of another copy of this package is recognised. */

/** The kind of an error. */
export interface ErrorType {
  readonly name: string;
  readonly code: string;
  readonly retryable: boolean;
}

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
  /** @internal */
  static readonly type: ErrorType = { name: "EventBusError", code: "internal", retryable: false };

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
    const { name, code, retryable } = new.target.type;
    this.name = name;
    const own: Record<string, unknown> = { code, retryable };
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

/** @internal */
export function isBranded(value: unknown, name: string): boolean {
  return typeof value === "object" && value !== null && !!(value as Branded)[BRAND]?.includes(name);
}

/** A class of the tree. */
export type ErrorClass = new (message: string, fields?: ErrorFields) => EventBusError;

/** @internal Every class by its name; filled by the generated module. */
export const CLASSES: Record<string, ErrorClass> = {};

/** @internal The classes that an error says it is of, by name. */
export function brand(error: object, names: readonly string[]): void {
  Object.defineProperty(error, BRAND, { value: names });
}
