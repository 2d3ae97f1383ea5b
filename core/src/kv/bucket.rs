//! Buckets: opened as they are, created as nats.go creates them, never altered.

use super::{Kv, names};
use crate::{
    bus::shared::Shared,
    config::ProducerConfig,
    error::{Error, ErrorKind, Result},
    host::schema::{choices, record, settings},
    jetstream::codes,
    publish::{Declares, Producer},
};
use serde::Deserialize;
use serde_json::{Value, json};
use std::{sync::Arc, time::Duration};

/// How long the server remembers ids, at most.
const WINDOW: Duration = Duration::from_secs(120);
/// The most revisions that a key may have.
const MOST_HISTORY: u32 = 64;
/// The API level of servers with times to live (2.11).
const TTL_LEVEL: u64 = 1;

choices! {
    /// Where a bucket is kept.
    pub enum KvStorage {
        /// On disk.
        File = "file",
        /// In memory: gone when its servers restart.
        Memory = "memory",
    }
}

settings! {
    /// Settings of a bucket that is created.
    pub struct KvConfig {
        /// Revisions kept of each key, 1 to 64. Default 1.
        history: Option<u32> = None,
        /// How long a value is kept. Default: for ever.
        ttl: Option<Duration> = None,
        /// How long the sign of an expired key is kept; allows times to live for single keys, too. Needs server 2.11.
        limit_marker_ttl: Option<Duration> = None,
        /// Replicas. Default: the connection's.
        replicas: Option<usize> = None,
        /// The most bytes the bucket may hold. Default: without limit.
        max_bytes: Option<u64> = None,
        /// The most bytes of one value. Default: the server's limit.
        max_value_size: Option<u32> = None,
        /// Where it is kept. Default `file`.
        storage: Option<KvStorage> = None,
        /// What it is for.
        description: Option<String> = None,
    }
}

record! {
    /// A bucket as the server describes it.
    pub struct KvStatus {
        /// The bucket.
        bucket: String,
        /// The stream behind it.
        stream: String,
        /// Values and signs of deletion stored now, all revisions.
        values: u64,
        /// Bytes stored now.
        bytes: u64,
        /// Revisions kept of each key.
        history: u64,
        /// How long a value is kept; none for ever.
        ttl: Option<Duration>,
        /// How long the sign of an expired key is kept; none where there are no such signs.
        limit_marker_ttl: Option<Duration>,
        /// Replicas.
        replicas: u64,
        /// Where it is kept.
        storage: KvStorage,
    }
}

#[derive(Deserialize)]
pub(super) struct Wire {
    config: WireConfig,
    #[serde(default)]
    state: WireState,
}

#[derive(Deserialize)]
struct WireConfig {
    #[serde(default)]
    max_msgs_per_subject: i64,
    #[serde(default)]
    max_age: u64,
    #[serde(default)]
    max_bytes: i64,
    #[serde(default)]
    max_msg_size: i64,
    #[serde(default)]
    num_replicas: u64,
    #[serde(default)]
    duplicate_window: u64,
    #[serde(default)]
    allow_direct: bool,
    #[serde(default)]
    allow_msg_ttl: bool,
    #[serde(default)]
    subject_delete_marker_ttl: u64,
    #[serde(default)]
    storage: String,
}

#[derive(Deserialize, Default)]
struct WireState {
    #[serde(default)]
    messages: u64,
    #[serde(default)]
    bytes: u64,
}

fn nanos(d: Duration) -> u64 {
    u64::try_from(d.as_nanos()).unwrap_or(u64::MAX)
}

fn some_time(ns: u64) -> Option<Duration> {
    (ns > 0).then(|| Duration::from_nanos(ns))
}

