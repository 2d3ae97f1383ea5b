//! A stream's consumers, as the server describes them.

use crate::host::schema::record;
use serde::Deserialize;
use std::time::Duration;

record! {
    /// A consumer of a stream, as the server describes it.
    pub struct ConsumerInfo {
        /// Its name. For a durable, the group's.
        name: String,
        /// The stream it reads.
        stream: String,
        /// Whether it is durable: it stays when its last worker leaves.
        durable: bool,
        /// Its filter subjects. Empty: the whole stream.
        topics: Vec<String>,
        /// Messages not delivered yet.
        pending: u64,
        /// Messages delivered and not acked yet.
        ack_pending: u64,
        /// Of these, messages delivered more than once.
        redelivered: u64,
        /// Pull requests that wait for messages.
        waiting: u64,
        /// Sequence of the last message delivered.
        delivered_sequence: u64,
        /// Sequence up to which every message is acked.
        settled_sequence: u64,
        /// How long it waits for an ack before it redelivers a message.
        ack_wait: Duration,
        /// The most unacked messages at once. None: unlimited.
        max_ack_pending: Option<u64>,
        /// The most deliveries of a message. None: unlimited.
        max_deliver: Option<u64>,
        /// Whether an operator paused it.
        paused: bool,
    }
}

#[derive(Deserialize)]
pub(super) struct ConsumerPage {
    pub(super) consumers: Option<Vec<ConsumerJson>>,
    #[serde(default)]
    pub(super) total: usize,
}

#[derive(Deserialize)]
pub(super) struct ConsumerJson {
    stream_name: String,
    name: String,
    config: ConfigJson,
    #[serde(default)]
    delivered: Sequences,
    #[serde(default)]
    ack_floor: Sequences,
    #[serde(default)]
    num_pending: u64,
    #[serde(default)]
    num_ack_pending: u64,
    #[serde(default)]
    num_redelivered: u64,
    #[serde(default)]
    num_waiting: u64,
    #[serde(default)]
    paused: bool,
}

#[derive(Deserialize, Default)]
struct Sequences {
    #[serde(default)]
    stream_seq: u64,
}

#[derive(Deserialize)]
struct ConfigJson {
    #[serde(default)]
    durable_name: String,
    #[serde(default)]
    filter_subject: String,
    #[serde(default)]
    filter_subjects: Vec<String>,
    #[serde(default)]
    ack_wait: u64,
    #[serde(default)]
    max_ack_pending: i64,
    #[serde(default)]
    max_deliver: i64,
}

impl From<ConsumerJson> for ConsumerInfo {
    fn from(w: ConsumerJson) -> Self {
        let limit = |n: i64| u64::try_from(n).ok().filter(|n| *n > 0);
        let one = Some(w.config.filter_subject).filter(|f| !f.is_empty());
        Self {
            name: w.name,
            stream: w.stream_name,
            durable: !w.config.durable_name.is_empty(),
            topics: w.config.filter_subjects.into_iter().chain(one).collect(),
            pending: w.num_pending,
            ack_pending: w.num_ack_pending,
            redelivered: w.num_redelivered,
            waiting: w.num_waiting,
            delivered_sequence: w.delivered.stream_seq,
            settled_sequence: w.ack_floor.stream_seq,
            ack_wait: Duration::from_nanos(w.config.ack_wait),
            max_ack_pending: limit(w.config.max_ack_pending),
            max_deliver: limit(w.config.max_deliver),
            paused: w.paused,
        }
    }
}
