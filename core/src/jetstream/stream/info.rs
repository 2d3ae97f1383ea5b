//! A stream as the server describes it.

use crate::host::schema::record;
use serde::Deserialize;
use std::time::Duration;

record! {
    /// A stream as the server describes it.
    pub struct StreamInfo {
        /// Its name.
        name: String,
        /// The subjects it stores.
        subjects: Vec<String>,
        /// Messages stored now.
        messages: u64,
        /// Bytes stored now.
        bytes: u64,
        /// Sequence of the oldest message.
        first_sequence: u64,
        /// Sequence of the newest message.
        last_sequence: u64,
        /// Consumers it has.
        consumers: u64,
        /// Replicas it is stored on.
        replicas: u64,
        /// How long ids are remembered.
        duplicate_window: Duration,
    }
    hidden {
        /// What publishing and declaring must know besides.
        pub(crate) details: Details,
    }
}

/// What hosts do not see of a stream.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools)] // what the server says, flag by flag
pub(crate) struct Details {
    /// Whether it never acks.
    pub(crate) no_ack: bool,
    /// Whether it deletes what its consumers have settled.
    pub(crate) deletes_settled: bool,
    /// Whether messages may have a time to live; servers before 2.11 never say so.
    pub(crate) ttl: bool,
    /// The least time to live it keeps: that of its delete markers, if it keeps several messages of a subject.
    pub(crate) least_ttl: Duration,
    /// Whether other subjects than its own reach it: it is a mirror, has sources or transforms.
    pub(crate) takes_from_others: bool,
    /// The subjects that reach it from other streams, or by a transform.
    pub(crate) fed: Vec<String>,
}

#[derive(Deserialize)]
pub(super) struct Wire {
    config: WireConfig,
    #[serde(default)]
    state: WireState,
}

#[derive(Deserialize)]
struct WireConfig {
    name: String,
    #[serde(default)]
    subjects: Vec<String>,
    #[serde(default)]
    duplicate_window: u64,
    #[serde(default)]
    num_replicas: u64,
    #[serde(default)]
    no_ack: bool,
    #[serde(default)]
    retention: String,
    #[serde(default)]
    allow_msg_ttl: bool,
    #[serde(default)]
    subject_delete_marker_ttl: u64,
    #[serde(default)]
    max_msgs_per_subject: i64,
    mirror: Option<Origin>,
    #[serde(default)]
    sources: Vec<Origin>,
    subject_transform: Option<Transform>,
}

/// Another stream whose messages a stream takes.
#[derive(Deserialize)]
struct Origin {
    #[serde(default)]
    filter_subject: String,
    #[serde(default)]
    subject_transforms: Vec<Transform>,
}

#[derive(Deserialize)]
struct Transform {
    #[serde(default)]
    src: String,
    #[serde(default)]
    dest: String,
}

#[derive(Deserialize, Default)]
struct WireState {
    #[serde(default)]
    messages: u64,
    #[serde(default)]
    bytes: u64,
    #[serde(default)]
    first_seq: u64,
    #[serde(default)]
    last_seq: u64,
    #[serde(default)]
    consumer_count: u64,
}

impl Transform {
    /// What it turns subjects into, with wildcards for what it computes.
    fn subject(&self) -> String {
        let to = if self.dest.is_empty() { &self.src } else { &self.dest };
        let token = |t| match t {
            t if str::contains(t, "{{") || t.starts_with('$') => "*",
            other => other,
        };
        to.split('.').map(token).collect::<Vec<_>>().join(".")
    }
}

impl WireConfig {
    fn fed(&self) -> Vec<String> {
        let mut all = Vec::new();
        for origin in self.sources.iter().chain(&self.mirror) {
            all.extend(origin.subject_transforms.iter().map(Transform::subject));
            all.extend(Some(origin.filter_subject.clone()).filter(|f| !f.is_empty()));
        }
        all.extend(self.subject_transform.iter().map(Transform::subject));
        all
    }
}

impl From<Wire> for StreamInfo {
    fn from(w: Wire) -> Self {
        let (c, state) = (w.config, w.state);
        let marker = if c.max_msgs_per_subject == 1 { 0 } else { c.subject_delete_marker_ttl };
        let details = Details {
            no_ack: c.no_ack,
            deletes_settled: matches!(&*c.retention, "interest" | "workqueue"),
            ttl: c.allow_msg_ttl,
            least_ttl: Duration::from_nanos(marker),
            takes_from_others: c.mirror.is_some() || !c.sources.is_empty() || c.subject_transform.is_some(),
            fed: c.fed(),
        };
        Self {
            name: c.name,
            subjects: c.subjects,
            messages: state.messages,
            bytes: state.bytes,
            first_sequence: state.first_seq,
            last_sequence: state.last_seq,
            consumers: state.consumer_count,
            replicas: c.num_replicas,
            duplicate_window: Duration::from_nanos(c.duplicate_window),
            details,
        }
    }
}

#[cfg(test)]
impl StreamInfo {
    /// A stream over these subjects.
    pub(crate) fn storing(subjects: &[&str]) -> Self {
        let wire = serde_json::json!({"config": {"name": "S", "subjects": subjects}});
        Self::from(serde_json::from_value::<Wire>(wire).unwrap())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn what_reaches_a_stream_from_others() {
        let wire: Wire = serde_json::from_value(json!({"config": {
            "name": "AGG",
            "sources": [
                {"name": "A", "filter_subject": "a.>"},
                {"name": "B", "subject_transforms": [{"src": "b.*", "dest": "agg.{{wildcard(1)}}.x"}]},
            ],
            "subject_transform": {"src": "in.>", "dest": "out.>"},
        }}))
        .unwrap();
        assert_eq!(StreamInfo::from(wire).details.fed, ["a.>", "agg.*.x", "out.>"]);
    }
}
