// The least rights of some roles, as docs/security.md has them, from Node: they suffice, and each is needed. The Python
// tests run every role; the core that asks for the rights is the same.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { test } from "node:test";
import { connect, PermissionError, Reject } from "nats-eventbus";
import { eventually, startServer } from "../support/server.mjs";
import { inTime } from "./world.mjs";

const PAGE = readFileSync(new URL("../../docs/security.md", import.meta.url), "utf8");
const [TOPIC, GROUP] = ["coze.workflow.42.done", "indexer"];

/** The permissions of a role, line by line. */
function role(title) {
  const [, rest] = PAGE.split(`### ${title}\n`);
  return /```conf\n(.+?)```/s.exec(rest)[1].trimEnd().split("\n");
}

/** The lines of a role that are a right, each with its subject. */
const rights = (lines) => lines.flatMap((line, at) => (/^ +"/.test(line) ? [{ at, subject: line.split('"')[1] }] : []));

/** A server with an account for each case: one user with the rights, and one with all. */
async function withCases(title, body) {
  const lines = role(title);
  const cases = [{}, ...rights(lines)];
  const accounts = cases.map(({ at }, n) => {
    // An empty list allows everything, as the page says.
    const left = lines.filter((_, i) => i !== at).join("\n");
    const permissions = left.replace(/allow: \[\s*\]/, 'deny: ">"');
    const users = `{user: u${n}, password: p, ${permissions}}, {user: a${n}, password: p}`;
    return `A${n} { jetstream: enabled, users: [ ${users} ] }`;
  });
  const config = `jetstream { max_file_store: 10TB }\naccounts {\n${accounts.join("\n")}\n}`;
  const server = await startServer({ jetstream: true, config });
  try {
    for (const [n, { subject }] of cases.entries()) {
      const open = (user, more) =>
        connect({ servers: server.url, user: `${user}${n}`, password: "p", jetstream: true, ...more });
      await body({ subject, admin: () => open("a"), user: () => open("u", { inboxPrefix: "_INBOX_indexer" }) });
    }
  } finally {
    await server.stop();
  }
}

/** Does the work; where a right is missing it fails, naming the subject. */
async function outcome(subject, work) {
  if (subject === undefined) return work();
  const named = subject.replace(/[.]>$/, ".");
  await assert.rejects(inTime(work(), 10_000, `without ${subject}`), (e) => {
    assert.ok(e instanceof PermissionError, `without ${subject}: ${e}`);
    return e.message.includes(named);
  });
}

test("a producer that declares its stream needs the rights that the page names, and no others", async () => {
  await withCases("Producer that declares its stream", async ({ subject, user }) => {
    await outcome(subject, async () => {
      const bus = await user();
      try {
        assert.equal((await bus.producer(TOPIC).send("x")).sequence, 1);
      } finally {
        await bus.close();
      }
    });
  });
});

test("a consumer that makes its durable needs the rights that the page names, and no others", async () => {
  await withCases("Consumer that makes its durable", async ({ subject, admin, user }) => {
    const all = await admin();
    await all.producer(TOPIC).send("x");
    await all.close();
    await outcome(subject, async () => {
      const bus = await user();
      try {
        const c = await bus.consumer(TOPIC, { group: GROUP, declare: false, deadLetter: false });
        const m = await c.next();
        await m.ackConfirmed();
      } finally {
        await bus.close();
      }
    });
  });
});

test("a consumer with dead letters needs no others than the page names", async () => {
  await withCases("Consumer with dead letters", async ({ subject, admin, user }) => {
    if (subject !== undefined) return;
    const all = await admin();
    await all.producer(TOPIC).send("x");
    await all.close();
    const bus = await user();
    const denied = [];
    bus.onEvent((event) => event.kind === "permission_denied" && denied.push(event.topic));
    const c = await bus.consumer(TOPIC, { group: GROUP });
    const run = c.run(() => {
      throw new Reject("no");
    });
    await eventually(() => bus.metrics().deadLetters === 1);
    assert.ok((await bus.health()).ok);
    await c.close();
    await run;
    await bus.close();
    assert.deepEqual(denied, []);
  });
});
