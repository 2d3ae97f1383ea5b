/** The responder. */
import { AsyncResource } from "node:async_hooks";
import { inspect } from "node:util";
import { type Body, bytes, type Encoder } from "./bodies";
import type { Bridge } from "./bridge";
import { count } from "./convert";
import type { Draining } from "./draining";
import { guard, guardAsync } from "./errors";
import { described, ran } from "./failures";
import { RESPONDER_CONCURRENCY } from "./generated/defaults";
import { type Work, Workers } from "./handlers";
import type { Mark } from "./inside";
import { tell, warn } from "./listeners";
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

const CLOSED = "the responder was closed before it had answered: ask again";

/** @internal What a responder needs of its bus. */
export interface ResponderHome {
  readonly bridge: Bridge;
  readonly draining: Draining;
  readonly mark: Mark;
  readonly encoder: Encoder | undefined;
  forget(part: object): void;
}

/** Answers the requests on a topic. */
export class Responder {
  private readonly workers: Workers;
  private readonly work: Promise<void>;
  private readonly source: Source;
  private closing: Promise<void> | undefined;

  /** @internal */
  constructor(
    private readonly native: Addon.Responder,
    private readonly home: ResponderHome,
    /** The topic, with its wildcards. */
    readonly topic: string,
    /** The group. */
    readonly group: string,
    handler: RequestHandler,
    options: RespondOptions,
  ) {
    const source = new Source(native, home.bridge, { group, stream: undefined }, PACK, () => {});
    this.source = source;
    const work: Work = {
      local: () => source.quick(),
      next: () => source.next(),
      handle: (m) => new AsyncResource("nats-eventbus.handler").runInAsyncScope(handler, undefined, m),
      done: (m, body) => this.answer(m, body as Body | undefined),
      failed: (m, e) => this.fail(m, described(e)),
    };
    this.workers = new Workers(count("concurrency", options.concurrency, RESPONDER_CONCURRENCY), work, home.mark);
    this.work = this.workers.run().catch((e) => warn(`the responder of ${topic}`, e));
  }

  private answer(m: Message, body: Body | undefined): void {
    ran(body);
    const reply = body === undefined || body === null ? Buffer.alloc(0) : bytes(body, this.home.encoder);
    guard(() => this.native.reply(...m.token, reply));
  }

  /** An answer that cannot be sent must not end the responder. */
  private fail(m: Message, text: string): void {
    tell("answering a request", () => this.native.fail(...m.token, text));
  }

  /**
   * Takes no further requests; running ones may finish within the bus's `drainTimeout`. Then their askers get
   * {@link RequestFailed}. Called by a handler, it begins this and does not wait for it.
   */
  close(): Promise<void> {
    this.closing ??= this.leave();
    if (!this.home.mark.isOnStack()) return this.closing;
    this.closing.catch((e) => warn("closing a responder", e));
    return Promise.resolve();
  }

  private async leave(): Promise<void> {
    try {
      await guardAsync(() => this.native.close());
      const answered = this.work.then(() => this.workers.idle());
      if (await this.home.draining.within(answered)) return;
      this.workers.release();
      for (const m of this.workers.running) this.fail(m, CLOSED);
      // What had arrived, and no handler has begun.
      for (let m = this.source.take(); m; m = this.source.take()) this.fail(m, CLOSED);
    } finally {
      this.home.forget(this);
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
