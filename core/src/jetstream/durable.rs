//! Durables: bound as they are, or created as the platform creates them. They change only on request.
//!
//! If an existing durable differs from the requested settings, one error lists every difference ([`differences`], pure).

use crate::{
    bus::shared::Shared,
    config::{ConsumerConfig, Order},
    error::{Error, ErrorKind, Result},
    jetstream::stream::StreamInfo,
    topic::covers,
};
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::Duration;

/// The `max_ack_pending` that the platform's client gives its durables.
const GO_MAX_ACK_PENDING: u32 = 65_536;

/// What a consumer must know of its durable.
#[derive(Clone, Debug)]
pub(crate) struct Durable {
    pub(crate) ack_wait: Duration,
    pub(crate) max_ack_pending: usize,
    /// The largest batch and the longest expiry of a pull request.
    pub(crate) max_batch: usize,
    pub(crate) max_expires: Duration,
    /// The most bytes of a pull request.
    pub(crate) max_bytes: usize,
    /// The most deliveries of a message. None: unlimited.
    pub(crate) max_deliver: Option<u64>,
    /// Its waits before redeliveries, by attempt. Empty when they are all the ack wait.
    pub(crate) backoff: Vec<Duration>,
}

/// The part of a durable's config that matters here, as the server writes it.
#[derive(Debug, Default, Deserialize)]
#[serde(default)]
struct ServerConfig {
    ack_wait: u64,
    max_ack_pending: i64,
    max_batch: usize,
    max_expires: u64,
    max_bytes: usize,
    max_deliver: i64,
    filter_subject: String,
    filter_subjects: Vec<String>,
    deliver_subject: Option<String>,
    deliver_policy: String,
    ack_policy: String,
    backoff: Vec<u64>,
}

impl ServerConfig {
    fn filters(&self) -> Vec<&str> {
        let one = Some(self.filter_subject.as_str()).filter(|f| !f.is_empty());
        self.filter_subjects.iter().map(String::as_str).chain(one).collect()
    }
}

impl From<ServerConfig> for Durable {
    fn from(w: ServerConfig) -> Self {
        Self {
            // With a backoff the ack wait is its first wait. Unsettled messages must be extended within the shortest one.
            ack_wait: Duration::from_nanos(w.backoff.iter().copied().fold(w.ack_wait, u64::min))
                .max(Duration::from_millis(10)),
            max_ack_pending: usize::try_from(w.max_ack_pending).unwrap_or(usize::MAX).max(1),
            max_batch: if w.max_batch == 0 { usize::MAX } else { w.max_batch },
            max_expires: if w.max_expires == 0 { Duration::MAX } else { Duration::from_nanos(w.max_expires) },
            max_bytes: if w.max_bytes == 0 { usize::MAX } else { w.max_bytes },
            max_deliver: u64::try_from(w.max_deliver).ok().filter(|n| *n > 0),
            backoff: w.backoff.iter().copied().map(Duration::from_nanos).collect(),
        }
    }
}

/// A setting in which the durable differs from the request.
#[derive(Debug, PartialEq, Eq)]
struct Difference {
    field: &'static str,
    has: String,
    asked: String,
    /// The new value, if an update of the durable can set it.
    update: Option<Value>,
}

/// The settings that the user requested, by the server's names.
fn requested(topic: &str, config: &ConsumerConfig) -> Vec<(&'static str, Value)> {
    let mut out = vec![("filter_subject", Value::from(topic))];
    if let Some(wait) = config.ack_wait {
        out.push(("ack_wait", u64::try_from(wait.as_nanos()).unwrap_or(u64::MAX).into()));
    }
    if config.order == Some(Order::Stream) {
        out.push(("max_ack_pending", 1.into()));
    } else if let Some(n) = config.max_ack_pending {
        out.push(("max_ack_pending", n.into()));
    }
    if let Some(deliver) = config.deliver {
        out.push(("deliver_policy", deliver.as_str().into()));
    }
    out
}

