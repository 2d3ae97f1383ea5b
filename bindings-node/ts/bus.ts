/** The bus. */
import { inspect } from "node:util";
import { type Body, bytes, checkedEncoder, type Encoder } from "./bodies";
import type { Bridge } from "./bridge";
import { Consumer } from "./consumer";
import { extras, settings, time } from "./convert";
import { Draining } from "./draining";
import { ConfigError, guard, guardAsync } from "./errors";
import { ConnectionEvents } from "./events";
import { checked } from "./failures";
import { REQUEST_TIMEOUT, RESPONDER_GROUP } from "./generated/defaults";
import { BusCalls } from "./generated/nouns";
import type { ConnectionEvent } from "./generated/records";
import type { ConsumerOptions, Time } from "./generated/settings";
import type { Handler } from "./handlers";
import type { Headers } from "./headers";
import { Mark } from "./inside";
import { warn } from "./listeners";
import { Message } from "./message";
import type { Addon } from "./native";
import { log, type OnLog } from "./notices";
import { known } from "./options";
import { Producer, type ProducerOptions } from "./producer";
import { type RequestHandler, Responder, type RespondOptions } from "./responder";
import { type OnOptions, type Registered, Running } from "./running";
import { takeSignals } from "./signals";

interface Part {
  close(): Promise<void>;
}

const REQUEST = new Set(["timeout", "headers", "signal"]);
const RESPOND = new Set(["group", "concurrency"]);

/** The longest a timer can wait. */
const FOREVER = 0x7fffffff;

/** An open bus. It keeps the process, or the worker thread, alive until it is closed. */
export class Bus extends BusCalls {
  private readonly parts = new Set<Part>();
  private readonly runs = new Set<Promise<void>>();
  private readonly handlers: Registered[] = [];
  private readonly mark = new Mark();
  private readonly draining: Draining;
  private running: Running | undefined;
  private closing: Promise<void> | undefined;
  /** Keeps the process, and this bus, alive while it is open. */
  private readonly alive = setInterval(() => void this.bridge, FOREVER);

  /** @internal */
  constructor(
    private readonly native: Addon.Bus,
    private readonly bridge: Bridge,
    onLog?: OnLog,
    private readonly encoder?: Encoder,
  ) {
    super(native.handle());
    this.draining = new Draining(this.drainTimeout);
    log(native.notices(), bridge, onLog);
  }

  /**
   * What happens to the connection from now on: `for await (const event of bus.events())`. Ends with the event
   * `closed`. Events are kept for a listener that is busy, up to 256; `missed` counts those beyond.
   */
  events(): ConnectionEvents {
    return new ConnectionEvents(
      guard(() => this.native.events()),
      this.bridge,
    );
  }
  /** Calls a listener with every event; what it throws is a process warning. The function returned ends that. */
  onEvent(listener: (event: ConnectionEvent) => unknown): () => void {
    if (typeof listener !== "function") throw new ConfigError("onEvent: give a function");
    return this.events().tell(listener);
  }
  /** @internal Results handed to the event loop, and the wake-ups they took. */
  bridgeCounts(): Addon.BridgeCounts {
    return this.bridge.native.counts();
  }

  /**
   * A producer for one topic. Its stream is looked up, or declared, with the first message.
   * @throws {@link InvalidTopic}, {@link ConfigError}, {@link ClosedError}.
   */
  producer(topic: string, options?: ProducerOptions): Producer {
    const onError = options?.onError ?? undefined;
    if (onError !== undefined && typeof onError !== "function") throw new ConfigError("onError: give a function");
    const encoder = checkedEncoder(options?.encoder) ?? this.encoder;
    const rest = onError || options?.encoder ? { ...options, onError: undefined, encoder: undefined } : options;
    const native = guard(() => this.native.producer(topic, settings(rest)));
    return new Producer(native, this.bridge, topic, onError, encoder);
  }

  /**
   * A consumer of a topic for a group.
   * @throws {@link NotFoundError}, {@link ConflictError}, {@link ConfigError}, {@link ClosedError}.
   */
  async consumer(topic: string, options: ConsumerOptions): Promise<Consumer> {
    const native = await guardAsync(() => this.native.consumer(topic, settings(options)));
    const home = {
      bridge: this.bridge,
      draining: this.draining,
      mark: this.mark,
      forget: (part: object) => void this.parts.delete(part as Part),
      running: (run: Promise<void>) => this.keep(run),
    };
    const consumer = new Consumer(native, home, topic, options);
    this.parts.add(consumer);
    return consumer;
  }

  private keep(run: Promise<void>): void {
    const over = () => void this.runs.delete(quiet);
    const quiet = run.then(over, over);
    this.runs.add(quiet);
  }

