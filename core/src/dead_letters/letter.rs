//! A dead letter, and its headers: from a message to a dead letter, and back.

use crate::{
    host::schema::record,
    message::{Delivery, ID_HEADER, KEY_HEADER, Meta, SendOptions},
};
use async_nats::{HeaderMap, HeaderName, HeaderValue, Subject};
use bytes::Bytes;
use std::{
    str::FromStr,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

pub(crate) const REASON: &str = "Dlq-Reason";
pub(crate) const ATTEMPTS: &str = "Dlq-Attempts";
/// How often a handler failed on it, or died with it.
pub(crate) const FAILURES: &str = "Dlq-Failures";
pub(crate) const TOPIC: &str = "Dlq-Topic";
pub(crate) const GROUP: &str = "Dlq-Group";
pub(crate) const STREAM: &str = "Dlq-Stream";
pub(crate) const SEQUENCE: &str = "Dlq-Sequence";
pub(crate) const TIME: &str = "Dlq-Time";
/// The id of the original.
pub(crate) const ID: &str = "Dlq-Id";
/// The size of a body that was too large to be stored together with these headers.
pub(crate) const TRUNCATED: &str = "Dlq-Truncated";
const PREFIX: &str = "Dlq-";

/// Whether a header is ours or the server's. A dead letter does not copy such headers from the original.
pub(crate) fn is_ours(name: &str) -> bool {
    name.starts_with(PREFIX) || name.starts_with("Nats-") || name.eq_ignore_ascii_case(KEY_HEADER)
}

record! {
    /// A message that could not be handled, and why.
    pub struct DeadLetter {
        /// Its sequence in the dead-letter stream.
        position: u64,
        /// The topic it was sent to.
        topic: String,
        /// The stream it came from.
        stream: String,
        /// Its sequence in that stream.
        sequence: u64,
        /// The group that could not handle it.
        group: String,
        /// The error of the last attempt.
        reason: String,
        /// How often the server delivered it.
        attempts: u64,
        /// How often a handler failed on it, or died with it.
        failures: u64,
        /// When it became a dead letter.
        time: SystemTime,
        /// The key it was sent with.
        key: Option<String>,
        /// The id it was sent with.
        id: Option<String>,
        /// The headers it was sent with.
        headers: Vec<(String, String)>,
        /// The size of a body that was not stored with the letter. A replay takes the body from the stream.
        truncated: Option<u64>,
    }
    hidden {
        /// Its body. Empty when it was too large to be stored (see `truncated`).
        pub body: Bytes,
    }
}

impl DeadLetter {
    pub(super) fn read(position: u64, headers: Vec<(String, String)>, body: Bytes) -> Self {
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
            // Dead letters of an earlier version counted each delivery.
            failures: number(FAILURES).or(number(ATTEMPTS)).unwrap_or_default(),
            time: UNIX_EPOCH + Duration::from_millis(number(TIME).unwrap_or_default()),
            key: get(KEY_HEADER).map(str::to_owned),
            id: get(ID).map(str::to_owned),
            truncated: number(TRUNCATED),
            headers: headers.into_iter().filter(|(n, _)| !is_ours(n)).collect(),
            body,
        }
    }

    /// The replay as a message. The group reads it with [`restored`].
    pub(super) fn options(&self, id: String) -> SendOptions {
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

/// Turns a replay back into the original message: topic, id and sequence are the original's, the attempts its own.
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

/// Parses headers as the server stores them: a status line, then `Name: value` lines.
pub(crate) fn read_headers(raw: &[u8]) -> Vec<(String, String)> {
    let text = String::from_utf8_lossy(raw);
    let pair = |line: &str| {
        let (name, value) = line.split_once(':')?;
        Some((name.trim().to_owned(), value.trim().to_owned()))
    };
    text.split("\r\n").skip(1).filter_map(pair).collect()
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
    fn a_replay_becomes_the_original_message() {
        let letter = DeadLetter {
            position: 9,
            topic: "a.b".into(),
            stream: "S".into(),
            sequence: 7,
            group: "g".into(),
            reason: "boom".into(),
            attempts: 3,
            failures: 3,
            time: UNIX_EPOCH + Duration::from_millis(1),
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
            failures: 0,
        };
        let d = restored(d).unwrap();
        assert_eq!((d.topic.as_str(), d.key(), d.id()), ("a.b", Some("k"), Some("evt")));
        assert_eq!(d.header("tenant"), Some("t1"));
        assert_eq!(d.header(REASON), None);
        assert_eq!(d.meta.map(|m| (m.sequence, m.replay, m.attempt)), Some((7, Some(12), 1)));
    }
}
