//! Dead letters: listed, replayed to their one group, discarded.
//!
//! A stream's dead letters live in `<STREAM>_DLQ` under `dlq.<STREAM>.<group>`. A replay is a copy under
//! `dlq.<STREAM>.<group>.replay`, which the group's consumers read besides their topic; no other group sees it. The copy
//! is stored and confirmed before the letter is removed, so a crash in between loses nothing.

use crate::{
    bus::Shared,
    config::ProducerConfig,
    error::{Error, ErrorKind, Result},
    message::{Delivery, ID_HEADER, KEY_HEADER, Meta, SendOptions},
    producer::Producer,
    topic::{check_group, check_subscribe, covers, stream_name},
};
use async_nats::{HeaderMap, HeaderName, HeaderValue, Subject};
use base64::{Engine, engine::general_purpose::STANDARD};
use bytes::Bytes;
use serde::Deserialize;
use serde_json::json;
use std::{str::FromStr, sync::Arc};
use tokio::sync::OnceCell;

pub(crate) const REASON: &str = "Dlq-Reason";
pub(crate) const ATTEMPTS: &str = "Dlq-Attempts";
pub(crate) const TOPIC: &str = "Dlq-Topic";
pub(crate) const GROUP: &str = "Dlq-Group";
pub(crate) const STREAM: &str = "Dlq-Stream";
pub(crate) const SEQUENCE: &str = "Dlq-Sequence";
pub(crate) const TIME: &str = "Dlq-Time";
/// The id the original had.
pub(crate) const ID: &str = "Dlq-Id";
/// The bytes of a body that was too large to be kept with these headers.
pub(crate) const TRUNCATED: &str = "Dlq-Truncated";
const PREFIX: &str = "Dlq-";

/// The stream of a stream's dead letters.
pub(crate) fn letters_stream(stream: &str) -> String {
    format!("{stream}_DLQ")
}
/// Where a group's dead letters are stored.
pub(crate) fn letters_topic(stream: &str, group: &str) -> String {
    format!("dlq.{stream}.{group}")
}
/// Where a group's replays are stored.
pub(crate) fn replays_topic(stream: &str, group: &str) -> String {
    format!("dlq.{stream}.{group}.replay")
}
/// Whether a header is ours, or the server's: such headers are not the original's to keep.
pub(crate) fn is_ours(name: &str) -> bool {
    name.starts_with(PREFIX) || name.starts_with("Nats-") || name.eq_ignore_ascii_case(KEY_HEADER)
}

/// A message that could not be handled, and why.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DeadLetter {
    /// Its sequence among the dead letters: what it is replayed and discarded by.
    pub position: u64,
    /// The topic it was sent to.
    pub topic: String,
    /// The stream it is from, and its sequence there.
    pub stream: String,
    /// See `stream`.
    pub sequence: u64,
    /// The group that could not handle it.
    pub group: String,
    /// What the last attempt failed with.
    pub reason: String,
    /// Attempts made.
    pub attempts: u64,
    /// When it became a dead letter: Unix time in milliseconds.
    pub time_ms: i64,
    /// The key it was sent with.
    pub key: Option<String>,
    /// The id it was sent with.
    pub id: Option<String>,
    /// Its own headers.
    pub headers: Vec<(String, String)>,
    /// Its body; empty when it was too large to be kept with the reason (see `truncated`).
    pub body: Bytes,
    /// The size of a body that was not kept; the stream may still have it.
    pub truncated: Option<u64>,
}