  /**
   * Asks and waits for a reply.
   * @param options.timeout Milliseconds or text; default 5 s.
   * @param options.signal Stops the wait.
   * @throws {@link NoResponders} at once without a responder; {@link Timeout}; {@link RequestFailed} with the
   * responder's words in `server`.
   */
  async request(
    topic: string,
    body: Body = "",
    options?: { timeout?: Time; headers?: Headers; signal?: AbortSignal },
  ): Promise<Message> {
    known("request", options, REQUEST);
    options?.signal?.throwIfAborted();
    const token = this.bridge.token();
    const timeout = time("timeout", options?.timeout) ?? REQUEST_TIMEOUT;
    const more = options?.headers && extras({ headers: options.headers });
    guard(() => this.native.request(token, topic, bytes(body, this.encoder), timeout, more));
    const pack = await this.bridge.wait<Addon.Pack>(token, options?.signal);
    return new Message(pack, 0, { group: undefined, stream: undefined });
  }

  /**
   * Answers the requests on a topic. Responders of one group share them.
   * @param handler Its result is the reply's body; what it throws reaches the asker as {@link RequestFailed}. Each
   * handler starts in the async context in which this was called.
   * @throws {@link ConfigError} when the handler is no function, or a generator.
   */
  async respond(topic: string, handler: RequestHandler, options: RespondOptions = {}): Promise<Responder> {
    checked(handler);
    known("respond", options, RESPOND);
    const group = options.group ?? RESPONDER_GROUP;
    const native = await guardAsync(() => this.native.respond(topic, group));
    const forget = (part: object) => void this.parts.delete(part as Part);
    const home = { bridge: this.bridge, draining: this.draining, mark: this.mark, encoder: this.encoder, forget };
    const responder = new Responder(native, home, topic, group, handler, options);
    this.parts.add(responder);
    return responder;
  }

  /**
   * Registers a handler for {@link run}. During a run its consumer opens at once, after those before it. Each handler
   * starts in the async context in which `run` was called.
   * @throws {@link ConfigError} when the handler is no function, or a generator.
   */
  on(topic: string, options: OnOptions, handler: Handler): void {
    checked(handler);
    const registered = { topic, options, handler };
    this.handlers.push(registered);
    this.running?.add(registered);
  }

  /**
   * Runs the handlers registered with {@link on} until SIGTERM, SIGINT, {@link stop} or {@link close}, or until the
   * signal is aborted. Then it drains and closes the bus: it pulls no more, running handlers get up to `drainTimeout`
   * to finish, and buffered messages go to other workers at once. A second SIGTERM or SIGINT aborts the handlers'
   * signal. Their messages go to other workers.
   * @param options.signals Whether SIGTERM and SIGINT are taken while it runs. Listeners of others are called too; ours
   * are removed at the end. Default true. False leaves signals alone: a web server's own shutdown closes the bus.
   * @param options.signal Ends the run.
   * @throws {@link ConfigError} when there are no handlers, or the bus runs already. {@link EventBusError} when a consumer
   * cannot be opened, or cannot continue: the others are drained first, and the bus stays open.
   */
  async run(options: { signals?: boolean; signal?: AbortSignal } = {}): Promise<void> {
    if (this.handlers.length === 0) throw new ConfigError("there is nothing to run: register handlers with bus.on");
    if (this.running) throw new ConfigError("the bus runs already: one run serves all handlers, later ones too");
    const { signals = true, signal } = options;
    const running = new Running((topic, settings) => this.consumer(topic, settings as ConsumerOptions));
    this.running = running;
    const stop = () => running.stop();
    const release = signals ? takeSignals(() => this.signalled(running)) : () => {};
    signal?.addEventListener("abort", stop, { once: true });
    if (signal?.aborted) stop();
    try {
      await running.serve(this.handlers);
    } finally {
      this.running = undefined;
      try {
        if (running.isStopped) await this.draining.unlessHurried(this.begin());
      } finally {
        release();
        signal?.removeEventListener("abort", stop);
      }
    }
  }

  private signalled(running: Running): void {
    if (running.isStopped) this.draining.hurry();
    running.stop();
  }

  /** Asks {@link run} to end: it drains and closes the bus. Does nothing while nothing runs. */
  stop(): void {
    this.running?.stop();
  }

  /**
   * Closes consumers and responders, lets running handlers finish, waits for unsettled sends and acks up to
   * `drainTimeout`, then disconnects. Called by a handler of this bus, it begins this and does not wait for it. (A
   * handler is recognised through calls and `await`; from a callback of a timer, do not await it.)
   */
  close(): Promise<void> {
    const closing = this.begin();
    if (!this.mark.isOnStack()) return closing;
    closing.catch((e) => warn("closing the bus", e));
    return Promise.resolve();
  }

  private begin(): Promise<void> {
    this.closing ??= this.leave();
    return this.closing;
  }

  private async leave(): Promise<void> {
    try {
      this.running?.stop();
      await this.running?.over;
      await Promise.allSettled([...this.parts].map((part) => part.close()));
      await Promise.allSettled(this.runs);
      await guardAsync(() => this.native.close());
    } finally {
      this.bridge.end();
      clearInterval(this.alive);
    }
  }

  /** As {@link close}. */
  [Symbol.asyncDispose](): Promise<void> {
    return this.close();
  }

  [inspect.custom](): string {
    const { name, version, host, port } = this.server;
    return `<Bus ${this.state} server=${JSON.stringify(name)} ${host}:${port} version=${version}>`;
  }
}
