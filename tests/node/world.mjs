// What tests of guarantees need besides a server: streams made behind the bus's back, and waits with deadlines.
import assert from "node:assert/strict";
import { eventually } from "../support/server.mjs";
import { api } from "./raw.mjs";

/** The name the platform gives a topic's stream. */
export const streamOf = (topic) => `${topic.replaceAll(".", "_")}_STREAM`;

/** A topic's stream, made behind the bus's back, or made otherwise than it is. */
export async function make(server, topic, settings = {}) {
  const config = { name: streamOf(topic), subjects: [topic], ...settings };
  let made = await api(server.port, `STREAM.CREATE.${config.name}`, config);
  if (made.error) made = await api(server.port, `STREAM.UPDATE.${config.name}`, config);
  assert.equal(made.error, undefined);
}

/** A stream that stores and never acks: every ack is lost. */
export const silence = (server, topic, settings = {}) => make(server, topic, { ...settings, no_ack: true });

/** How many messages a stream has. */
export const stored = async (server, name) => (await api(server.port, `STREAM.INFO.${name}`)).state.messages;

/** What the server knows of a group. */
export const groupState = (server, topic, group = "g") => api(server.port, `CONSUMER.INFO.${streamOf(topic)}.${group}`);

/** Waits until the server's state of a group is this. */
export function reaches(server, topic, want, group = "g") {
  const is = (info) => Object.entries(want).every(([name, value]) => info[name] === value);
  return eventually(async () => is(await groupState(server, topic, group)), {
    what: JSON.stringify(want),
    within: 15_000,
  });
}

/** What a promise fails with. */
export const failed = (promise) =>
  promise.then(
    () => assert.fail("it did not fail"),
    (e) => e,
  );

/** Whether a promise is still open after a while. */
export async function open(promise, ms = 200) {
  let timer;
  const late = new Promise((resolve) => {
    timer = setTimeout(() => resolve("late"), ms);
  });
  const first = await Promise.race([
    promise.then(
      () => "over",
      () => "over",
    ),
    late,
  ]);
  clearTimeout(timer);
  return first === "late";
}

/** A promise that is over within a time, or else an error. */
export async function inTime(promise, ms, what) {
  if (await open(promise, ms)) assert.fail(`${what} did not end within ${ms} ms`);
  return promise;
}

/** Something to wait for. */
export function gate() {
  let go;
  const opened = new Promise((resolve) => {
    go = resolve;
  });
  return { go, opened };
}

/** A handler that waits inside, until it is let go. */
export function gated() {
  const [entered, released] = [gate(), gate()];
  const finished = [];
  const handler = async (m) => {
    entered.go();
    await released.opened;
    finished.push(m.text());
  };
  return { handler, finished, entered: entered.opened, go: released.go };
}
