/** Messages taken from the core in packs and handed out one by one. */
import { type Bridge, unlessAborted } from "./bridge";
import { guard } from "./errors";
import { LOOK, TURN } from "./generated/defaults";
import { Message, type Origin, STRIDE } from "./message";
import type { Addon } from "./native";

/** @internal What hands out packs. */
export interface Packs {
  takePacked(max: number): Addon.Pack | boolean;
  arm(token: number): boolean;
}

/** @internal */
export class Source {
  private pack: Addon.Pack | undefined;
  private at = 0;
  private end = 0;
  /** Handed out and given back: first in line. */
  private returned: Message[] = [];
  private ready: Promise<void> | undefined;
  private turn = performance.now();
  private looked = this.turn;
  private unlooked = 0;
  private over = false;

  /**
   * @param max Messages per pack.
   * @param before Called before the core is asked, so that acks leave first.
   */
  constructor(
    private readonly packs: Packs,
    private readonly bridge: Bridge,
    private readonly origin: Origin,
    private readonly max: number,
    private readonly before: () => void,
  ) {}

  /** The next message that is here already. */
  local(): Message | undefined {
    if (this.returned.length > 0) return this.returned.shift();
    if (this.pack === undefined) return undefined;
    const m = new Message(this.pack, this.at, this.origin);
    this.at += STRIDE;
    if (this.at === this.end) this.pack = undefined;
    return m;
  }

  /** As {@link local}, as long as the loop needs no turn for anything else. */
  quick(): Message | undefined {
    return this.turnDue() ? undefined : this.local();
  }

  private turnDue(): boolean {
    if (this.unlooked > 0) {
      this.unlooked -= 1;
      return false;
    }
    const now = performance.now();
    this.unlooked = now - this.looked < 1 ? LOOK : 0;
    this.looked = now;
    return now - this.turn > TURN;
  }

  /** As {@link local}, asking the core when there is none: undefined when there is none now, null at the end. */
  take(): Message | undefined | null {
    const m = this.local();
    if (m) return m;
    if (this.over) return null;
    this.before();
    const got = guard(() => this.packs.takePacked(this.max));
    if (typeof got === "boolean") return got ? undefined : null;
    this.pack = got;
    this.at = 0;
    this.end = got.meta.length;
    return this.local();
  }

  /** Waits for the next message; null at the end. An aborted wait loses none. */
  async next(signal?: AbortSignal): Promise<Message | null> {
    signal?.throwIfAborted();
    for (;;) {
      if (performance.now() - this.turn > TURN) {
        await new Promise<void>((resolve) => setImmediate(resolve));
        this.turn = performance.now();
        signal?.throwIfAborted();
      }
      const m = this.take();
      if (m !== undefined) return m;
      await unlessAborted(this.wait(), signal);
      this.turn = performance.now();
    }
  }

  /** Resolves when there may be something to take. */
  wait(): Promise<void> {
    if (this.ready) return this.ready;
    const token = this.bridge.token();
    if (!this.packs.arm(token)) return Promise.resolve();
    const ready = this.bridge.wait<void>(token).finally(() => {
      this.ready = undefined;
    });
    this.ready = ready;
    return ready;
  }

  /** Gives back what was handed out and not looked at. */
  putBack(messages: Message[]): void {
    this.returned.unshift(...messages);
  }

  /** Hands out no more; the tokens of what was here, in halves. */
  surrender(): Uint32Array {
    this.over = true;
    const halves: number[] = [];
    for (let m = this.local(); m; m = this.local()) halves.push(...m.token);
    return Uint32Array.from(halves);
  }
}