impl DeadLetter {
    fn read(position: u64, headers: Vec<(String, String)>, body: Bytes) -> Self {
        let get = |name: &str| headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.as_str());
        let text = |name: &str| get(name).unwrap_or_default().to_owned();
        let number = |name: &str| get(name).and_then(|v| v.parse().ok());
        Self {
            position,
            topic: text(TOPIC),
            stream: text(STREAM),
            sequence: number(SEQUENCE).unwrap_or_default(),
            group: text(GROUP),
            reason: text(REASON),
            attempts: number(ATTEMPTS).unwrap_or_default(),
            time_ms: get(TIME).and_then(|v| v.parse().ok()).unwrap_or_default(),
            key: get(KEY_HEADER).map(str::to_owned),
            id: get(ID).map(str::to_owned),
            truncated: number(TRUNCATED),
            headers: headers.into_iter().filter(|(n, _)| !is_ours(n)).collect(),
            body,
        }
    }

    /// As a message to the group, which reads it back with [`restored`].
    fn options(&self, id: String) -> SendOptions {
        let mut headers = self.headers.clone();
        let mut put = |name: &str, value: String| headers.push((name.to_owned(), value));
        put(TOPIC, self.topic.clone());
        put(SEQUENCE, self.sequence.to_string());
        if let Some(id) = &self.id {
            put(ID, id.clone());
        }
        SendOptions { key: self.key.clone(), id: Some(id), headers, ..SendOptions::default() }
    }
}

/// A replay as the message it was: topic, id and sequence the original's, the attempts its own.
pub(crate) fn restored(mut d: Delivery) -> Option<Delivery> {
    let topic = d.header(TOPIC)?.to_owned();
    let sequence = d.header(SEQUENCE)?.parse().ok()?;
    let id = d.header(ID).map(HeaderValue::from);
    let mut headers = HeaderMap::new();
    for (name, values) in d.headers.iter().flat_map(|h| h.iter()) {
        let text: &str = name.as_ref();
        if !text.starts_with(PREFIX) && text != ID_HEADER {
            values.iter().for_each(|v| headers.append(name.clone(), v.clone()));
        }
    }
    if let (Some(id), Ok(name)) = (id, HeaderName::from_str(ID_HEADER)) {
        headers.insert(name, id);
    }
    let meta = d.meta?;
    d.meta = Some(Meta { sequence, replay: Some(meta.sequence), ..meta });
    d.topic = Subject::from(topic);
    d.headers = Some(headers).filter(|h| !h.is_empty());
    Some(d)
}

/// What is done with all letters.
#[derive(Clone, Copy)]
enum Act {
    Replay,
    Discard,
}

/// The dead letters of a topic and a group.
#[derive(Clone, Debug)]
pub struct DeadLetters {
    shared: Arc<Shared>,
    topic: String,
    group: String,
    stream: Arc<OnceCell<String>>,
    replays: Arc<OnceCell<Producer>>,
}

#[derive(Deserialize)]
struct Stored {
    message: StoredMessage,
}
#[derive(Deserialize)]
struct StoredMessage {
    seq: u64,
    #[serde(default)]
    hdrs: String,
    #[serde(default)]
    data: String,
}

impl DeadLetters {
    pub(crate) fn open(shared: &Arc<Shared>, topic: &str, group: &str) -> Result<Self> {
        check_subscribe(topic)?;
        check_group(group)?;
        if !shared.config.jetstream {
            return Err(Error::config("dead letters need JetStream: connect with jetstream on").topic(topic));
        }
        Ok(Self {
            shared: shared.clone(),
            topic: topic.to_owned(),
            group: group.to_owned(),
            stream: Arc::default(),
            replays: Arc::default(),
        })
    }

    /// The topic, with its wildcards.
    pub fn topic(&self) -> &str {
        &self.topic
    }
    /// The group.
    pub fn group(&self) -> &str {
        &self.group
    }

    fn named(&self, e: Error) -> Error {
        e.topic(&*self.topic).group(&*self.group)
    }

    async fn stream(&self) -> Result<&str> {
        let find = async {
            let found = self.shared.streams(Some(&self.topic)).await.map_err(|e| self.named(e))?;
            let covering = |s: &&crate::StreamInfo| s.subjects.iter().any(|have| covers(have, &self.topic));
            // The stream may be gone while its dead letters are not.
            Ok(found.iter().find(covering).map_or_else(|| stream_name(&self.topic), |s| s.name.clone()))
        };
        self.stream.get_or_try_init(|| find).await.map(String::as_str)
    }

    /// The last position there is now: where a listing ends that replays what it lists, for what fails again becomes
    /// another letter.
    pub async fn last(&self) -> Result<u64> {
        match self.shared.stream(&letters_stream(self.stream().await?)).await {
            Ok(info) => Ok(info.last_sequence),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(0),
            Err(e) => Err(self.named(e)),
        }
    }

