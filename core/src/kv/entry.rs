//! One value of a key, or the sign that there is none any more.

use super::names::key_of;
use crate::{
    host::schema::{choices, record},
    message::Delivery,
};
use bytes::Bytes;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

pub(super) const OPERATION: &str = "KV-Operation";
const MARKER: &str = "Nats-Marker-Reason";

choices! {
    /// What happened to a key.
    #![non_exhaustive]
    pub enum KvOperation {
        /// A value was written.
        Put = "put",
        /// It was deleted; its history stays.
        Delete = "delete",
        /// It was deleted with its history.
        Purge = "purge",
        /// Its time to live ran out.
        Expired = "expired",
    }
}

record! {
    /// One value of a key, or the sign that there is none any more.
    pub struct KvEntry {
        /// The bucket.
        bucket: String,
        /// The key.
        key: String,
        /// The revision: the sequence of the bucket's stream.
        revision: u64,
        /// What happened.
        operation: KvOperation,
        /// When it was written.
        time: SystemTime,
        /// Whether it was there before the watch began; false for one that was asked for by its key.
        initial: bool,
    }
    hidden {
        /// The value; empty unless a value was written, and when only names were asked for.
        pub value: Bytes,
    }
}

impl KvEntry {
    pub(super) fn of(bucket: &str, d: Delivery) -> Option<Self> {
        let (revision, time) = d.meta.as_ref().map(|m| (m.sequence, m.timestamp_ns))?;
        let operation = operation(|name| d.header(name).map(str::to_owned));
        let time = UNIX_EPOCH + Duration::from_nanos(u64::try_from(time).unwrap_or_default());
        let key = key_of(bucket, &d.topic)?.to_owned();
        let (bucket, initial) = (bucket.to_owned(), false);
        Some(Self { bucket, key, revision, operation, time, initial, value: d.body })
    }

    /// Whether it is a value.
    pub fn is_value(&self) -> bool {
        self.operation == KvOperation::Put
    }
}

/// What a message did to its key.
pub(super) fn operation(header: impl Fn(&str) -> Option<String>) -> KvOperation {
    match (header(OPERATION).as_deref(), header(MARKER).as_deref()) {
        (Some("DEL"), _) | (None, Some("Remove")) => KvOperation::Delete,
        (Some("PURGE"), _) | (None, Some("Purge")) => KvOperation::Purge,
        (None, Some(_)) => KvOperation::Expired,
        _ => KvOperation::Put,
    }
}
