//! Streams: found by subject, else declared as the platform declares them. An existing stream is never changed.
//!
//! Owns finding and declaring. It never publishes messages.

mod consumers;
mod handle;
mod info;
mod room;

pub use consumers::ConsumerInfo;
pub use handle::Stream;
pub use info::StreamInfo;

use crate::{
    bus::shared::Shared,
    config::ConsumerConfig,
    error::{Error, ErrorKind, Result},
    jetstream::{codes, names},
    observe::{Level, Notice, NoticeKind},
    topic::{check_name, covers, overlap},
};
use serde::Deserialize;
use serde_json::{Value, json};

/// The platform's settings for a stream.
fn platform_stream(name: &str, subjects: &[String], replicas: usize) -> Value {
    json!({
        "name": name, "subjects": subjects, "storage": "file", "retention": "limits", "discard": "old",
        "max_age": 24 * 3600 * 1_000_000_000_u64, "max_msgs": 1_000_000, "max_bytes": 1 << 30,
        "max_consumers": -1, "max_msg_size": -1, "num_replicas": replicas,
    })
}

#[derive(Deserialize)]
struct WireStreams {
    streams: Option<Vec<info::Wire>>,
    #[serde(default)]
    total: usize,
    /// The streams whose leader did not answer.
    #[serde(default)]
    missing: Option<Vec<String>>,
}

