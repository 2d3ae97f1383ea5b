// Every way to sign in and every case of TLS: the table all languages share. And what all that tells: no
// secret, in any message or inspected value.
import assert from "node:assert/strict";
import { mkdtempSync, readFileSync, rmSync, writeFileSync } from "node:fs";
import { tmpdir } from "node:os";
import { join } from "node:path";
import { after, before, test } from "node:test";
import { inspect } from "node:util";
import { connect, EventBusError } from "nats-eventbus";
import { Clock } from "../support/clock.mjs";
import { writeTable } from "../support/credentials.mjs";
import { eventually, startServer } from "../support/server.mjs";
import { inTime } from "./world.mjs";

const TABLE = new URL("../shared/sign_in.json", import.meta.url);
const names = JSON.parse(readFileSync(TABLE, "utf8")).rows.map((row) => row.name);

let folder;
let table;
const servers = {};
before(async () => {
  folder = mkdtempSync(join(tmpdir(), "eventbus-sign-in-"));
  table = writeTable(folder);
  for (const [name, { config, greets }] of Object.entries(table.servers)) {
    servers[name] = await startServer({ config, greets });
  }
});
after(async () => {
  for (const server of Object.values(servers)) await server.stop();
  rmSync(folder, { recursive: true });
});

/** What the server says of a row's connection: as whom it is signed in, and whether in TLS. */
async function seen(row) {
  const reply = await fetch(`http://127.0.0.1:${table.servers[row.server].monitor}/connz?auth=1`);
  const found = (await reply.json()).connections.find((c) => c.name === row.name);
  return found && { as: found.authorized_user, tls: found.tls_version !== undefined };
}

/** Waits until the server sees a row's connection as it should be. */
async function isSeen(row, who) {
  let found;
  const good = async () => {
    found = await seen(row);
    return found && (who === undefined || found.as === who) && found.tls === (row.tls ?? false);
  };
  await eventually(good, { within: 5000, what: `${who} on the server` }).catch((e) =>
    assert.fail(`${e} ${inspect(found)}`),
  );
}

/** Names as Node writes them. */
function camelCase(value) {
  if (typeof value !== "object") return value;
  const name = (text) => text.replace(/_(.)/g, (_, c) => c.toUpperCase());
  return Object.fromEntries(Object.entries(value).map(([k, v]) => [name(k), camelCase(v)]));
}

function settings(row, port) {
  const given = camelCase(row.settings);
  if (given.servers) given.servers = given.servers.replaceAll("PORT", port);
  if (row.callback) {
    const answers = [...row.callback];
    given.credentials = () => (answers.length > 1 ? answers.shift() : answers[0]);
  }
  return given;
}

/** As whom, and as whom after a reconnect. */
async function letIn(row, bus) {
  await isSeen(row, row.as);
  for (const [path, text] of Object.entries(row.replace ?? {})) writeFileSync(path, text);
  await bus.forceReconnect();
  assert.equal(bus.state, "connected");
  await isSeen(row, row.then_as ?? row.as);
}

/** Connects as a row says: all that can be seen of it. */
async function attempt(row) {
  const all = { depth: 9, showHidden: true };
  let bus;
  try {
    const clock = new Clock();
    bus = await inTime(
      connect(settings(row, servers[row.server].port)).finally(() => assert.ok(clock.took() < 2000)),
      12_000,
      "connecting",
    );
  } catch (e) {
    assert.ok(e instanceof EventBusError, inspect(e));
    assert.equal(e.code, row.code, e.message);
    return [String(e), inspect(e, all), JSON.stringify(e), e.stack, inspect(e.cause)];
  }
  try {
    assert.equal(row.code, undefined, "let in");
    await letIn(row, bus);
    return [inspect(bus, all), inspect(bus.server), JSON.stringify(bus.server), inspect(bus.metrics())];
  } finally {
    await bus.close();
  }
}

for (const name of names) {
  test(name, async (t) => {
    const row = table.rows.find((r) => r.name === name);
    const environment = { ...process.env };
    t.after(() => Object.assign(process.env, environment));
    for (const variable of Object.keys(environment)) {
      if (/^(NATS|COZE|MQ)_/.test(variable) && variable !== "NATS_SERVER_BIN") delete process.env[variable];
    }
    for (const [variable, value] of Object.entries(row.env ?? {})) {
      process.env[variable] = value.replaceAll("PORT", servers[row.server].port);
      t.after(() => delete process.env[variable]);
    }
    const warned = [];
    const note = (w) => warned.push(String(w));
    process.on("warning", note);
    t.after(() => process.off("warning", note));
    const told = await attempt(row);
    await new Promise(setImmediate); // warnings come with the next turn
    const ours = warned.filter((w) => w.startsWith("EventBusWarning"));
    assert.equal(ours.length, row.warns?.length ?? 0, inspect(warned));
    for (const [i, part] of (row.warns ?? []).entries()) assert.ok(ours[i].includes(part), ours[i]);
    for (const text of [...told, ...warned]) {
      assert.deepEqual(
        table.secrets.filter((secret) => text.includes(secret)),
        [],
        `told in ${text}`,
      );
    }
  });
}
