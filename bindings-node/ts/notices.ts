/** Notices: what an operator should read in the logs of a service. */
import type { Bridge } from "./bridge";
import { next } from "./events";
import { type Notice, readNotice } from "./generated/records";
import { tell } from "./listeners";
import type { Addon } from "./native";

/** Gets every notice of a bus. What it throws becomes a process warning. */
export type OnLog = (notice: Notice) => unknown;

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
      const notice = readNotice(JSON.parse(text));
      tell("onLog", () => onLog(notice));
    }
  };
  // Closing the bus ends the wait, once the feed is empty.
  all().catch(() => {});
}