/// All differences between a durable and the requested settings.
fn differences(
    w: &ServerConfig,
    stream: &StreamInfo,
    topic: &str,
    config: &ConsumerConfig,
) -> Vec<Difference> {
    let mut out = Vec::new();
    let mut differs = |field, has: String, asked: String, update| {
        out.push(Difference { field, has, asked, update });
    };
    if let Some(subject) = &w.deliver_subject {
        differs("deliver_subject", format!("{subject:?} (a push consumer)"), "a pull consumer".into(), None);
    }
    if w.ack_policy != "explicit" {
        differs("ack_policy", w.ack_policy.clone(), "explicit".into(), None);
    }
    let filters = w.filters();
    let all = stream.subjects.iter().all(|s| covers(topic, s)) && !stream.details.takes_from_others;
    let whole = filters.is_empty() && (all || topic == ">");
    let same = filters.iter().any(|f| covers(f, topic)) && filters.iter().all(|f| covers(topic, f));
    // A durable that is bound to by name has filters of its own.
    if !whole && !same && config.durable.is_none() {
        let has = if filters.is_empty() { "all of the stream".into() } else { filters.join(", ") };
        differs("filter_subject", has, topic.into(), Some(topic.into()));
    }
    for (field, value) in requested(topic, config) {
        let has = match field {
            "ack_wait" => Value::from(w.ack_wait),
            "max_ack_pending" => w.max_ack_pending.into(),
            "deliver_policy" => w.deliver_policy.as_str().into(),
            _ => continue,
        };
        if has != value {
            let shown = |v: &Value| match (field, v.as_u64()) {
                ("ack_wait", Some(n)) => format!("{:?}", Duration::from_nanos(n)),
                _ => v.as_str().map_or_else(|| v.to_string(), str::to_owned),
            };
            let update = (field != "deliver_policy").then(|| value.clone());
            differs(field, shown(&has), shown(&value), update);
        }
    }
    // The server would stop delivering before our last attempt, and nothing would handle the message.
    if let (Some(asked), true) = (config.max_deliver, w.max_deliver > 0)
        && i64::try_from(asked).unwrap_or(i64::MAX) > w.max_deliver
    {
        differs("max_deliver", w.max_deliver.to_string(), asked.to_string(), Some(asked.into()));
    }
    out
}

fn conflict(found: &[Difference]) -> Error {
    let each: Vec<_> =
        found.iter().map(|d| format!("{} is {} and not {}", d.field, d.has, d.asked)).collect();
    let by_name = if found.iter().any(|d| d.field == "filter_subject") {
        "; to read what the durable's own filters let through, bind to it by name (durable)"
    } else {
        ""
    };
    let remedy = if found.iter().all(|d| d.update.is_some()) {
        "use another group, leave the setting out, or have the durable updated (update)"
    } else {
        "use another group, leave the setting out, or recreate the durable yourself"
    };
    Error::new(
        ErrorKind::Conflict,
        format!("the group's durable exists with other settings: {}; {remedy}{by_name}", each.join(", ")),
    )
}

impl Shared {
    /// The durable of a group: bound as it is, else created with the server's defaults, as the platform does.
    pub(crate) async fn durable(
        &self,
        stream: &StreamInfo,
        topic: &str,
        config: &ConsumerConfig,
    ) -> Result<Durable> {
        let (name, group) = (&stream.name, config.durable_name());
        let named = |e: Error| e.topic(topic).stream(&**name).group(&config.group);
        let mut wanted = json!({
            "durable_name": group, "ack_policy": "explicit", "deliver_policy": "all",
            "replay_policy": "instant", "max_ack_pending": GO_MAX_ACK_PENDING,
        });
        requested(topic, config).into_iter().for_each(|(field, value)| wanted[field] = value);
        let found = match config.durable {
            Some(_) => self.bind_by_name(name, group).await,
            None => self.find_or_make_durable(name, group, &wanted).await,
        };
        let found = found.map_err(named)?;
        let has = read(&found).map_err(named)?;
        let others = differences(&has, stream, topic, config);
        if others.is_empty() {
            return Ok(has.into());
        }
        if !config.update || others.iter().any(|d| d.update.is_none()) {
            return Err(named(conflict(&others)));
        }
        let mut wanted = found["config"].clone();
        for d in others {
            if d.field == "filter_subject"
                && let Some(all) = wanted.as_object_mut()
            {
                all.remove("filter_subjects");
            }
            wanted[d.field] = d.update.unwrap_or_default();
        }
        let updated = self.put_durable(name, group, "update", &wanted).await.map_err(named)?;
        Ok(read(&updated).map_err(named)?.into())
    }

    /// Binds to an existing durable. Creating it instead would hide a typo in its name.
    async fn bind_by_name(&self, stream: &str, name: &str) -> Result<Value> {
        match self.api(&format!("CONSUMER.INFO.{stream}.{name}"), &Value::Null).await {
            Err(e) if e.kind() == ErrorKind::NotFound => {
                let text = format!(
                    "the stream has no durable {name:?}: durable binds to one that exists; leave it out to have the group's durable created"
                );
                Err(Error::new(ErrorKind::NotFound, text).in_the_words_of(&e))
            }
            other => other,
        }
    }

