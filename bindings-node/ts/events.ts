/** What happens to a connection, as an async iterator and to listeners. */
import type { Bridge } from "./bridge";
import { guard } from "./errors";
import { type ConnectionEvent, readConnectionEvent } from "./generated/records";
import { tell } from "./listeners";
import type { Addon } from "./native";

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
    return text === null
      ? { done: true, value: undefined }
      : { done: false, value: readConnectionEvent(JSON.parse(text)) };
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