impl KvConfig {
    fn check(&self) -> Result<()> {
        if let Some(n) = self.history.filter(|n| !(1..=MOST_HISTORY).contains(n)) {
            return Err(Error::config(format!("history is {n}: give 1 to {MOST_HISTORY}")));
        }
        for (name, time) in [("ttl", self.ttl), ("limit_marker_ttl", self.limit_marker_ttl)] {
            if time.is_some_and(|t| t < Duration::from_secs(1)) {
                return Err(Error::config(format!("{name} is below 1 s, the least a server keeps")));
            }
        }
        if self.replicas.is_some_and(|n| !(1..=5).contains(&n)) {
            return Err(Error::config("replicas: a bucket has 1 to 5"));
        }
        if self.max_bytes == Some(0) || self.max_value_size == Some(0) {
            return Err(Error::config(
                "max_bytes and max_value_size begin at 1; leave them out for no limit",
            ));
        }
        Ok(())
    }

    /// The stream, as nats.go makes it.
    fn stream(&self, bucket: &str, replicas: usize) -> Value {
        let limit = |n: Option<u64>| n.map_or_else(|| json!(-1), Value::from);
        let mut config = json!({
            "name": names::stream(bucket), "subjects": [names::subjects(bucket)], "retention": "limits",
            "max_msgs_per_subject": self.history.unwrap_or(1), "max_bytes": limit(self.max_bytes), "max_msgs": -1,
            "max_consumers": -1, "max_msg_size": limit(self.max_value_size.map(u64::from)), "discard": "new",
            "max_age": self.ttl.map_or(0, nanos), "storage": self.storage.unwrap_or(KvStorage::File).as_str(), "num_replicas": replicas,
            "duplicate_window": nanos(self.ttl.map_or(WINDOW, |ttl| ttl.min(WINDOW))),
            "allow_rollup_hdrs": true, "deny_delete": true, "allow_direct": true,
        });
        if let Some(text) = &self.description {
            config["description"] = text.as_str().into();
        }
        if let Some(ttl) = self.limit_marker_ttl {
            config["allow_msg_ttl"] = true.into();
            config["subject_delete_marker_ttl"] = nanos(ttl).into();
        }
        config
    }

    /// What a bucket that exists has otherwise than it is asked for here.
    fn differences(&self, has: &WireConfig) -> Vec<String> {
        let limit = |n: i64| u64::try_from(n).ok().filter(|n| *n > 0);
        let none = || "none".to_owned();
        let time = |ns: u64| some_time(ns).map_or_else(none, |d| format!("{d:?}"));
        let number = |n: i64| limit(n).map_or_else(none, |n| n.to_string());
        let all = [
            ("history", number(has.max_msgs_per_subject), self.history.map(|n| n.to_string())),
            ("ttl", time(has.max_age), self.ttl.map(|d| format!("{d:?}"))),
            (
                "limit_marker_ttl",
                time(has.subject_delete_marker_ttl),
                self.limit_marker_ttl.map(|d| format!("{d:?}")),
            ),
            ("max_bytes", number(has.max_bytes), self.max_bytes.map(|n| n.to_string())),
            ("max_value_size", number(has.max_msg_size), self.max_value_size.map(|n| n.to_string())),
            ("storage", has.storage.clone(), self.storage.map(|s| s.as_str().to_owned())),
            ("replicas", has.num_replicas.to_string(), self.replicas.map(|n| n.to_string())),
        ];
        let differs = |(name, has, asked): (&str, String, Option<String>)| {
            let asked = asked.filter(|asked| *asked != has)?;
            Some(format!("{name} is {has} and {asked} is asked for"))
        };
        all.into_iter().filter_map(differs).collect()
    }
}