    /// A durable as it is, else created with these settings.
    pub(crate) async fn find_or_make_durable(
        &self,
        stream: &str,
        name: &str,
        config: &Value,
    ) -> Result<Value> {
        let info = format!("CONSUMER.INFO.{stream}.{name}");
        match self.api(&info, &Value::Null).await {
            Err(e) if e.kind() == ErrorKind::NotFound => {}
            other => return other,
        }
        match self.put_durable(stream, name, "create", config).await {
            // Another process created it at the same moment.
            Err(e) if e.kind() == ErrorKind::Conflict => self.api(&info, &Value::Null).await,
            other => other,
        }
    }

    /// The `action` is "create", which never changes an existing durable, or "update".
    async fn put_durable(&self, stream: &str, name: &str, action: &str, config: &Value) -> Result<Value> {
        let body = json!({"stream_name": stream, "action": action, "config": config});
        self.api(&format!("CONSUMER.DURABLE.CREATE.{stream}.{name}"), &body).await
    }
}

/// Reads the server's info about a durable.
pub(crate) fn read_durable(info: &Value) -> Result<Durable> {
    read(info).map(Durable::from)
}

fn read(info: &Value) -> Result<ServerConfig> {
    ServerConfig::deserialize(&info["config"])
        .map_err(|e| Error::new(ErrorKind::Decode, format!("the durable's description: {e}")))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::Deliver;

    fn stream(subjects: &[&str]) -> StreamInfo {
        StreamInfo::storing(subjects)
    }

    fn wire(filter: &str) -> ServerConfig {
        ServerConfig {
            ack_wait: 30_000_000_000,
            max_ack_pending: 1000,
            max_deliver: -1,
            filter_subject: filter.into(),
            deliver_policy: "all".into(),
            ack_policy: "explicit".into(),
            ..ServerConfig::default()
        }
    }

    fn fields(w: &ServerConfig, topic: &str, config: &ConsumerConfig) -> Vec<&'static str> {
        differences(w, &stream(&["a.>"]), topic, config).iter().map(|d| d.field).collect()
    }

    #[test]
    fn only_requested_settings_can_differ() {
        let plain = ConsumerConfig::default();
        assert!(fields(&wire("a.b"), "a.b", &plain).is_empty());
        assert_eq!(fields(&wire("a.*"), "a.b", &plain), ["filter_subject"], "it would bring other topics");
        assert_eq!(fields(&wire("a.b"), "a.*", &plain), ["filter_subject"], "it would leave topics out");
        assert_eq!(fields(&wire(""), "a.b", &plain), ["filter_subject"]);
        assert!(fields(&wire(""), "a.>", &plain).is_empty(), "without a filter it is all of the stream");
        let given = ConsumerConfig {
            ack_wait: Some(Duration::from_secs(5)),
            max_ack_pending: Some(7),
            deliver: Some(Deliver::New),
            max_deliver: Some(9),
            ..ConsumerConfig::default()
        };
        let has = ServerConfig { max_deliver: 5, ..wire("a.b") };
        assert_eq!(
            fields(&has, "a.b", &given),
            ["ack_wait", "max_ack_pending", "deliver_policy", "max_deliver"]
        );
        let in_order = ConsumerConfig { order: Some(Order::Stream), ..ConsumerConfig::default() };
        assert_eq!(fields(&wire("a.b"), "a.b", &in_order), ["max_ack_pending"]);
        let push =
            ServerConfig { deliver_subject: Some("x".into()), ack_policy: "none".into(), ..wire("a.b") };
        assert_eq!(fields(&push, "a.b", &plain), ["deliver_subject", "ack_policy"]);
    }

    #[test]
    fn the_error_names_each_field_and_both_values() {
        let given = ConsumerConfig {
            ack_wait: Some(Duration::from_secs(5)),
            max_ack_pending: Some(7),
            ..ConsumerConfig::default()
        };
        let text = conflict(&differences(&wire("a.b"), &stream(&["a.b"]), "a.b", &given)).to_string();
        for part in ["ack_wait is 30s and not 5s", "max_ack_pending is 1000 and not 7", "update"] {
            assert!(text.contains(part), "{part} in {text}");
        }
    }
}