impl Shared {
    /// All streams, or those whose subjects overlap a topic.
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
            if let (Some(_), Some(name)) = (topic, page.missing.iter().flatten().next()) {
                let text = "a stream of this topic has no leader now";
                return Err(Error::new(ErrorKind::Connection, text).stream(name.as_str()));
            }
            if page_len == 0 || found.len() >= page.total {
                return Ok(found);
            }
        }
    }

    pub(crate) async fn stream(&self, name: &str) -> Result<StreamInfo> {
        check_name("stream", name)?;
        let found: info::Wire =
            self.api(&format!("STREAM.INFO.{name}"), &Value::Null).await.map_err(|e| e.stream(name))?;
        Ok(found.into())
    }

    /// Declares a stream with the platform's settings. An existing stream over the same subjects stays as it is.
    pub(crate) async fn declare_stream(&self, name: &str, subjects: &[String]) -> Result<StreamInfo> {
        let config = platform_stream(name, subjects, self.config.replicas);
        self.declare_stream_as(name, subjects, &config).await
    }

    /// Declares a stream with other settings.
    pub(crate) async fn declare_stream_as(
        &self,
        name: &str,
        subjects: &[String],
        config: &Value,
    ) -> Result<StreamInfo> {
        check_name("stream", name)?;
        subjects.iter().try_for_each(|s| crate::topic::check_subscribe(s))?;
        let stores =
            |found: &StreamInfo| subjects.iter().all(|s| found.subjects.iter().any(|have| covers(have, s)));
        if let Some(found) = self.existing(name).await? {
            if stores(&found) {
                return Ok(found);
            }
            return Err(Error::new(
                ErrorKind::Conflict,
                format!("the stream stores {:?} and not {subjects:?}: topics that differ only in '.' and '_' get the same stream name; declare one under another name", found.subjects),
            )
            .stream(name));
        }
        match self.api::<info::Wire>(&format!("STREAM.CREATE.{name}"), config).await {
            Ok(made) => {
                let text = format!("declared over {}", subjects.join(", "));
                let notice = Notice::new(Level::Info, NoticeKind::StreamDeclared, text);
                self.link.notice(&notice.stream(Some(name)));
                Ok(made.into())
            }
            // Another service declared it at the same moment.
            Err(e) if e.kind() == ErrorKind::Conflict => match self.existing(name).await? {
                Some(found) if stores(&found) => Ok(found),
                _ => Err(e.stream(name)),
            },
            Err(e) => Err(self.explain_refusal(e, config).await.stream(name)),
        }
    }

    async fn existing(&self, name: &str) -> Result<Option<StreamInfo>> {
        match self.stream(name).await {
            Ok(found) => Ok(Some(found)),
            Err(e) if e.err_code() == Some(codes::STREAM_NOT_FOUND) => Ok(None),
            Err(e) => Err(e),
        }
    }

    /// The stream that stores a topic: found by subject, else declared if `declare` allows it.
    pub(crate) async fn stream_for(&self, topic: &str, declare: bool) -> Result<StreamInfo> {
        let found = self.streams(Some(topic)).await.map_err(|e| e.topic(topic))?;
        let covering = |s: &&StreamInfo| s.subjects.iter().any(|have| covers(have, topic));
        if let Some(stream) = found.iter().find(covering) {
            self.warn_of_few_replicas(stream);
            return Ok(stream.clone());
        }
        if let Some(first) = found.first() {
            return Err(parts_of(&found).topic(topic).stream(&*first.name));
        }
        if !declare {
            let text = "no stream stores this topic, and declare is off: declare one";
            return Err(Error::new(ErrorKind::NotFound, text).topic(topic));
        }
        self.warn_of_feeds(topic).await;
        let (name, subject) = names::stream_to_declare(topic, self.config.stream_layout);
        self.declare_stream(&name, &[subject]).await.map_err(|e| e.topic(topic))
    }

    /// The stream that a consumer reads: the one its settings name, else the one that stores the topic.
    pub(crate) async fn stream_to_read(&self, topic: &str, config: &ConsumerConfig) -> Result<StreamInfo> {
        let Some(name) = &config.stream else {
            // An existing durable has an existing stream.
            let declare = config.declare.unwrap_or(self.config.declare) && config.durable.is_none();
            return self.stream_for(topic, declare).await;
        };
        let found = self.stream(name).await.map_err(|e| e.topic(topic))?;
        let overlaps = found.details.takes_from_others || found.subjects.iter().any(|s| overlap(s, topic));
        if !overlaps && config.durable.is_none() {
            let text = format!(
                "the stream stores {:?} and nothing of this topic: name a topic as this stream stores it, or leave stream out",
                found.subjects
            );
            return Err(Error::config(text).topic(topic).stream(&**name));
        }
        Ok(found)
    }

    fn warn_of_few_replicas(&self, stream: &StreamInfo) {
        let (has, asked) = (stream.replicas, self.config.replicas);
        if usize::try_from(has).is_ok_and(|has| has < asked) {
            self.warn(format!(
                "the stream {:?} has {has} replicas, and {asked} are asked for (replicas, NATS_STREAM_REPLICAS): a stream is never altered here, so update it yourself",
                stream.name
            ));
        }
    }

    /// Warns when another stream already gets the topic from a source or a transform: the declared stream would be empty,
    /// and the other one full.
    async fn warn_of_feeds(&self, topic: &str) {
        let Ok(all) = self.streams(None).await else { return };
        let feeds = |s: &&StreamInfo| s.details.fed.iter().any(|fed| overlap(fed, topic));
        if let Some(s) = all.iter().find(feeds) {
            self.warn(format!(
                "a stream is declared for topic {topic:?}, and the stream {:?} already gets messages of that topic from another stream or by a transform: to read those, name it (stream={:?})",
                s.name, s.name
            ));
        }
    }
}

/// The error when several streams store parts of a topic. A durable reads one stream, and the server refuses a stream that
/// overlaps another.
fn parts_of(found: &[StreamInfo]) -> Error {
    const NAMED: usize = 5;
    let name = |s: &StreamInfo| format!("{} stores {}", s.name, s.subjects.join(", "));
    let mut parts: Vec<_> = found.iter().take(NAMED).map(name).collect();
    if found.len() > NAMED {
        parts.push(format!("and {} more", found.len() - NAMED));
    }
    let text = format!(
        "{} streams store only parts of this topic ({}): open one consumer for each, by its name (stream), or have one stream over all of it from the beginning (stream_layout \"family\", declare_stream)",
        found.len(),
        parts.join("; ")
    );
    Error::new(ErrorKind::Conflict, text)
}
