/** Options by name: one that is not known is an error, and says which one is meant. */
import { ConfigError } from "./errors";

/** What other clients call it, and what it is here. */
const OURS: Readonly<Record<string, string>> = {
  msgid: "id",
  messageid: "id",
  message_id: "id",
  expect: "expectedLastSequence",
  lastsequence: "expectedLastSequence",
  lastsubjectsequence: "expectedLastSubjectSequence",
  shardingkey: "key",
  expires: "timeout",
  max_wait: "timeout",
  queue: "group",
  durable_name: "durable",
  subject: "the topic, the first argument",
  url: "servers",
  queuegroup: "group",
  max_messages: "the first argument",
  max: "the first argument",
};

/** @internal Refuses an option that a call does not have. */
export function known(call: string, options: object | undefined, names: ReadonlySet<string>): void {
  if (options === undefined || options === null) return;
  if (typeof options !== "object") throw new ConfigError(`${call}: options are given as an object`);
  for (const name in options) {
    if (names.has(name)) continue;
    const ours = OURS[name.toLowerCase()];
    const hint =
      ours && (names.has(ours) || ours.includes(" ")) ? `it is ${ours} here` : `it has ${[...names].join(", ")}`;
    throw new ConfigError(`${call}: there is no option ${JSON.stringify(name)}: ${hint}`);
  }
}
