// What the Node producer and worker share: settings, the ledger, and the rig's commands on standard input.
import { openSync, readFileSync, writeSync } from "node:fs";
import { createInterface } from "node:readline";
import { connect, EventBusError } from "nats-eventbus";

/** As by default, but for the words of handlers: the checker takes those of a crash on stderr for one. */
function onLog({ level, kind, text }) {
  if (level !== "info" && kind !== "dead_letter" && kind !== "retry") process.emitWarning(text, "EventBusWarning");
}

/** The settings, a JSON object as the only argument. */
export const settings = JSON.parse(process.argv[2]);

/** Names as this language has them: `max_in_flight` is `maxInFlight`. Times are texts, the same in both. */
export function camel(given) {
  if (typeof given !== "object" || given === null) return given;
  const name = (key) => key.replace(/_(.)/g, (_, letter) => letter.toUpperCase());
  return Object.fromEntries(Object.entries(given).map(([key, value]) => [name(key), camel(value)]));
}

function snake(given) {
  const name = (key) => key.replace(/[A-Z]/g, (letter) => `_${letter.toLowerCase()}`);
  return Object.fromEntries(Object.entries(given).map(([key, value]) => [name(key), value]));
}

/** Seconds on CLOCK_MONOTONIC, as Python's `time.monotonic`. */
const now = () => Number(process.hrtime.bigint()) / 1e9;

/** Appends lines, each with one system call, so that SIGKILL loses nothing. */
export class Ledger {
  constructor(role) {
    this.file = openSync(settings.ledger, "a");
    this.write("hello", { role, pid: process.pid });
  }
  write(e, fields) {
    const line = `${JSON.stringify({ e, t: now(), ...fields })}\n`;
    if (this.held) this.held.push(line);
    else writeSync(this.file, line);
  }
  /** Keeps the lines until the work is over: for crowds, where writing would cost more than what is measured. */
  async holding(work) {
    this.held = [];
    await work();
    const lines = Buffer.from(this.held.join(""));
    this.held = undefined;
    for (let at = 0; at < lines.length; ) at += writeSync(this.file, lines, at);
  }
  metrics(bus) {
    this.write("metrics", { counts: snake(bus.metrics()) });
  }
  /** The bus's counters, again and again; returns what ends it. */
  tellMetrics(bus) {
    this.metrics(bus);
    const timer = setInterval(() => this.metrics(bus), 200).unref();
    return () => clearInterval(timer);
  }
  /** What happens to the connection. */
  tellEvents(bus) {
    bus.onEvent(({ kind, cause, server, topic }) => this.write("event", { kind, cause, server, topic }));
  }
  /** What the bus says of itself. */
  async health(bus) {
    const { ok, problems, consumers } = await bus.health();
    this.write("health", { ok, problems, consumers: consumers.length });
  }
  /** Nothing is to be done now: what memory can be given back is, and the rig may look. */
  rest(bus) {
    globalThis.gc();
    this.metrics(bus);
    this.write("rested");
  }
}

/**
 * The bus, opened; an error is written down and ends the process. `connect` are its settings; `password_file` is read
 * again for every connection.
 */
export async function opened(ledger) {
  const { servers, who: name, password_file: file } = settings;
  const rotated = file && { credentials: () => JSON.parse(readFileSync(file, "utf8")) };
  try {
    const bus = await connect({ servers, jetstream: true, name, onLog, ...camel(settings.connect), ...rotated });
    ledger.tellEvents(bus);
    return bus;
  } catch (e) {
    ledger.write("error", errorFields(e));
    process.exit(3);
  }
}

/** An error for a ledger. */
export function errorFields(e) {
  const { code, topic, stream, group } = e instanceof EventBusError ? e : { code: `!${e?.name ?? typeof e}` };
  return { code, text: String(e?.message ?? e), topic, stream, group };
}

/** Everything is over: standard input does not hold the process any more, and nothing of the bus should. */
export function finish() {
  process.stdin.unref();
}

/** Lines from the rig; when the rig is gone, so is this process. `block SECONDS` blocks the loop, here. */
export async function* commands() {
  for await (const line of createInterface({ input: process.stdin })) {
    const [command, seconds] = line.trim().split(" ");
    if (command === "block") Atomics.wait(new Int32Array(new SharedArrayBuffer(4)), 0, 0, seconds * 1000);
    else yield line.trim();
  }
  process.exit(70);
}
