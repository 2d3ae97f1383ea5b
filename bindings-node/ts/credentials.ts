/** Credentials that change: a callback, asked before every connection. */
import type { Bridge } from "./bridge";
import { guard } from "./errors";
import { warn } from "./listeners";

/** Credentials: the text of a credentials file, or one way to sign in by name. */
export type Credentials =
  | string
  | { user: string; password: string }
  | { token: string }
  | { nkey: string; jwt?: string };

/** Gives credentials, within `apiTimeout`. */
export type CredentialsSource = () => Credentials | Promise<Credentials>;

/** @internal Answers one question with what the source gives; what it throws fails that attempt. */
export async function answer(bridge: Bridge, source: CredentialsSource, question: number): Promise<void> {
  try {
    const given = JSON.stringify(await source());
    if (given === undefined) throw new TypeError("it gave nothing");
    guard(() => bridge.native.answer(question, given));
  } catch (e) {
    warn("the callback for credentials", e);
    // What was thrown may hold a secret: only its name goes into errors and events.
    bridge.native.refuse(question, `it threw ${e instanceof Error ? e.name : typeof e}`);
  }
}
