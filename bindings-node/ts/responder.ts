/** The responder. */
import { AsyncResource } from "node:async_hooks";
import { inspect } from "node:util";
import type { Bridge } from "./bridge";
import { type Body, bytes, count } from "./convert";
import { guardAsync, typed } from "./errors";
import { described, ran } from "./failures";
import { Workers } from "./handlers";
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
  private readonly workers: Workers;
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
    const source = new Source(native, bridge, { group, stream: undefined }, PACK, () => {});
    this.workers = new Workers(count("concurrency", options.concurrency, 64), {
      local: () => source.quick(),
      next: () => source.next(),
      handle: (m) => new AsyncResource("nats-eventbus.handler").runInAsyncScope(this.handler, undefined, m),
      done: (m, body) => this.answer(m, body as Body | undefined),
      failed: (m, e) => this.fail(m, e),
    });
    this.work = this.workers.run().catch((e) => {
      process.emitWarning(`the responder of ${topic} ended: ${String(e)}`, "EventBusWarning");
    });
  }

  private answer(m: Message, body: Body | undefined): void {
    ran(body);
    this.native.reply(...m.token, body === undefined || body === null ? Buffer.alloc(0) : bytes(body));
  }

  private fail(m: Message, thrown: unknown): void {
    this.native.fail(...m.token, described(typed(thrown)));
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
      await this.workers.idle(this.drainTimeout);
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
