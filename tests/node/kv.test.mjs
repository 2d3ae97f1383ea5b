// Contract, key-value: buckets, values by revision, watches.
import assert from "node:assert/strict";
import { after, before, test } from "node:test";
import { inspect } from "node:util";
import { ConfigError, ConflictError, connect, KvEntry, NotFoundError, NotSupportedError } from "nats-eventbus";
import { startServer } from "../support/server.mjs";

let server;
let bus;
before(async () => {
  server = await startServer({ jetstream: true });
  bus = await connect({ servers: server.url, jetstream: true });
});
after(async () => {
  await bus?.close();
  await server?.stop();
});

async function list(entries) {
  const out = [];
  for await (const entry of entries) out.push(entry);
  return out;
}

test("put, get, create, update, delete and purge, by revision; values as bodies are", async () => {
  const kv = await bus.kv("values", { create: { history: 5 } });
  assert.equal(inspect(kv), '<Kv bucket="values">');
  assert.equal(await kv.get("a"), undefined);
  const big = 2n ** 60n;
  assert.deepEqual(
    [await kv.put("a", Buffer.from("1")), await kv.put("a", { n: big }), await kv.put("b", "text")],
    [1, 2, 3],
  );
  const entry = await kv.get("a");
  assert.ok(entry instanceof KvEntry && Date.now() - entry.time < 60_000);
  assert.deepEqual([entry.key, entry.revision, entry.operation, entry.json()], ["a", 2, "put", { n: big }]);
  assert.equal(inspect(entry), '<KvEntry key="a" revision=2 operation="put" value=25 bytes>');
  assert.deepEqual((await kv.get("a", { revision: 1 })).value, Buffer.from("1"));
  assert.equal((await kv.get("b")).text(), "text");
  await assert.rejects(kv.create("a", "x"), (e) => e instanceof ConflictError && /revision 2/.test(e.message));
  await assert.rejects(kv.update("a", "x", 1), ConflictError);
  assert.equal(await kv.update("a", "3", 2), 4);
  await kv.delete("a");
  assert.equal(await kv.get("a"), undefined);
  assert.deepEqual(await kv.keys(), ["b"]);
  assert.equal(await kv.create("a", "4"), 6);
  const operations = (await list(kv.history("a"))).map((e) => e.operation);
  assert.deepEqual(operations, ["put", "put", "put", "delete", "put"]);
  await kv.purge("a");
  assert.deepEqual(
    (await list(kv.history("a"))).map((e) => e.operation),
    ["purge"],
  );
  const { history, storage } = await kv.status();
  assert.deepEqual([history, storage], [5, "file"]);
});

test("a watch gives what there is, then every change; it says when it has caught up", async () => {
  const kv = await bus.kv("watched", { create: {} });
  await kv.put("a.1", "1");
  await kv.put("b", "2");
  const watch = kv.watch(["a.*"]);
  const first = await watch.next();
  assert.deepEqual([first.key, first.initial, watch.caughtUp], ["a.1", true, false]);
  await kv.delete("a.1");
  const second = await watch.next();
  assert.deepEqual([second.operation, second.initial, watch.caughtUp], ["delete", false, true]);
  assert.throws(() => kv.watch([], { history: true, updatesOnly: true }), ConfigError);
});

test("a key with a time to live expires, its watchers are told so, and it can be created again", async () => {
  const kv = await bus.kv("expiring", { create: { limitMarkerTtl: "5s" } });
  const watch = kv.watch();
  await kv.put("k", "1", { ttl: 1000 });
  assert.deepEqual([(await watch.next()).operation, (await watch.next()).operation], ["put", "expired"]);
  assert.equal(await kv.get("k"), undefined);
  assert.equal(await kv.create("k", "2"), 3);
  const plain = await bus.kv("lasting", { create: {} });
  await assert.rejects(plain.put("k", "1", { ttl: 1000 }), NotSupportedError);
});

test("a bucket that exists stays as it is; other settings are a conflict, and none is an error", async () => {
  await assert.rejects(bus.kv("there"), NotFoundError);
  await bus.kv("there", { create: { history: 3, ttl: "1h" } });
  await bus.kv("there", { create: { ttl: 3_600_000 } });
  await assert.rejects(bus.kv("there", { create: { history: 2 } }), ConflictError);
  await assert.rejects(bus.kv("bad", { create: { history: 0 } }), ConfigError);
  await assert.rejects(bus.kv("bad", { create: { historie: 1 } }), ConfigError);
  const kv = await bus.kv("there");
  for (const key of ["", "a b", "a..b", "*"]) await assert.rejects(kv.put(key, ""), ConfigError);
});
