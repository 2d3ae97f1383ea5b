/** Notices: what an operator should read in the logs of a service. */
import type { Bridge } from "./bridge";
import { next } from "./events";
import { tell } from "./listeners";
import type { Addon } from "./native";

/** How much a notice matters: `info` (it works as it should), `warning` (look at it), `error` (something has stopped). */
export type NoticeLevel = "info" | "warning" | "error";

/**
 * What a notice is about: `connection` (lost, made again, refused, given up), `stream_declared`, `retry` (a handler
 * failed, its message comes again), `dead_letter`, `given_back` (messages went to other workers before a handler began),
 * `slow_consumer` (core messages were dropped), `consumer_failed`, `failures_unseen` (sends failed, and the application
 * never asked for their failures), `setting` (allowed, and still unwise), `closed` (the last one).
 */
export type NoticeKind =
  | "connection"
  | "stream_declared"
  | "retry"
  | "dead_letter"
  | "given_back"
  | "slow_consumer"
  | "consumer_failed"
  | "failures_unseen"
  | "setting"
  | "closed";

/** Something to read in the logs. */
export interface Notice {
  /** How much it matters. */
  readonly level: NoticeLevel;
  /** What it is about. */
  readonly kind: NoticeKind;
  /** What happened, in words; never a secret. */
  readonly text: string;
  /** The topic concerned. */
  readonly topic?: string;
  /** The group concerned. */
  readonly group?: string;
  /** The stream concerned. */
  readonly stream?: string;
  /** When. */
  readonly time: Date;
  /** Notices before this one that the listener was too slow for. */
  readonly missed: number;
}

/** Gets every notice of a bus. What it throws becomes a process warning. */
export type OnLog = (notice: Notice) => unknown;

function read(text: string): Notice {
  const { time, ...wire } = JSON.parse(text) as Notice & { time: number };
  const named = Object.entries(wire).filter(([, value]) => value !== null);
  return { ...(Object.fromEntries(named) as unknown as Notice), time: new Date(time * 1000) };
}

/** Where no `onLog` is given: warnings and errors are process warnings. */
function warning(notice: Notice): void {
  if (notice.level === "info") return;
  const names = (["topic", "group", "stream"] as const).filter((name) => notice[name] !== undefined);
  const where = names.map((name) => `${name} ${JSON.stringify(notice[name])}`).join(", ");
  const missed = notice.missed > 0 ? ` (${notice.missed} notices before it were missed)` : "";
  process.emitWarning(`${notice.text}${where && ` [${where}]`}${missed}`, "EventBusWarning");
}

/** @internal Hands over the notices of a bus until it is closed. */
export function log(feed: Addon.Events, bridge: Bridge, onLog: OnLog = warning): void {
  const all = async () => {
    for (let text = await next(feed, bridge); text !== null; text = await next(feed, bridge)) {
      const notice = read(text);
      tell("onLog", () => onLog(notice));
    }
  };
  // Closing the bus ends the wait, once the feed is empty.
  all().catch(() => {});
}
