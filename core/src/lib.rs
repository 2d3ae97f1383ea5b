//! An event bus on NATS: producers and consumers whose every send has one honest outcome.
//!
//! The modules, from the top down (`docs/architecture.md` has the whole picture):
//! - `bus`: connect, close, health, and the nouns of a bus; `bus::shared` is the context below all nouns
//! - `publish`: the producer, and the one pipeline out, with retries and outcomes
//! - `consume`: the pull loop, its buffer and lanes, settling, handlers; `dead_letters`: listed, replayed, discarded
//! - `request`: requests and replies
//! - `jetstream`: subjects, calls and codes of its API, derived names, streams and durables
//! - `connection`: the client, dialling, signing in, events; `local_server`: the server behind `local://`
//! - `observe`: events, notices, health, metrics
//! - [`host`]: what only bindings use; `testing`: what only tests use
//! - `config`, `error`, `topic`, `message`, [`duration`], [`runtime`]: the vocabulary of all modules
#![forbid(unsafe_code)]

mod bus;
mod config;
mod connection;
mod consume;
mod dead_letters;
pub mod duration;
mod error;
pub mod host;
mod jetstream;
mod kv;
mod local_server;
mod message;
mod observe;
mod publish;
mod request;
pub mod runtime;
mod testing;
mod topic;

/// The programs of the quick start compile.
#[cfg(doctest)]
#[doc = include_str!("../../docs/rust.md")]
struct QuickStart;

pub use bus::{Bus, ServerInfo};
pub use config::{
    Backoff, Config, ConsumerConfig, Credentials, CredentialsSource, Deliver, Order, ProducerConfig,
    Question, Secret, Servers, StreamLayout, Tls,
};
pub use connection::{Event, EventKind, Events, State};
pub use consume::{Consumer, Handled, Settle};
pub use dead_letters::{DeadLetter, DeadLetterCursor, DeadLetters};
pub use error::{Error, ErrorKind, Result};
pub use jetstream::{
    names::stream_name,
    stream::{ConsumerInfo, Stream, StreamInfo},
};
pub use kv::{Kv, KvConfig, KvEntry, KvOperation, KvStatus, KvStorage, KvWatch, WatchOptions};
pub use message::{Delivery, ID_HEADER, KEY_HEADER, Meta, PubAck, SendOptions};
pub use observe::{
    ConsumerHealth, Feed, Health, HostFeed, JetStreamHealth, Level, MetricsSnapshot, Notice, NoticeKind,
};
pub use publish::Producer;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub use testing::fuzzing;
pub use topic::{check_publish, check_subscribe, topic};