    /// The first letter behind a position (0: the first of all); none when there is no more.
    ///
    /// # Errors
    /// `Timeout` or `Connection` when the server does not answer.
    pub async fn next_after(&self, position: u64) -> Result<Option<DeadLetter>> {
        let stream = self.stream().await?;
        let subject = letters_topic(stream, &self.group);
        let mut after = position;
        loop {
            let query = json!({"seq": after + 1, "next_by_subj": subject});
            let Some(m) = self.get(&letters_stream(stream), &query).await? else { return Ok(None) };
            after = m.seq;
            let letter = self.read(&m)?;
            if covers(&self.topic, &letter.topic) {
                return Ok(Some(letter));
            }
        }
    }

    async fn get(&self, stream: &str, query: &serde_json::Value) -> Result<Option<StoredMessage>> {
        match self.shared.api::<Stored>(&format!("STREAM.MSG.GET.{stream}"), query).await {
            Ok(found) => Ok(Some(found.message)),
            Err(e) if is_absent(&e) => Ok(None),
            Err(e) => Err(self.named(e).stream(stream)),
        }
    }

    fn read(&self, m: &StoredMessage) -> Result<DeadLetter> {
        let bytes = |text: &str| {
            STANDARD.decode(text).map_err(|e| {
                self.named(Error::new(ErrorKind::Decode, format!("the server's answer is not base64: {e}")))
            })
        };
        let headers = bytes(&m.hdrs)?;
        Ok(DeadLetter::read(m.seq, read_headers(&headers), bytes(&m.data)?.into()))
    }

    /// Sends a letter to its group again, and to no other, with a new count of attempts; then removes it.
    ///
    /// A consumer of the group receives it as the message it was; workers on other clients do not see it.
    ///
    /// # Errors
    /// `NotFound` when its body was too large to be kept and the stream has it no more.
    pub async fn replay(&self, letter: &DeadLetter) -> Result<()> {
        let stream = self.stream().await?;
        let mut whole = letter.clone();
        if letter.truncated.is_some() {
            let Some(m) = self.get(stream, &json!({"seq": letter.sequence})).await? else {
                let text =
                    "the letter's body was too large to be kept, and the stream has the message no more";
                return Err(self.named(Error::new(ErrorKind::NotFound, text)).stream(stream));
            };
            let original = self.read(&m)?;
            whole = DeadLetter { body: original.body, headers: original.headers, ..whole };
        }
        let open = async {
            let settings = ProducerConfig { declare: Some(false), ..ProducerConfig::default() };
            Producer::open(&self.shared, &replays_topic(stream, &self.group), settings)
        };
        let producer = self.replays.get_or_try_init(|| open).await?;
        let id = format!("replay.{stream}.{}.{}", self.group, letter.position);
        producer.send(&whole.body, whole.options(id)).await?;
        // Removed already by another replay: then that one's copy had the same id, and there is one.
        self.remove(letter.position).await.map(drop)
    }

    /// Removes a letter. False when it was removed already.
    pub async fn discard(&self, letter: &DeadLetter) -> Result<bool> {
        self.remove(letter.position).await
    }

    async fn remove(&self, position: u64) -> Result<bool> {
        let stream = letters_stream(self.stream().await?);
        let query = json!({"seq": position, "no_erase": true});
        match self.shared.api::<serde_json::Value>(&format!("STREAM.MSG.DELETE.{stream}"), &query).await {
            Ok(_) => Ok(true),
            Err(e) if is_absent(&e) => Ok(false),
            Err(e) => Err(self.named(e).stream(stream)),
        }
    }

    /// Replays all letters there are now; how many.
    ///
    /// # Errors
    /// The first that fails ends it; those before are replayed.
    pub async fn replay_all(&self) -> Result<u64> {
        self.each(Act::Replay).await
    }

    /// Removes all letters there are now; how many.
    ///
    /// # Errors
    /// The first that fails ends it; those before are removed.
    pub async fn discard_all(&self) -> Result<u64> {
        self.each(Act::Discard).await
    }

