// The recipes for web frameworks: real services, real HTTP, a real SIGTERM in the middle of the work.
import assert from "node:assert/strict";
import { spawn, spawnSync } from "node:child_process";
import { once } from "node:events";
import { copyFileSync, existsSync, mkdtempSync, rmSync, symlinkSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { fileURLToPath } from "node:url";
import { connect } from "nats-eventbus";
import { eventually, startServer } from "../support/server.mjs";

const ROOT = fileURLToPath(new URL("../..", import.meta.url));
const PACKAGES = {
  fastify: ["fastify@5"],
  nestjs: ["@nestjs/core@11", "@nestjs/common@11", "@nestjs/platform-express@11", "reflect-metadata", "rxjs@7"],
};

let server;
before(async () => {
  server = await startServer({ jetstream: true });
});
after(() => server?.stop());

/** A folder with the recipe and what it needs; undefined when npm cannot get that. */
function folder(t, name) {
  const there = mkdtempSync(join(tmpdir(), "eventbus-recipe-"));
  t.after(() => rmSync(there, { recursive: true, force: true }));
  writeFileSync(join(there, "package.json"), '{"private":true}');
  const args = ["install", "--no-audit", "--no-fund", "--loglevel=error", ...PACKAGES[name]];
  const installed = spawnSync("npm", args, { cwd: there, timeout: 120_000 });
  if (installed.status !== 0) return undefined;
  if (!existsSync(join(there, "node_modules/nats-eventbus")))
    symlinkSync(ROOT, join(there, "node_modules/nats-eventbus"));
  copyFileSync(join(ROOT, "examples/recipes", `${name}.mjs`), join(there, "main.mjs"));
  return there;
}

async function service(there) {
  const env = { ...process.env, NATS_SERVER_URL: server.url, PORT: "0" };
  const child = spawn(process.execPath, ["main.mjs"], { cwd: there, env, timeout: 60_000 });
  const it = { child, text: "", ended: once(child, "close") };
  child.stdout.on("data", (d) => (it.text += d));
  child.stderr.on("data", (d) => (it.text += d));
  const [, port] = await eventually(() => /listening on http:.*:(\d+)/.exec(it.text), { within: 30_000 });
  it.url = `http://127.0.0.1:${port}`;
  return it;
}

async function post(it, job) {
  const headers = { "content-type": "application/json" };
  const answer = await fetch(`${it.url}/jobs`, { method: "POST", headers, body: JSON.stringify(job) });
  assert.ok(answer.ok, `${answer.status} ${it.text}`);
}

for (const [name, topic] of [
  ["fastify", "recipe.jobs"],
  ["nestjs", "recipe.nest.jobs"],
]) {
  test(`${name}: SIGTERM lets the running handler finish, loses nothing, ends with 0`, async (t) => {
    const there = folder(t, name);
    if (!there) return t.skip(`npm cannot install ${PACKAGES[name].join(", ")}: is the registry reachable?`);
    const first = await service(there);
    await post(first, { id: "quick" });
    await eventually(async () => (await (await fetch(`${first.url}/done`)).json()).includes("quick"));
    await post(first, { id: "slow", ms: 1000 });
    await post(first, { id: "behind" });
    await eventually(() => first.text.includes("began slow"));
    first.child.kill("SIGTERM");
    const end = await first.ended;
    assert.match(first.text, /finished slow/);
    assert.doesNotMatch(first.text, /began behind|rror/);
    assert.deepEqual(end, [0, null], first.text);
    const bus = await connect({ servers: server.url, jetstream: true });
    t.after(() => bus.close());
    const c = await bus.consumer(topic, { group: "recipe" });
    const left = await c.fetch(2, { timeout: 1000 });
    assert.deepEqual(
      left.map((m) => m.json().id),
      ["behind"],
    );
    left[0].ack();
  });
}
