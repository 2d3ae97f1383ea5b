/** Listeners of the user's, called so that what they do wrong harms nothing. */
import { traced } from "./failures";

/** @internal A process warning that `what` failed. */
export function warn(what: string, e: unknown): void {
  process.emitWarning(`${what} failed: ${traced(e)}`, "EventBusWarning");
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