    /// What becomes a dead letter meanwhile is left for the next time: a replay that fails would never end.
    async fn each(&self, act: Act) -> Result<u64> {
        let last = self.last().await?;
        let (mut at, mut done) = (0, 0);
        while let Some(letter) = self.next_after(at).await?
            && letter.position <= last
        {
            at = letter.position;
            done += match act {
                Act::Replay => self.replay(&letter).await.map(|()| 1)?,
                Act::Discard => u64::from(self.discard(&letter).await?),
            };
        }
        Ok(done)
    }
}

/// Whether an error says that there is no such message, or no dead letter at all yet.
fn is_absent(e: &Error) -> bool {
    let text = e.server_text().unwrap_or_default();
    ["no message found", "stream not found", "message not found"].iter().any(|t| text.contains(t))
        || (text.contains("sequence") && text.contains("not found"))
}

/// Headers as the server stores them: a status line, then `Name: value` lines.
pub(crate) fn read_headers(raw: &[u8]) -> Vec<(String, String)> {
    let text = String::from_utf8_lossy(raw);
    let pair = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.trim().to_owned(), value.trim().to_owned()))
    };
    text.split("\r\n").skip(1).filter_map(pair).collect()
}

impl Shared {
    /// Declares the stream of dead letters of a stream: by limits, kept for 30 days.
    pub(crate) async fn declare_dead_letters(&self, stream: &str) -> Result<()> {
        let (name, subject) = (letters_stream(stream), format!("dlq.{stream}.>"));
        let config = json!({
            "name": name, "subjects": [subject], "storage": "file", "retention": "limits", "discard": "old",
            "max_age": 30 * 24 * 3600 * 1_000_000_000_u64, "num_replicas": self.config.replicas,
        });
        self.declare_stream_as(&name, &[subject], &config).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_stored_headers(raw in proptest::collection::vec(any::<u8>(), 0..200)) {
            let _ = DeadLetter::read(1, read_headers(&raw), Bytes::new());
        }
    }

    #[test]
    fn stored_headers() {
        let raw = b"NATS/1.0\r\nDlq-Topic: a.b\r\nDlq-Sequence:7\r\ntenant: t1:x\r\nbroken\r\n\r\n";
        let letter = DeadLetter::read(3, read_headers(raw), Bytes::new());
        assert_eq!((letter.topic.as_str(), letter.sequence, letter.position), ("a.b", 7, 3));
        assert_eq!(letter.headers, [("tenant".to_owned(), "t1:x".to_owned())]);
        assert!(read_headers(b"").is_empty() && read_headers(&[0xff, 0xfe]).is_empty());
    }

    #[test]
    fn a_replay_is_the_message_it_was() {
        let letter = DeadLetter {
            position: 9,
            topic: "a.b".into(),
            stream: "S".into(),
            sequence: 7,
            group: "g".into(),
            reason: "boom".into(),
            attempts: 3,
            time_ms: 1,
            key: Some("k".into()),
            id: Some("evt".into()),
            headers: vec![("tenant".into(), "t1".into())],
            body: Bytes::new(),
            truncated: None,
        };
        let options = letter.options("replay-id".into());
        let mut headers = HeaderMap::new();
        for (name, value) in &options.headers {
            headers.append(name.as_str(), value.as_str());
        }
        headers.append(ID_HEADER, "replay-id");
        headers.append(KEY_HEADER, "k");
        let meta = Meta { sequence: 12, attempt: 1, timestamp_ns: 0, pending: 0, replay: None };
        let d = Delivery {
            token: 0,
            topic: Subject::from_static("dlq.S.g.replay"),
            body: Bytes::new(),
            headers: Some(headers),
            reply: None,
            meta: Some(meta),
        };
        let d = restored(d).unwrap();
        assert_eq!((d.topic.as_str(), d.key(), d.id()), ("a.b", Some("k"), Some("evt")));
        assert_eq!(d.header("tenant"), Some("t1"));
        assert_eq!(d.header(REASON), None);
        assert_eq!(d.meta.map(|m| (m.sequence, m.replay, m.attempt)), Some((7, Some(12), 1)));
    }
}
