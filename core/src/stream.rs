//! Streams: found by subject first, declared as the platform declares them, never altered.
//!
//! Owns the `JetStream` API calls and what their errors mean. Never publishes messages.

use crate::{
    bus::Shared,
    error::{Error, ErrorKind, Result},
    pipeline::ApiError,
    topic::{covers, stream_name},
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::{Value, json};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

/// A stream as the server describes it.
#[derive(Clone, Debug, Default, PartialEq, serde::Serialize)]
pub struct StreamInfo {
    /// Its name.
    pub name: String,
    /// The subjects it stores.
    pub subjects: Vec<String>,
    /// Messages stored now.
    pub messages: u64,
    /// Bytes stored now.
    pub bytes: u64,
    /// Sequence of the oldest message.
    pub first_sequence: u64,
    /// Sequence of the newest message.
    pub last_sequence: u64,
    /// Consumers it has.
    pub consumers: u64,
    /// Replicas it is stored on.
    pub replicas: u64,
    /// How long ids are remembered, in seconds.
    pub duplicate_window: f64,
}

#[derive(Deserialize)]
struct WireStream {
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
#[derive(Deserialize)]
struct WireStreams {
    streams: Option<Vec<WireStream>>,
    #[serde(default)]
    total: usize,
}

impl From<WireStream> for StreamInfo {
    fn from(w: WireStream) -> Self {
        Self {
            name: w.config.name,
            subjects: w.config.subjects,
            messages: w.state.messages,
            bytes: w.state.bytes,
            first_sequence: w.state.first_seq,
            last_sequence: w.state.last_seq,
            consumers: w.state.consumer_count,
            replicas: w.config.num_replicas,
            duplicate_window: Duration::from_nanos(w.config.duplicate_window).as_secs_f64(),
        }
    }
}

/// The platform's settings of a stream.
fn platform_stream(name: &str, subjects: &[String], replicas: usize) -> Value {
    json!({
        "name": name, "subjects": subjects, "storage": "file", "retention": "limits", "discard": "old",
        "max_age": 24 * 3600 * 1_000_000_000_u64, "max_msgs": 1_000_000, "max_bytes": 1 << 30,
        "max_consumers": -1, "max_msg_size": -1, "num_replicas": replicas,
    })
}

/// A failed `JetStream` API call as one of our kinds.
fn api_error(e: &ApiError) -> Error {
    let (kind, text) = match (e.err_code, e.code) {
        (10039 | 10076, _) => (
            ErrorKind::NotFound,
            "JetStream is not enabled for this account: enable it, or set jetstream to false",
        ),
        (10058 | 10065 | 10148, _) => (ErrorKind::Conflict, "another stream or consumer stands in the way"),
        (_, 404) => (ErrorKind::NotFound, "the stream or consumer does not exist"),
        (_, 503) => (ErrorKind::Connection, "JetStream cannot answer now"),
        _ => (ErrorKind::Config, "the server refused the stream or consumer"),
    };
    Error::new(kind, text).server(&*e.description)
}

/// The server has no `JetStream` at all.
pub(crate) fn without_jetstream() -> Error {
    let text = "JetStream is not enabled on this server: start it with -js, or set jetstream to false";
    Error::new(ErrorKind::NotFound, text)
}

impl Shared {
    /// One `JetStream` API call; tries again while the cluster has no leader, until `api_timeout`.
    pub(crate) async fn api<T: DeserializeOwned>(&self, call: &str, body: &Value) -> Result<T> {
        let until = Instant::now() + self.config.api_timeout;
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        loop {
            let left = until.saturating_duration_since(Instant::now());
            let error = match self
                .pipeline
                .request(format!("$JS.API.{call}"), &body, left.max(Duration::from_millis(1)))
                .await
            {
                Ok(reply) => {
                    let value: Value = serde_json::from_slice(&reply.body).map_err(|e| {
                        Error::new(ErrorKind::Decode, format!("the answer to {call} is not JSON: {e}"))
                    })?;
                    match value.get("error").map(ApiError::deserialize) {
                        Some(Ok(e)) if e.code == 503 && !matches!(e.err_code, 10039 | 10076) => api_error(&e),
                        Some(Ok(e)) => return Err(api_error(&e)),
                        Some(Err(e)) => {
                            return Err(Error::new(ErrorKind::Decode, format!("the answer to {call}: {e}")));
                        }
                        None => {
                            return serde_json::from_value(value).map_err(|e| {
                                Error::new(ErrorKind::Decode, format!("the answer to {call}: {e}"))
                            });
                        }
                    }
                }
                Err(e) if e.kind() == ErrorKind::NoResponders => {
                    if !self.client.server_info().jetstream {
                        return Err(without_jetstream());
                    }
                    Error::new(ErrorKind::Connection, "JetStream has no leader now")
                }
                Err(e) if e.kind() == ErrorKind::Timeout => {
                    return Err(Error::new(
                        ErrorKind::Timeout,
                        format!("JetStream did not answer {call} in time"),
                    ));
                }
                Err(e) => return Err(e),
            };
            if Instant::now() + Duration::from_millis(100) > until {
                return Err(error);
            }
            tokio::time::sleep(Duration::from_millis(100)).await;
        }
    }

    /// Stores a message of our own, and waits for the server's ack.
    pub(crate) async fn store(&self, topic: String, body: &[u8]) -> Result<()> {
        let named = |e: Error| e.topic(&*topic);
        let reply =
            self.pipeline.request(topic.clone(), body, self.config.api_timeout).await.map_err(named)?;
        let answer: Value = serde_json::from_slice(&reply.body)
            .map_err(|e| named(Error::new(ErrorKind::Decode, format!("the ack is not JSON: {e}"))))?;
        match answer.get("error").map(ApiError::deserialize) {
            Some(Ok(e)) => Err(named(api_error(&e))),
            Some(Err(e)) => Err(named(Error::new(ErrorKind::Decode, format!("the ack: {e}")))),
            None => Ok(()),
        }
    }

    /// All streams, or those whose subjects meet a topic.
    pub(crate) async fn streams(&self, topic: Option<&str>) -> Result<Vec<StreamInfo>> {
        let mut found: Vec<StreamInfo> = Vec::new();
        loop {
            let mut query = json!({"offset": found.len()});
            if let Some(topic) = topic {
                query["subject"] = topic.into();
            }
            let page: WireStreams = self.api("STREAM.LIST", &query).await?;
            let page_len = page.streams.as_ref().map_or(0, Vec::len);
            found.extend(page.streams.into_iter().flatten().map(StreamInfo::from));
            if page_len == 0 || found.len() >= page.total {
                return Ok(found);
            }
        }
    }

    pub(crate) async fn stream(&self, name: &str) -> Result<StreamInfo> {
        check_name(name)?;
        let found: WireStream =
            self.api(&format!("STREAM.INFO.{name}"), &Value::Null).await.map_err(|e| e.stream(name))?;
        Ok(found.into())
    }

    /// Declares a stream with the platform's settings; one that is there with the same subjects is left as it is.
    pub(crate) async fn declare_stream(&self, name: &str, subjects: &[String]) -> Result<StreamInfo> {
        let config = platform_stream(name, subjects, self.config.replicas);
        self.declare_stream_as(name, subjects, &config).await
    }

    /// The same with settings of its own.
    pub(crate) async fn declare_stream_as(
        &self,
        name: &str,
        subjects: &[String],
        config: &Value,
    ) -> Result<StreamInfo> {
        check_name(name)?;
        subjects.iter().try_for_each(|s| crate::topic::check_subscribe(s))?;
        if let Some(found) = self.existing(name).await? {
            if subjects.iter().all(|s| found.subjects.iter().any(|have| covers(have, s))) {
                return Ok(found);
            }
            return Err(Error::new(
                ErrorKind::Conflict,
                format!("the stream stores {:?} and not {subjects:?}: topics that differ only in '.' and '_' get the same stream name; declare one under another name", found.subjects),
            )
            .stream(name));
        }
        match self.api::<WireStream>(&format!("STREAM.CREATE.{name}"), config).await {
            Ok(made) => Ok(made.into()),
            // Another service declared it in the same moment.
            Err(e) if e.kind() == ErrorKind::Conflict => match self.existing(name).await? {
                Some(found) if subjects.iter().all(|s| found.subjects.iter().any(|have| covers(have, s))) => {
                    Ok(found)
                }
                _ => Err(e.stream(name)),
            },
            Err(e) => Err(e.stream(name)),
        }
    }

    async fn existing(&self, name: &str) -> Result<Option<StreamInfo>> {
        match self.stream(name).await {
            Ok(found) => Ok(Some(found)),
            Err(e)
                if e.kind() == ErrorKind::NotFound
                    && e.stream_name().is_some()
                    && !e.message().contains("enable") =>
            {
                Ok(None)
            }
            Err(e) => Err(e),
        }
    }

    /// The stream that stores a topic: found by subject, else declared if that is allowed.
    pub(crate) async fn stream_for(&self, topic: &str, declare: bool) -> Result<StreamInfo> {
        let found = self.streams(Some(topic)).await.map_err(|e| e.topic(topic))?;
        let covering = |s: &&StreamInfo| s.subjects.iter().any(|have| covers(have, topic));
        if let Some(stream) = found.iter().find(covering) {
            return Ok(stream.clone());
        }
        if let Some(part) = found.first() {
            // A durable reads one stream, and the server refuses a stream that overlaps another.
            let text = format!(
                "streams store only parts of this topic ({:?} stores {:?}): declare one stream over all of it, before the first send",
                part.name, part.subjects
            );
            return Err(Error::new(ErrorKind::Conflict, text).topic(topic).stream(&*part.name));
        }
        if !declare {
            let text = "no stream stores this topic, and declare is off: declare one";
            return Err(Error::new(ErrorKind::NotFound, text).topic(topic));
        }
        let name = stream_name(topic).replace('*', "ANY").replace('>', "ALL");
        self.declare_stream(&name, &[topic.to_owned()]).await.map_err(|e| e.topic(topic))
    }
}

fn check_name(name: &str) -> Result<()> {
    let bad = name.is_empty()
        || name
            .chars()
            .any(|c| matches!(c, '.' | '*' | '>' | '/' | '\\') || c.is_whitespace() || c.is_control());
    if bad {
        return Err(Error::config(format!(
            "{name:?} is not a stream name: no '.', '*', '>', '/', '\\' or white space"
        )));
    }
    Ok(())
}

/// A stream by name.
#[derive(Clone, Debug)]
pub struct Stream {
    pub(crate) shared: Arc<Shared>,
    pub(crate) name: String,
}

impl Stream {
    /// Asks the server about the stream.
    ///
    /// # Errors
    /// `NotFound` when there is none of that name.
    pub async fn info(&self) -> Result<StreamInfo> {
        self.shared.stream(&self.name).await
    }
    /// The stream's name.
    pub fn name(&self) -> &str {
        &self.name
    }
}
