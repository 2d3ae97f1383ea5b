/** What happens to a connection, as an async iterator and to listeners. */
import type { Bridge } from "./bridge";
import { guard } from "./errors";
import { tell } from "./listeners";
import type { Addon } from "./native";

/**
 * What happened: `connecting` (a server could not be reached, others are tried), `connected`, `disconnected`,
 * `reconnected`, `auth_failed` (credentials refused, expired or revoked), `lame_duck` (the server is about to shut
 * down), `slow_consumer` (core messages were dropped), `permission_denied`, `closed`.
 */
export type ConnectionEventKind =
  | "connecting"
  | "connected"
  | "disconnected"
  | "reconnected"
  | "auth_failed"
  | "lame_duck"
  | "slow_consumer"
  | "permission_denied"
  | "closed";

/** Something that happened to a connection. */
export interface ConnectionEvent {
  /** What. */
  readonly kind: ConnectionEventKind;
  /** The server concerned, as `host:port`. */
  readonly server?: string;
  /** Why, in words; never a secret. */
  readonly cause?: string;
  /** The topic concerned. */
  readonly topic?: string;
  /** When. */
  readonly time: Date;
  /** Events before this one that this listener was too slow for. */
  readonly missed: number;
}

interface Wire {
  kind: ConnectionEventKind;
  server: string | null;
  cause: string | null;
  topic: string | null;
  time: number;
  missed: number;
}

function read(text: string): ConnectionEvent {
  const { kind, server, cause, topic, time, missed } = JSON.parse(text) as Wire;
  return {
    kind,
    ...(server !== null && { server }),
    ...(cause !== null && { cause }),
    ...(topic !== null && { topic }),
    time: new Date(time * 1000),
    missed,
  };
}

/** @internal Waits for what a feed has next, as JSON; null at its end. */
export async function next(feed: Addon.Events, bridge: Bridge): Promise<string | null> {
  for (;;) {
    const text = guard(() => feed.take());
    if (text !== null) return text;
    if (feed.isOver()) return null;
    const token = bridge.token();
    const waiting = bridge.wait<void>(token);
    if (feed.arm(token)) await waiting;
    else bridge.forget(token);
  }
}

/** The events of a connection from when it was made on; the last is `closed`. */
export class ConnectionEvents implements AsyncIterableIterator<ConnectionEvent, undefined> {
  /** @internal */
  constructor(
    private readonly native: Addon.Events,
    private readonly bridge: Bridge,
  ) {}

  /** Waits for the next event. */
  async next(): Promise<IteratorResult<ConnectionEvent, undefined>> {
    const text = await next(this.native, this.bridge);
    return text === null ? { done: true, value: undefined } : { done: false, value: read(text) };
  }

  /** Ends the listening. */
  async return(): Promise<IteratorResult<ConnectionEvent, undefined>> {
    this.native.close();
    return { done: true, value: undefined };
  }

  [Symbol.asyncIterator](): this {
    return this;
  }

  /** @internal Calls a listener with every event; what it throws is a warning. */
  tell(listener: (event: ConnectionEvent) => unknown): () => void {
    const all = async () => {
      for await (const event of this) tell("a listener of events", () => listener(event));
    };
    // Only the end of the bus can fail it, and then no event is left.
    all().catch(() => {});
    return () => this.native.close();
  }
}
