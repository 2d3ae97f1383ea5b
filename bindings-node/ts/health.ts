/** How a bus is. */
import type { State } from "./bus";
import { camel } from "./convert";

/** A consumer, or a responder, that is open or has failed. */
export interface ConsumerHealth {
  /** Its topic, with its wildcards. */
  topic: string;
  /** Its group. */
  group: string;
  /** The stream it reads; absent in core mode. */
  stream?: string;
  /** Why it cannot go on; absent while it does. */
  error?: string;
  /** The code of that error, such as `not_found`. */
  code?: string;
}

/** How a bus is: for readiness and liveness endpoints. */
export interface Health {
  /** Whether it can do its work now, which is when there are no problems: readiness. */
  ok: boolean;
  /**
   * Whether it needs no help: false when only a new bus, consumer or process mends it, and not while it is
   * reconnecting: liveness.
   */
  alive: boolean;
  /** Where the connection stands. */
  state: State;
  /** The server connected to, or last connected to, as `host:port`. */
  server?: string;
  /**
   * A round trip to the server and back, through all that is queued before it, in milliseconds; absent without an
   * answer in time.
   */
  rtt?: number;
  /**
   * `off`: core mode. `ok`: it answers. `failed`: it does not, see `problems`. `unknown`: it could not be asked, without
   * a connection or without the right to (`$JS.API.INFO`).
   */
  jetstream: "off" | "ok" | "failed" | "unknown";
  /** Connections made again after a loss. */
  reconnects: number;
  /** Sends that have no outcome yet. */
  pendingSends: number;
  /**
   * Consumers and responders, but for those that were closed. One that has failed stays until another one of its topic
   * and group is opened, or until {@link Bus.dismiss}.
   */
  consumers: ConsumerHealth[];
  /** What is wrong, each with what to do; empty when it is ok. */
  problems: string[];
}

/** @internal The core counts in seconds. */
export function health(wire: unknown): Health {
  const found = camel(wire) as Health;
  return { ...found, rtt: found.rtt === undefined ? undefined : found.rtt * 1000 };
}
