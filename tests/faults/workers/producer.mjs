// A producer as a process; settings and commands as in producer.py.
import { Backpressure, EventBusError, PublishUnknown } from "nats-eventbus";
import { camel, commands, errorFields, finish, Ledger, opened, settings } from "./common.mjs";

const { who, topic, keys, size, within, marks, mode } = settings;
const sleep = (ms) => new Promise((resolve) => setTimeout(resolve, ms));

/** Sends, and follows every send to its end. */
class Sender {
  stopped = false;
  #last = 0;
  #pending = new Set();
  #unsettled = new Set();

  constructor(bus, ledger) {
    const more = mode === "nowait" ? { onError: (e) => this.#onError(e) } : {};
    this.producer = bus.producer(topic, { ...camel(settings.producer), ...more });
    this.bus = bus;
    this.ledger = ledger;
  }

  #body(n, id, length = size) {
    const body = `{"id":"${id}","n":${n},"from":"${who}","do":"${marks[n] ?? "ok"}","pad":"`;
    return `${body.padEnd(length - 2, "x")}"}`;
  }

  #failed(id, e) {
    const how = e instanceof PublishUnknown ? "unknown" : e instanceof Backpressure ? "refused" : "rejected";
    this.ledger.write(how, { id, ...errorFields(e) });
  }

  #onError(e) {
    this.#unsettled.delete(e.id);
    this.#failed(e.id, e);
  }

  async #follow(id, outcome) {
    try {
      const ack = await outcome;
      this.ledger.write("acked", { id, stream: ack.stream, seq: ack.sequence, dup: ack.duplicate });
    } catch (e) {
      this.#failed(id, e);
    }
  }

  #one(n) {
    const [id, key] = [`${who}-${n}`, n % 2 && keys ? `k${Math.floor(n / 2) % keys}` : undefined];
    const body = this.#body(n, id);
    this.ledger.write("sent", { id, key, n, within });
    if (mode === "send") {
      const followed = this.#follow(id, this.producer.send(body, { key, id })).finally(() =>
        this.#pending.delete(followed),
      );
      this.#pending.add(followed);
      return;
    }
    try {
      this.producer.sendNow(body, { key, id });
      this.#unsettled.add(id);
    } catch (e) {
      this.#failed(id, e);
    }
  }

  /** One message out of the ordinary; a header given as a number is so long. */
  async attempt({ id, topic, size, headers }) {
    const n = ++this.#last;
    this.ledger.write("sent", { id, n, within });
    const text = ([name, value]) => [name, typeof value === "number" ? "x".repeat(value) : value];
    try {
      const producer = this.bus.producer(topic, camel(settings.producer));
      const values = Object.fromEntries(Object.entries(headers).map(text));
      await this.#follow(id, producer.send(this.#body(n, id, size), { id, headers: values }));
    } catch (e) {
      this.#failed(id, e);
    }
    this.ledger.write("tried");
  }

  /** Sends so many (0: until stopped), at this rate (0: as fast as it goes). */
  async send(count, rate) {
    const start = performance.now();
    for (let done = 1; !this.stopped && !(count > 0 && done > count); done++) {
      this.#one(++this.#last);
      const wait = rate ? start + (done * 1000) / rate - performance.now() : 0;
      if (wait > 0 || done % 100 === 0) await sleep(Math.max(wait, 0));
    }
  }

  /** Resolves when every send has ended. */
  async settle() {
    if (mode === "nowait") {
      await this.producer.flush().catch((e) => {
        if (!(e instanceof EventBusError)) throw e;
        this.ledger.write("error", errorFields(e));
      });
      // Whatever failed was told with its id.
      for (const id of this.#unsettled) this.ledger.write("acked", { id, dup: false });
      this.#unsettled.clear();
    }
    while (this.#pending.size) await Promise.all(this.#pending);
    this.ledger.write("settled");
  }
}

const ledger = new Ledger("producer");
const bus = await opened(ledger);
const quiet = ledger.tellMetrics(bus);
const sender = new Sender(bus, ledger);
const sending = sender.send(settings.count, settings.rate);
ledger.write("ready");
for await (const line of commands()) {
  if (line.startsWith("try ")) {
    await sender.attempt(JSON.parse(line.slice(4)));
    continue;
  }
  const [command, count, rate] = line.split(" ");
  if (command === "stop" || command === "finish") {
    if (command === "stop") sender.stopped = true;
    await sending;
    await sender.settle();
  } else if (command === "burst") {
    await sending;
    const work = () => sender.send(Number(count), Number(rate)).then(() => sender.settle());
    await (mode === "send" ? ledger.holding(work) : work());
  } else if (command === "rest") ledger.rest(bus);
  else break;
}
quiet();
ledger.metrics(bus);
await bus.close();
ledger.write("left");
finish();
