/** Names that other NATS clients have: each says what it is called here. */
import { Bus } from "./bus";
import { Consumer } from "./consumer";
import { ConfigError } from "./errors";
import { Message } from "./message";
import { Producer } from "./producer";

/** Of each class the properties and the calls of others, and ours. */
const PROPERTIES: readonly [object, Readonly<Record<string, string>>][] = [
  [
    Message.prototype,
    { data: "m.body (m.json(), m.text())", subject: "m.topic", seq: "m.sequence", info: "m.attempt" },
  ],
];
const CALLS: readonly [object, Readonly<Record<string, string>>][] = [
  [Message.prototype, { respond: "what the handler of bus.respond returns", working: "m.inProgress()" }],
  [
    Bus.prototype,
    {
      publish: "bus.producer(topic).send(body)",
      subscribe: "bus.consumer(topic, { group }) or bus.on(topic, { group }, handler)",
      jetstreamManager: "bus.streams(), bus.stream(name)",
      drain: "bus.close(), which drains",
    },
  ],
  [Producer.prototype, { publish: "producer.send(body)" }],
  [
    Consumer.prototype,
    { consume: "for await (const m of consumer), or consumer.run(handler)", subscribe: "consumer.run" },
  ],
];

for (const [of, names] of PROPERTIES) {
  for (const [name, ours] of Object.entries(names)) {
    const get = () => {
      throw new ConfigError(`a message has no ${name}: it is ${ours} here`);
    };
    Object.defineProperty(of, name, { get, configurable: true, enumerable: false });
  }
}
for (const [of, names] of CALLS) {
  for (const [name, ours] of Object.entries(names)) {
    const value = () => {
      throw new ConfigError(`there is no ${name}(): it is ${ours} here`);
    };
    Object.defineProperty(of, name, { value, configurable: true, enumerable: false, writable: true });
  }
}
