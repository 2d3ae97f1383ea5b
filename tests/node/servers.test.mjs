// The rows of tests/spec/servers.json: what servers of each version do, and what the bus makes of it.
import assert from "node:assert/strict";
import { readFileSync } from "node:fs";
import { connect as dial } from "node:net";
import { after, before, test } from "node:test";
import * as eb from "nats-eventbus";
import { eventually, startServer } from "../support/server.mjs";
import { api } from "./raw.mjs";

const { rows } = JSON.parse(readFileSync(new URL("../spec/servers.json", import.meta.url), "utf8"));
let server;
let bus;
before(async () => {
  server = await startServer({ jetstream: true });
  bus = await eb.connect({ servers: server.url, jetstream: true });
});
after(async () => {
  await bus?.close();
  await server?.stop();
});

function isOf(row, version) {
  const number = (v) => v.split(".").reduce((sum, n, i) => sum + (i < 2 ? Number(n) * 1000 ** (1 - i) : 0), 0);
  return number(version) >= number(row.from ?? "0.0") && number(version) < number(row.below ?? "99.0");
}

async function must(call, body) {
  const answer = await api(server.port, call, body);
  assert.ok(!answer.error, JSON.stringify(answer.error));
  return answer;
}

/** The row's stream, that of its source, and its durable, made behind the bus's back. */
async function declare(row, stream, topic) {
  let takes = { subjects: [`${topic}.>`] };
  if (row.source) {
    await must(`STREAM.CREATE.${stream}O`, { name: `${stream}O`, ...takes });
    takes = { sources: [{ name: `${stream}O` }] };
  }
  await must(`STREAM.CREATE.${stream}`, { name: stream, ...takes, ...row.stream });
  if (!row.durable) return;
  const config = { durable_name: "g", ack_policy: "explicit", filter_subject: `${topic}.>`, ...row.durable };
  await must(`CONSUMER.CREATE.${stream}.g`, { stream_name: stream, config });
}

/** Sends a message as it is, and waits for the server's answer to it. */
function publish(subject, headers, body) {
  const lines = Object.entries(headers).map(([name, value]) => `${name}: ${value}\r\n`);
  const head = `NATS/1.0\r\n${lines.join("")}\r\n`;
  return new Promise((resolve, reject) => {
    const socket = dial(server.port, "127.0.0.1");
    let text = "";
    socket.on("error", reject);
    socket.on("data", (data) => {
      text += data;
      if (!/MSG raw\.reply 1 \d+\r\n[^\r]*\r\n/.test(text)) return;
      socket.destroy();
      if (text.includes('"error"')) reject(new Error(text));
      else resolve();
    });
    socket.write(`CONNECT {"verbose":false,"headers":true,"no_responders":true}\r\nSUB raw.reply 1\r\n`);
    socket.write(`HPUB ${subject} raw.reply ${head.length} ${head.length + body.length}\r\n${head}${body}\r\n`);
  });
}

for (const [n, row] of rows.entries()) {
  test(row.name, async (t) => {
    if (!isOf(row, bus.server.version)) return t.skip(`not of ${bus.server.version}`);
    const [stream, topic] = [`SPEC${n}`, `spec.${n}`];
    await declare(row, stream, topic);
    if (row.send) {
      const sending = bus.producer(`${topic}.a`).send("x", { ttl: row.send.ttl * 1000 });
      if (row.outcome === "acked") return assert.ok(await sending);
      await assert.rejects(sending, eb[row.outcome]);
      return assert.equal((await bus.stream(stream).info()).messages, 0);
    }
    const handled = [];
    const c = await bus.consumer(`${topic}.>`, { group: "g", stream });
    const handle = (m) => {
      handled.push({ body: m.text(), at: performance.now() });
      if (row.handle === "reject") throw new eb.Reject("no use");
      if (row.handle === "retry_after" && handled.length === 1) throw new eb.RetryAfter(row.after * 1000);
    };
    const running = c.run(handle, { onError: () => {} });
    const at = new Date(Date.now() + 1000).toISOString();
    for (const { to, headers, body } of row.publish) {
      const filled = JSON.parse(JSON.stringify(headers).replaceAll("{at}", at).replaceAll("{topic}", topic));
      await publish(`${topic}.${to}`, filled, body);
    }
    if (row.stored) {
      const last = { last_by_subj: `${topic}.${row.stored.to}` };
      const isStored = async () => {
        const { message } = await api(server.port, `STREAM.MSG.GET.${stream}`, last);
        return Buffer.from(message?.hdrs ?? "", "base64").includes(row.stored.header);
      };
      await eventually(isStored, { what: row.stored.header });
    }
    await eventually(() => handled.length >= row.handled.length, { what: `${row.handled.length} handled` });
    // Nothing follows: all there is was settled.
    await eventually(async () => {
      const info = await api(server.port, `CONSUMER.INFO.${stream}.g`);
      return info.num_pending + info.num_ack_pending === 0;
    });
    await c.close();
    await running;
    assert.deepEqual(
      handled.map(({ body }) => body),
      row.handled,
    );
    if (row.within) {
      const seconds = (handled[1].at - handled[0].at) / 1000;
      assert.ok(seconds >= row.within[0] && seconds <= row.within[1], `${seconds} s`);
    }
    if (row.letters !== undefined) {
      const letters = [];
      for await (const d of bus.deadLetters(`${topic}.>`, { group: "g", stream })) letters.push(d);
      assert.equal(letters.length, row.letters);
    }
  });
}
