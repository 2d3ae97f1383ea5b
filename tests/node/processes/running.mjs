// A service that runs handlers until a signal; arguments: the server's address, a topic, how. It prints what happens.
import { setTimeout as later } from "node:timers/promises";
import { connect } from "nats-eventbus";

const [servers, topic, how] = process.argv.slice(2);
const bus = await connect({ servers, jetstream: true, onLog: () => {} });
// What somebody else does with signals.
const others = () => console.log("others");
process.on("SIGTERM", others);

bus.on(topic, { group: "g" }, async (m, { signal }) => {
  console.log(`began ${m.text()}`);
  if (how === "stuck") await new Promise((_, reject) => signal.addEventListener("abort", () => reject(signal.reason)));
  // Not a wait for something: work that goes on when the signal comes.
  while (how === "finishes" && !bus.state.startsWith("closed") && !others.called) await later(10);
  console.log(`finished ${m.text()}`);
});
others.called = false;
process.on("SIGTERM", () => {
  others.called = true;
});
await bus.run({ signals: how !== "left" });
console.log(`over ${bus.state} ${process.listenerCount("SIGTERM")} ${process.listenerCount("SIGINT")}`);
process.removeAllListeners("SIGTERM");
