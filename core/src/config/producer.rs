//! Settings of a producer.

use crate::{
    duration::serde_seconds,
    error::{Error, Result},
};
use serde::{Deserialize, Serialize};
use std::time::Duration;

/// Settings of a producer.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct ProducerConfig {
    /// Sends that may be unsettled at once. Default 1000.
    pub max_in_flight: usize,
    /// How long a send may take until its outcome, retries included. Default 30 s.
    #[serde(with = "serde_seconds")]
    pub delivery_timeout: Duration,
    /// How long an ack is waited for before the message is sent again with the same id. Default 5 s.
    #[serde(with = "serde_seconds")]
    pub ack_timeout: Duration,
    /// Whether messages carry an id, and are sent again under it when an ack is lost. Default true. Without it a lost
    /// ack is an unknown outcome, also of a message with an id of its own.
    pub dedupe: bool,
    /// Whether a missing stream is declared. Default: the connection's setting.
    pub declare: Option<bool>,
}

impl Default for ProducerConfig {
    fn default() -> Self {
        Self {
            max_in_flight: 1000,
            delivery_timeout: Duration::from_secs(30),
            ack_timeout: Duration::from_secs(5),
            dedupe: true,
            declare: None,
        }
    }
}

impl ProducerConfig {
    /// Checks what does not need a server.
    pub fn check(&self) -> Result<()> {
        if !(1..=1_000_000).contains(&self.max_in_flight) {
            return Err(Error::config(format!("max_in_flight is {}: give 1 to 1000000", self.max_in_flight)));
        }
        if self.delivery_timeout.is_zero() || self.ack_timeout.is_zero() {
            return Err(Error::config("delivery_timeout and ack_timeout must be above 0"));
        }
        Ok(())
    }
}
