/**
 * An event bus on NATS: producers and consumers whose every send has one honest outcome.
 *
 * @packageDocumentation
 */

import "./habits";

export type { Body, Encoder } from "./bodies";
export type { Sent } from "./bridge";
export { Bus, type Metrics, type ServerInfo, type State } from "./bus";
export { type Backoff, type ConnectOptions, connect, type Tls } from "./connect";
export { Consumer, type ConsumerOptions } from "./consumer";
export type { SendOptions, Time } from "./convert";
export type { Credentials, CredentialsSource } from "./credentials";
export { DeadLetter, DeadLetters } from "./dead_letters";
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
export { type ConnectionEvent, type ConnectionEventKind, ConnectionEvents } from "./events";
export type { Handler, HandlerContext, HandlerOptions } from "./handlers";
export type { Headers, HeaderValue } from "./headers";
export type { ConsumerHealth, Health } from "./health";
export { Message, PubAck } from "./message";
export type { Notice, NoticeKind, NoticeLevel, OnLog } from "./notices";
export { Producer, type ProducerOptions, type SendManyOptions } from "./producer";
export { type RequestHandler, Responder, type RespondOptions } from "./responder";
export type { OnOptions } from "./running";
export { Stream, type StreamInfo } from "./stream";
export { topic } from "./topic";
