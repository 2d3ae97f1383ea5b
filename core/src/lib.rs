//! An event bus on NATS: producers and consumers whose every send has one honest outcome.
//!
//! A map of the modules:
//! - [`bus`](Bus): connect, close, and what a bus hands out; `connection`: the client, its state and credentials
//! - `pipeline`: the one way out and back, with retries and outcomes; `producer`: the handle in front of it
//! - `consumer`: the pull loop, its buffer and lanes, settling, handlers' ends; `dead_letters`: listed, replayed, discarded
//! - `jetstream`: the API's subjects, calls and codes, derived names; `stream`, `durable`: find and declare, never alter unasked; `request`: ask and answer
//! - [`mailbox`]: how results reach a host language; `config`, `error`, `topic`, `message`: the nouns
//! - `health`: whether a bus can do its work; `metrics`: what it counts
//! - `local_server`: the embedded `nats-server` behind `local://`
#![forbid(unsafe_code)]

mod bus;
mod config;
mod connection;
mod consumer;
mod dead_letters;
mod durable;
pub mod duration;
mod error;
#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
mod health;
mod jetstream;
mod local_server;
pub mod mailbox;
mod message;
mod metrics;
mod observe;
mod pipeline;
mod planted;
mod producer;
mod request;
pub mod runtime;
mod settings;
mod stream;
mod topic;

pub use bus::{Bus, ServerInfo};
pub use config::{
    Backoff, Config, ConsumerConfig, Credentials, CredentialsSource, Deliver, Order, ProducerConfig,
    Question, Secret, Servers, StreamLayout, Tls,
};
pub use connection::{Event, EventKind, Events, State};
pub use consumer::{Consumer, Handled, Settle};
pub use dead_letters::{DeadLetter, DeadLetters};
pub use error::{Error, ErrorKind, Result};
pub use health::{ConsumerHealth, Health, JetStreamHealth};
pub use jetstream::names::stream_name;
pub use mailbox::{Completion, Listener, Mailbox};
pub use message::{Delivery, ID_HEADER, KEY_HEADER, Meta, PubAck, SendOptions};
pub use metrics::MetricsSnapshot;
pub use observe::{Feed, HostFeed, Level, Notice, NoticeKind};
pub use producer::Producer;
pub use settings::{from_host, settings};
pub use stream::{Stream, StreamInfo};
pub use topic::{check_publish, check_subscribe, topic};
