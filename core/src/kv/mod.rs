//! Key-value buckets: a stream `KV_<bucket>` whose subjects are keys, in the form that every NATS client reads.
//!
//! `names`: keys and buckets; `bucket`: created or opened, never altered; `write`: one honest outcome each; `read`: one
//! key; `watch`: many. Writes go through the pipeline, so a lost ack is asked for again with the same id.

mod bucket;
mod entry;
mod names;
mod read;
mod watch;
mod write;

pub use bucket::{KvConfig, KvStatus, KvStorage};
pub use entry::{KvEntry, KvOperation};
pub use watch::{KvWatch, WatchOptions};

use crate::{bus::shared::Shared, publish::Producer};
use std::sync::Arc;

/// An open bucket.
#[derive(Clone, Debug)]
pub struct Kv {
    shared: Arc<Shared>,
    bucket: Arc<str>,
    stream: Arc<str>,
    /// Whether the server answers reads of the stream directly.
    direct: bool,
    /// Whether keys may have a time to live.
    ttl: bool,
    producer: Producer,
}

impl Kv {
    /// The bucket's name.
    pub fn bucket(&self) -> &str {
        &self.bucket
    }

    fn subject(&self, key: &str) -> String {
        names::subject(&self.bucket, key)
    }
}
