/** What a handler says by what it throws, and the words for it. */
import { inspect, types } from "node:util";
import { ConfigError, Reject, RetryAfter } from "./errors";

/** @internal The first `Reject` or `RetryAfter` in what was thrown, if that is a group of errors. */
export function find(e: unknown): Reject | RetryAfter | undefined {
  const seen = new Set<unknown>();
  const search = (one: unknown): Reject | RetryAfter | undefined => {
    if (one instanceof Reject || one instanceof RetryAfter) return one;
    if (!(one instanceof AggregateError) || seen.has(one)) return undefined;
    seen.add(one);
    for (const inner of one.errors) {
      const found = search(inner);
      if (found) return found;
    }
    return undefined;
  };
  return attempt(() => search(e));
}

/** @internal The class and the words of what was thrown, those of a group's first error too; never fails. */
export function described(e: unknown, depth = 0): string {
  if (!types.isNativeError(e) && !(attempt(() => e instanceof Error) ?? false)) return shown(e);
  const error = e as Error;
  const name = attempt(() => `${error.name}`) || className(e);
  const words = attempt(() => `${error.message}`);
  const text = words ? `${name}: ${words}` : name;
  const first = attempt(() => (e instanceof AggregateError && e.errors.length > 0 ? [e.errors[0]] : undefined));
  return first && depth < 8 ? `${text}: ${described(first[0], depth + 1)}` : text;
}

/** @internal The stack of what was thrown, or else its words; never fails. */
export function traced(e: unknown): string {
  const stack = attempt(() => (types.isNativeError(e) || e instanceof Error ? (e as Error).stack : undefined));
  return typeof stack === "string" && stack !== "" ? stack : described(e);
}

/** @internal Refuses what is no handler: a generator function would never run. */
export function checked(handler: unknown): void {
  if (typeof handler !== "function") throw new ConfigError("handler: give a function");
  if (types.isGeneratorFunction(handler)) {
    throw new ConfigError("handler: a generator function never runs: use return, not yield");
  }
}

/** @internal A function may still return a generator, which never ran. */
export function ran(result: unknown): void {
  if (typeof result === "object" && types.isGeneratorObject(result)) {
    throw new TypeError("the handler returned a generator, which never ran: use return, not yield");
  }
}

function shown(e: unknown): string {
  if (typeof e === "string") return e;
  return attempt(() => inspect(e)) ?? className(e);
}

function className(e: unknown): string {
  return attempt(() => `${(e as object).constructor.name}`) || typeof e;
}

/** Getters and proxies of the application may throw. */
function attempt<T>(f: () => T): T | undefined {
  try {
    return f();
  } catch {
    return undefined;
  }
}
