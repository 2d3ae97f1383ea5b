// A Fastify service that consumes and answers HTTP. Fastify's shutdown closes the bus: running handlers finish first.
//
//   npm install fastify nats-eventbus
//   NATS_SERVER_URL=nats://127.0.0.1:4222 node fastify.mjs
import Fastify from "fastify";
import { connect } from "nats-eventbus";

const app = Fastify();
const levels = { info: "info", warning: "warn", error: "error" };
const bus = await connect({ jetstream: true, onLog: ({ level, text }) => app.log[levels[level]](text) });
const jobs = bus.producer("recipe.jobs");
const done = new Set();

bus.on("recipe.jobs", { group: "recipe" }, async (m) => {
  const { id, ms = 0 } = m.json();
  console.log(`began ${id}`);
  // Here is the work.
  await new Promise((resolve) => setTimeout(resolve, ms));
  done.add(id);
  console.log(`finished ${id}`);
});

app.post("/jobs", async (request, reply) => {
  const { sequence } = await jobs.send(request.body);
  return reply.code(202).send({ sequence });
});
app.get("/done", async () => [...done]);
app.get("/ready", async (_, reply) => {
  const health = await bus.health();
  return reply.code(health.ok ? 200 : 503).send(health);
});

// By then Fastify no longer takes requests. Closing the bus drains its handlers, and ends the run.
app.addHook("onClose", () => bus.close());

// The signals are Fastify's: `signals: false` leaves them alone.
const run = bus.run({ signals: false });
let closing;
const close = () => {
  closing ??= app.close();
};
for (const name of ["SIGTERM", "SIGINT"]) process.on(name, close);
// A consumer that cannot go on ends the service, so that its supervisor starts it again.
run.catch((e) => {
  console.error(e);
  process.exitCode = 1;
  close();
});

console.log(`listening on ${await app.listen({ port: Number(process.env.PORT ?? 3000) })}`);
