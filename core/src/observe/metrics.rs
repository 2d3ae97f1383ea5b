//! Counters. They never decide anything.

use crate::host::schema::record;
use std::sync::atomic::{AtomicU64, Ordering};

/// A number that only grows.
#[derive(Debug, Default)]
pub(crate) struct Counter(AtomicU64);

impl Counter {
    pub(crate) fn add(&self, n: u64) {
        self.0.fetch_add(n, Ordering::Relaxed);
    }
    pub(crate) fn get(&self) -> u64 {
        self.0.load(Ordering::Relaxed)
    }
}

macro_rules! metrics {
    ($($(#[doc = $doc:literal])+ $name:ident,)*) => {
        #[derive(Debug, Default)]
        pub(crate) struct Metrics { $(pub(crate) $name: Counter,)* }
        record! {
            /// The counters of a bus since it was opened.
            pub struct MetricsSnapshot { $($(#[doc = $doc])+ $name: u64,)* }
        }
        impl Metrics {
            pub(crate) fn snapshot(&self) -> MetricsSnapshot {
                MetricsSnapshot { $($name: self.$name.get(),)* }
            }
        }
    };
}

metrics! {
    /// Sends that were accepted.
    sent,
    /// Sends that the server confirmed as stored (JetStream), or that a live connection took (core).
    acked,
    /// Of these, sends that were already stored under the same id.
    duplicates,
    /// Sends that are not stored and never will be.
    rejected,
    /// Sends whose outcome is unknown.
    unknown,
    /// Attempts beyond the first.
    retried,
    /// Messages received.
    received,
    /// Of these, redeliveries.
    redelivered,
    /// Messages settled: acked, naked or terminated.
    settled,
    /// Of these, messages that were returned unhandled, for other workers.
    given_back,
    /// Messages that were naked for a retry after their handler failed.
    retries,
    /// Handlers that failed or rejected their message.
    handler_errors,
    /// Messages that became dead letters.
    dead_letters,
    /// Core messages dropped because a consumer was too slow.
    slow_consumer,
    /// Reconnects.
    reconnects,
}
