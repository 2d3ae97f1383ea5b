//! What to run: one JSON object, the first argument. The runner fills in what a workload needs.

use crate::Result;
use serde::Deserialize;

/// One run of one workload.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default)]
pub struct Spec {
    /// What to do.
    pub workload: String,
    /// Which of a client's ways to do it.
    pub mode: String,
    /// The server, `nats://host:port`.
    pub url: String,
    /// Where messages go to and come from.
    pub subject: String,
    /// The stream over the subject.
    pub stream: String,
    /// The durable to bind to.
    pub durable: String,
    /// Bytes of a body.
    pub size: usize,
    /// The body as text, instead of `size` bytes.
    pub body: String,
    /// How long to measure.
    pub seconds: f64,
    /// How long to run before that.
    pub warmup: f64,
    /// Messages to handle, instead of a time.
    pub count: u64,
    /// Messages there are at all.
    pub available: u64,
    /// Messages that may be under way.
    pub window: u64,
    /// Messages asked for at once.
    pub batch: usize,
    /// Whether messages carry an id.
    pub ids: bool,
    /// How many keys there are.
    pub keys: u64,
    /// How many consumers or subjects there are.
    pub consumers: u64,
    /// Messages a second, where they are paced.
    pub rate: f64,
    /// Seconds after which a run of a count is stopped; 0: never.
    pub cap: f64,
    /// Worker threads, where a client has such a setting; 0: its default.
    pub workers: usize,
}

/// A receiver tells how far it is every so many messages.
pub const CREDIT: u64 = 4096;

impl Spec {
    /// Reads the first argument.
    pub fn from_args() -> Result<Self> {
        let text = std::env::args().nth(1).ok_or("give a JSON object")?;
        Ok(serde_json::from_str(&text)?)
    }

    /// The body to send.
    #[must_use]
    pub fn payload(&self) -> Vec<u8> {
        if self.body.is_empty() { vec![b'x'; self.size] } else { self.body.clone().into_bytes() }
    }

    /// Where a receiver tells how far it is.
    #[must_use]
    pub fn credit_subject(&self) -> String {
        format!("{}.credit", self.subject)
    }
}
