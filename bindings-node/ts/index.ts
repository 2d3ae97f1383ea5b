/**
 * An event bus on NATS: producers and consumers whose every send has one honest outcome.
 *
 * @packageDocumentation
 */

import "./habits";

export type { Body, Encoder } from "./bodies";
export type { Sent } from "./bridge";
export { Bus } from "./bus";
export { type ConnectOptions, connect } from "./connect";
export { Consumer } from "./consumer";
export type { SendOptions } from "./convert";
export type { Credentials, CredentialsSource } from "./credentials";
export {
  AuthError,
  Backpressure,
  ClosedError,
  ConfigError,
  ConflictError,
  ConnectionError,
  DecodeError,
  type ErrorFields,
  EventBusError,
  InternalError,
  InvalidHeader,
  InvalidTopic,
  NoResponders,
  NotFoundError,
  NotSent,
  NotSupportedError,
  PermissionError,
  PublishRejected,
  PublishUnknown,
  Reject,
  RequestFailed,
  RetryAfter,
  StreamFull,
  Timeout,
  TlsError,
  TooLarge,
  WrongSequence,
} from "./errors";
export { ConnectionEvents } from "./events";
export { DeadLetter, DeadLetterCursor, DeadLetters, Kv, KvEntry, KvWatch, Stream } from "./generated/nouns";
export type {
  ConnectionEvent,
  ConnectionEventKind,
  ConsumerHealth,
  ConsumerInfo,
  Deliver,
  Health,
  JetStreamHealth,
  KvOperation,
  KvStatus,
  KvStorage,
  Metrics,
  Notice,
  NoticeKind,
  NoticeLevel,
  Order,
  ServerInfo,
  State,
  StreamInfo,
  StreamLayout,
} from "./generated/records";
export type { Backoff, ConsumerOptions, KvConfig, Time, Tls } from "./generated/settings";
export type { Handler, HandlerContext, HandlerOptions } from "./handlers";
export type { Headers, HeaderValue } from "./headers";
export { Message, PubAck } from "./message";
export type { OnLog } from "./notices";
export { Producer, type ProducerOptions, type SendManyOptions } from "./producer";
export { type RequestHandler, Responder, type RespondOptions } from "./responder";
export type { OnOptions } from "./running";
export { topic } from "./topic";
