/** The responder. */
import { inspect } from "node:util";
import type { Bridge } from "./bridge";
import { type Body, bytes, count } from "./convert";
import { guardAsync, typed } from "./errors";
import { Slots } from "./handlers";
import type { Message } from "./message";
import type { Addon } from "./native";
import { Source } from "./source";

/** Answers a request with the body it returns (undefined: an empty one); what it throws reaches the asker. */
export type RequestHandler = (m: Message) => Body | Promise<Body>;

/** Settings of a responder. */
export interface RespondOptions {
  /** Responders of one group share the requests. Default `responders`. */
  group?: string;
  /** Requests handled at once. Default 64. */
  concurrency?: number;
}

/** Requests taken from the core in one call at most. */
const PACK = 64;

/** Answers the requests on a topic. */
export class Responder {
  private readonly source: Source;
  private readonly slots: Slots;
  private readonly work: Promise<void>;
  private closing: Promise<void> | undefined;

  /** @internal */
  constructor(
    private readonly native: Addon.Responder,
    bridge: Bridge,
    /** The topic, with its wildcards. */
    readonly topic: string,
    /** The group. */
    readonly group: string,
    private readonly handler: RequestHandler,
    options: RespondOptions,
    private readonly drainTimeout: number,
    private readonly closed: (part: object) => void,
  ) {
    this.slots = new Slots(count("concurrency", options.concurrency, 64));
    this.source = new Source(native, bridge, { group, stream: undefined }, PACK, () => {});
    this.work = this.serve().catch((e) => {
      process.emitWarning(`the responder of ${topic} ended: ${String(e)}`, "EventBusWarning");
    });
  }

  private async serve(): Promise<void> {
    for (let m = await this.source.next(); m !== null; m = await this.source.next()) {
      this.slots.start(this.answer(m));
      await this.slots.free();
    }
  }

  private async answer(m: Message): Promise<void> {
    const [low, high] = m.token;
    try {
      const body = await this.handler(m);
      this.native.reply(low, high, body === undefined || body === null ? Buffer.alloc(0) : bytes(body));
    } catch (thrown) {
      const e = typed(thrown);
      this.native.fail(low, high, e instanceof Error ? `${e.name}: ${e.message}` : String(e));
    }
  }

  /** Takes no more requests and waits for the handlers of those taken, up to the bus's `drainTimeout`. */
  close(): Promise<void> {
    this.closing ??= this.leave();
    return this.closing;
  }

  private async leave(): Promise<void> {
    try {
      await guardAsync(() => this.native.close());
      await this.work;
      await this.slots.idle(this.drainTimeout);
    } finally {
      this.closed(this);
    }
  }

  /** As {@link close}. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  [inspect.custom](): string {
    return `<Responder topic=${JSON.stringify(this.topic)} group=${JSON.stringify(this.group)}>`;
  }
}
