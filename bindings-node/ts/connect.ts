/** Connecting: settings, and where an embedded server's binary may be. */
import { checkedEncoder, type Encoder } from "./bodies";
import { Bridge, unlessAborted } from "./bridge";
import { Bus } from "./bus";
import { settings } from "./convert";
import { answer, type CredentialsSource } from "./credentials";
import { ConfigError, guardAsync } from "./errors";
import type { ConnectSettings } from "./generated/settings";
import type { OnLog } from "./notices";

/** Settings of a connection. What is absent comes from the environment, then from the defaults. Times: milliseconds or text. */
export interface ConnectOptions extends ConnectSettings {
  /** Addresses: `nats://`, `tls://`, `ws://`, `wss://`, or one `local://DIR`. Environment: `NATS_SERVER_URL`, else `MQ_NAME_SERVER`. */
  servers?: string | readonly string[];
  /**
   * Path of a credentials file, read again on every reconnect; or a function, called before every connection, that
   * gives credentials, or a promise of them, within `apiTimeout`.
   */
  credentials?: string | CredentialsSource;
  /** Further `nats-server` binaries to try for `local://`. */
  serverBinaries?: readonly string[];
  /** Gets what an operator should read, for the service's own logs. Default: warnings and errors are process warnings. */
  onLog?: OnLog;
  /** Makes the bytes or the text of each body that is neither, of messages, requests and replies. Default: JSON. */
  encoder?: Encoder;
  /** Stops the wait; a connection that comes after it is closed. */
  signal?: AbortSignal;
}

/**
 * Connects to a NATS server.
 *
 * An open bus keeps the process alive; it ends by itself once the bus is closed.
 * @param options Settings, or the address alone. None: the platform's environment variables.
 * @throws {@link ConfigError} for a wrong setting; {@link ConnectionError}, {@link AuthError} or {@link TlsError} when
 * no server could be used; {@link PermissionError} when the inbox may not be read; {@link NotFoundError} when JetStream
 * is asked of a server without it.
 */
export async function connect(options: ConnectOptions | string = {}): Promise<Bus> {
  const given = typeof options === "string" ? { servers: options } : options;
  if (typeof given !== "object" || given === null)
    throw new ConfigError("connect takes an address, or options by name");
  const { signal, serverBinaries, servers, credentials, onLog, encoder, ...rest } = given as ConnectOptions;
  const encode = checkedEncoder(encoder);
  if (onLog !== undefined && typeof onLog !== "function") throw new ConfigError("onLog: give a function");
  signal?.throwIfAborted();
  const addresses = Array.isArray(servers) ? servers.join(",") : servers;
  const bridge = new Bridge();
  const source = typeof credentials === "function" ? credentials : undefined;
  const token = source && bridge.source((question) => void answer(bridge, source, question));
  const text = settings({ ...rest, servers: addresses, credentials: source ? undefined : credentials });
  const opening = guardAsync(() => bridge.native.connect(text, [...(serverBinaries ?? [])], token));
  try {
    const native = await unlessAborted(opening, signal);
    const bus = new Bus(native, bridge, onLog, encode);
    for (const warning of bus.warnings) process.emitWarning(warning, "EventBusWarning");
    return bus;
  } catch (e) {
    void opening.then(
      (late) => late.close().catch(() => {}),
      () => {},
    );
    throw e;
  }
}
