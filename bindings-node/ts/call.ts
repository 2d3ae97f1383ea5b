/** The rare call: a noun of the core, a name, and arguments by name. */
import { settings } from "./convert";
import { guard, guardAsync } from "./errors";
import type { Addon } from "./native";

/** @internal Makes a call that ends at once. */
export function now(handle: Addon.Handle, name: string, given?: object, body?: Uint8Array): Addon.Answer {
  return guard(() => handle.call(name, given && settings(given), body) as Addon.Answer);
}

/** @internal Makes a call that waits for the server. */
export function later(handle: Addon.Handle, name: string, given?: object, body?: Uint8Array): Promise<Addon.Answer> {
  return guardAsync(async () => handle.call(name, given && settings(given), body));
}

/** @internal The value that a call gave. */
export function result<T>(answer: Addon.Answer): T {
  return JSON.parse(answer.json as string) as T;
}