impl Kv {
    /// Opens a bucket, or creates it when `create` says how. One that exists stays as it is.
    pub(crate) async fn open(shared: &Arc<Shared>, bucket: &str, create: Option<KvConfig>) -> Result<Self> {
        names::check_bucket(bucket)?;
        if !shared.config.jetstream {
            return Err(Error::config("a key-value bucket needs JetStream: connect with jetstream on"));
        }
        let stream = names::stream(bucket);
        let found = match (shared.api::<Wire>(&format!("STREAM.INFO.{stream}"), &Value::Null).await, &create)
        {
            (Ok(found), None) => found,
            (Ok(found), Some(config)) => {
                config.check()?;
                unless_different(bucket, &found, config)?;
                found
            }
            (Err(e), Some(config)) if e.err_code() == Some(codes::STREAM_NOT_FOUND) => {
                config.check()?;
                make(shared, bucket, config).await?
            }
            (Err(e), None) if e.err_code() == Some(codes::STREAM_NOT_FOUND) => {
                let text = format!("there is no bucket {bucket:?}: create it (create), or check the name");
                return Err(Error::new(ErrorKind::NotFound, text).stream(stream));
            }
            (Err(e), _) => return Err(e.stream(stream)),
        };
        let stream: Arc<str> = stream.into();
        let config = ProducerConfig {
            delivery_timeout: delivery_timeout(found.config.duplicate_window),
            declare: Some(false),
            ..ProducerConfig::default()
        };
        let topic = names::subject(bucket, "key");
        let producer = Producer::open_for(shared, &topic, config, Declares::Stream(stream.clone()))?;
        let (direct, ttl) = (found.config.allow_direct, found.config.allow_msg_ttl);
        Ok(Self { shared: shared.clone(), bucket: bucket.into(), stream, direct, ttl, producer })
    }

    /// Asks the server about the bucket.
    ///
    /// # Errors
    /// `NotFound` when it was deleted.
    pub async fn status(&self) -> Result<KvStatus> {
        let call = format!("STREAM.INFO.{}", self.stream);
        let found: Wire = self.shared.api(&call, &Value::Null).await.map_err(|e| e.stream(&*self.stream))?;
        let (c, state) = (found.config, found.state);
        Ok(KvStatus {
            bucket: self.bucket.to_string(),
            stream: self.stream.to_string(),
            values: state.messages,
            bytes: state.bytes,
            history: u64::try_from(c.max_msgs_per_subject).unwrap_or(1),
            ttl: some_time(c.max_age),
            limit_marker_ttl: some_time(c.subject_delete_marker_ttl),
            replicas: c.num_replicas,
            storage: if c.storage == "memory" { KvStorage::Memory } else { KvStorage::File },
        })
    }
}

/// Below the time in which the server remembers ids, so that no retry stores twice.
fn delivery_timeout(window: u64) -> Duration {
    let default = ProducerConfig::default().delivery_timeout;
    some_time(window).map_or(default, |window| default.min(window / 2))
}

fn unless_different(bucket: &str, found: &Wire, config: &KvConfig) -> Result<()> {
    let differences = config.differences(&found.config);
    if differences.is_empty() {
        return Ok(());
    }
    let text = format!(
        "the bucket {bucket:?} exists with other settings ({}): open it without create, or correct one of them",
        differences.join("; ")
    );
    Err(Error::new(ErrorKind::Conflict, text).stream(names::stream(bucket)))
}

async fn make(shared: &Shared, bucket: &str, config: &KvConfig) -> Result<Wire> {
    if config.limit_marker_ttl.is_some() && shared.api_level().await? < TTL_LEVEL {
        let text = "limit_marker_ttl needs a server of 2.11 or later";
        return Err(Error::new(ErrorKind::NotSupported, text));
    }
    let (stream, replicas) = (names::stream(bucket), config.replicas.unwrap_or(shared.config.replicas));
    let asked = config.stream(bucket, replicas);
    match shared.api::<Wire>(&format!("STREAM.CREATE.{stream}"), &asked).await {
        Ok(made) => Ok(made),
        // Another service made it in the same moment.
        Err(e) if e.kind() == ErrorKind::Conflict => {
            let found = shared.api(&format!("STREAM.INFO.{stream}"), &Value::Null).await;
            let found: Wire = found.map_err(|_| e.stream(&*stream))?;
            unless_different(bucket, &found, config)?;
            Ok(found)
        }
        Err(e) => Err(e.stream(stream)),
    }
}
