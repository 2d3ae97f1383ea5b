// A NestJS service that consumes and answers HTTP. Nest's shutdown hooks close the bus: running handlers finish first.
// Plain JavaScript, so that it runs without a build; in TypeScript the decorators stand above the classes.
//
//   npm install @nestjs/core @nestjs/common @nestjs/platform-express reflect-metadata rxjs nats-eventbus
//   NATS_SERVER_URL=nats://127.0.0.1:4222 node nestjs.mjs
import "reflect-metadata";
import { Body, Controller, Get, Inject, Module, Post } from "@nestjs/common";
import { NestFactory } from "@nestjs/core";
import { connect } from "nats-eventbus";

const BUS = Symbol("bus");

/** Consumes from the start of the application to its shutdown. */
class Jobs {
  done = new Set();

  constructor(bus) {
    this.bus = bus;
    this.producer = bus.producer("recipe.nest.jobs");
  }

  onApplicationBootstrap() {
    this.bus.on("recipe.nest.jobs", { group: "recipe" }, (m) => this.handle(m.json()));
    // The signals are Nest's: `signals: false` leaves them alone.
    this.bus.run({ signals: false }).catch((e) => {
      // A consumer that cannot go on ends the service, so that its supervisor starts it again.
      console.error(e);
      process.exit(1);
    });
  }

  async handle({ id, ms = 0 }) {
    console.log(`began ${id}`);
    // Here is the work.
    await new Promise((resolve) => setTimeout(resolve, ms));
    this.done.add(id);
    console.log(`finished ${id}`);
  }

  /** By then Nest no longer takes requests. Closing the bus drains its handlers, and ends the run. */
  async onApplicationShutdown() {
    await this.bus.close();
  }
}

class Routes {
  constructor(jobs) {
    this.jobs = jobs;
  }

  async add(body) {
    const { sequence } = await this.jobs.producer.send(body);
    return { sequence };
  }

  done() {
    return [...this.jobs.done];
  }
}

/** What TypeScript's decorators compile to. */
function decorate(decorators, target, name) {
  const descriptor = name && Object.getOwnPropertyDescriptor(target, name);
  for (const decorator of decorators) decorator(target, name, descriptor);
}

Inject(BUS)(Jobs, undefined, 0);
Inject(Jobs)(Routes, undefined, 0);
decorate([Post("/jobs")], Routes.prototype, "add");
Body()(Routes.prototype, "add", 0);
decorate([Get("/done")], Routes.prototype, "done");
decorate([Controller()], Routes);

class App {}
Module({
  controllers: [Routes],
  providers: [{ provide: BUS, useFactory: () => connect({ jetstream: true }) }, Jobs],
})(App);

const app = await NestFactory.create(App, { logger: ["warn", "error"] });
// SIGTERM and SIGINT close the application. Without `useProcessExit` the process ends by the signal instead of code 0.
app.enableShutdownHooks([], { useProcessExit: true });
await app.listen(Number(process.env.PORT ?? 3000));
console.log(`listening on ${await app.getUrl()}`);
