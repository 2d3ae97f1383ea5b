//! Settings of a producer.

use crate::{
    error::{Error, Result},
    host::schema::settings,
};
use std::time::Duration;

settings! {
    /// Settings of a producer.
    pub struct ProducerConfig {
        /// Sends that may be unsettled at once. Default 1000.
        max_in_flight: usize = 1000,
        /// How long a send may take until its outcome, retries included. Default 30 s.
        delivery_timeout: Duration = Duration::from_secs(30),
        /// How long an ack is waited for before the message is sent again with the same id. Default 5 s.
        ack_timeout: Duration = Duration::from_secs(5),
        /// Whether messages carry an id, and are sent again under it when an ack is lost. Default true. Without it a lost
        /// ack is an unknown outcome, also of a message with an id of its own.
        dedupe: bool = true,
        /// Whether a missing stream is declared. Default: the connection's setting.
        declare: Option<bool> = None,
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
