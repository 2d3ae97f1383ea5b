/** Listeners of the user's, called so that what they do wrong harms nothing. */
import { inspect } from "node:util";

/** @internal What was thrown, as a text. */
export function why(e: unknown): string {
  if (e instanceof Error) return e.stack ?? e.message;
  return typeof e === "string" ? e : inspect(e);
}

/** @internal A process warning that `what` failed. */
export function warn(what: string, e: unknown): void {
  process.emitWarning(`${what} failed: ${why(e)}`, "EventBusWarning");
}

/** @internal Calls a listener; if it throws, or its promise rejects, that is a warning and nothing more. */
export function tell(what: string, listener: () => unknown): void {
  try {
    const told = listener();
    if (told instanceof Promise) told.catch((e) => warn(what, e));
  } catch (e) {
    warn(what, e);
  }
}
