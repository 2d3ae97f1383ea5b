//! What an answer to a publish means. Pure: bytes in, decision out.

use crate::{
    error::{Error, ErrorKind},
    jetstream::codes,
};
use serde::Deserialize;
use std::borrow::Cow;

/// What to do about a send after an answer.
#[derive(Debug)]
pub(crate) enum Answer<'a> {
    /// The message is stored.
    Stored { stream: Cow<'a, str>, sequence: u64, duplicate: bool },
    /// This attempt stored nothing. Another attempt with the same id may.
    Retry(Error),
    /// The message is not stored and never will be.
    Rejected(Error),
    /// Another service answered, so the message may be stored or not.
    Foreign(Error),
}

#[derive(Deserialize)]
struct AckJson<'a> {
    #[serde(borrow, default)]
    stream: Cow<'a, str>,
    #[serde(default)]
    seq: u64,
    #[serde(default)]
    duplicate: bool,
    error: Option<ApiError>,
}

/// An error of the JetStream API.
#[derive(Debug, Deserialize)]
pub(crate) struct ApiError {
    #[serde(default)]
    pub(crate) code: u64,
    #[serde(default)]
    pub(crate) err_code: u64,
    #[serde(default)]
    pub(crate) description: String,
}

/// The sequence in an ack of this stream, when the ack has the form that servers nearly always write. [`classify`] reads
/// the other forms.
pub(super) fn plain_ack(stream: &str, payload: &[u8]) -> Option<u64> {
    let rest = payload.strip_prefix(b"{\"stream\":\"")?.strip_prefix(stream.as_bytes())?;
    let digits = rest.strip_prefix(b"\",\"seq\":").or_else(|| rest.strip_prefix(b"\", \"seq\":"))?;
    let digits = digits.strip_suffix(b"}")?;
    // No sign and no leading zero: the first sequence is 1.
    if !matches!(digits.first(), Some(b'1'..=b'9')) {
        return None;
    }
    std::str::from_utf8(digits).ok()?.parse().ok()
}

/// Reads the answer to a JetStream publish. The `status` is 503 when no stream stores the topic.
pub(crate) fn classify(status: Option<u16>, payload: &[u8]) -> Answer<'_> {
    if status == Some(503) {
        // During an election, or when the stream is gone: the caller's deadline decides.
        return Answer::Retry(Error::new(
            ErrorKind::PublishRejected,
            "no stream took the message: the stream is gone, or its cluster has no leader",
        ));
    }
    match serde_json::from_slice::<AckJson<'_>>(payload) {
        // Older servers in a cluster answer this when the message of the id is not stored yet, and may never be.
        Ok(AckJson { error: None, seq: 0, stream, .. }) if !stream.is_empty() => Answer::Retry(Error::new(
            ErrorKind::PublishRejected,
            "an earlier attempt with this id is not stored yet",
        )),
        Ok(AckJson { error: None, stream, seq, duplicate }) if !stream.is_empty() => {
            Answer::Stored { stream, sequence: seq, duplicate }
        }
        Ok(AckJson { error: Some(e), .. }) => refused(&e),
        _ => Answer::Foreign(Error::new(
            ErrorKind::PublishRejected,
            "an answer was not a JetStream ack: another service answers on this topic",
        )),
    }
}

/// Which limit is reached of a stream that discards new messages. The server has one code (10077) for every failure to
/// store, so only the text tells them apart. These three are final; all others may pass.
fn full(description: &str) -> Option<&'static str> {
    match description {
        "maximum messages exceeded" => {
            Some("the stream is full and discards new messages: it has max_msgs messages")
        }
        "maximum bytes exceeded" => {
            Some("the stream is full and discards new messages: it has max_bytes bytes")
        }
        "maximum messages per subject exceeded" => Some(
            "the stream is full for this topic and discards new messages: it has max_msgs_per_subject of them",
        ),
        _ => None,
    }
}

fn refused(e: &ApiError) -> Answer<'static> {
    let rejected = |kind, text: &str| {
        Answer::Rejected(Error::new(kind, text).server(&*e.description).err_code_of(e.err_code))
    };
    match (e.err_code, e.code) {
        (codes::WRONG_LAST_SEQUENCE | codes::WRONG_LAST_SEQUENCE_CONSTANT, _) => {
            rejected(ErrorKind::WrongSequence, "the expected last sequence does not match")
        }
        (codes::MESSAGE_TOO_LARGE, _) => {
            rejected(ErrorKind::TooLarge, "the message is over the stream's size limit")
        }
        (codes::STORE_FAILED, _) if full(&e.description).is_some() => {
            rejected(ErrorKind::StreamFull, full(&e.description).unwrap_or_default())
        }
        (codes::TTL_DISABLED, _) => rejected(
            ErrorKind::NotSupported,
            "the stream takes no ttl: set allow_msg_ttl on it, or leave ttl out",
        ),
        (codes::SOURCE_HEADER_RESERVED, _) => rejected(
            ErrorKind::InvalidHeader,
            "Nats-Stream-Source is the server's own header: leave it out of what is forwarded",
        ),
        // The server still stores the same id, or cannot take the message for a moment.
        (codes::DUPLICATE_IN_PROCESS, _) | (_, 503 | 429) => Answer::Retry(
            Error::new(ErrorKind::PublishRejected, "the server could not take the message yet")
                .server(&*e.description)
                .err_code_of(e.err_code),
        ),
        _ => rejected(ErrorKind::PublishRejected, "the server refused the message"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// A broken answer neither panics nor counts as an ack.
        #[test]
        fn any_answer(status in proptest::option::of(0u16..700), bytes in proptest::collection::vec(any::<u8>(), 0..200)) {
            if let Answer::Stored { stream, sequence, .. } = classify(status, &bytes) {
                let value: serde_json::Value = serde_json::from_slice(&bytes).unwrap();
                prop_assert!(!stream.is_empty() && sequence > 0 && value["error"].is_null() && status != Some(503));
            }
        }

        /// `plain_ack` says the same as `classify`, or nothing.
        #[test]
        fn plain_acks_agree_with_classify(stream in "[a-zA-Z0-9_-]{1,8}", other in "[a-zA-Z0-9_-]{1,8}", digits in "[0-9+ -]{0,22}", end in "[}, ]{0,3}", space: bool) {
            let gap = if space { " " } else { "" };
            let ack = format!("{{\"stream\":\"{stream}\",{gap}\"seq\":{digits}{end}");
            for stream in [&stream, &other] {
                if let Some(n) = plain_ack(stream, ack.as_bytes()) {
                    let same = matches!(
                        classify(None, ack.as_bytes()),
                        Answer::Stored { stream: s, sequence, duplicate: false } if s == *stream && sequence == n
                    );
                    prop_assert!(same, "{}", ack);
                }
            }
        }

        /// Every ack is read with its fields, and no error counts as an ack.
        #[test]
        fn well_formed_answers(stream in "[a-zA-Z0-9_-]{1,40}", sequence in 1u64.., duplicate: bool, code in 400u64..600, err_code: u32) {
            let ack = serde_json::json!({"stream": stream, "seq": sequence, "duplicate": duplicate, "domain": "x"});
            match classify(None, ack.to_string().as_bytes()) {
                Answer::Stored { stream: s, sequence: n, duplicate: d } => {
                    prop_assert_eq!((&*s, n, d), (stream.as_str(), sequence, duplicate));
                }
                other => prop_assert!(false, "{:?}", other),
            }
            let mut refused = ack;
            refused["error"] = serde_json::json!({"code": code, "err_code": err_code, "description": "no"});
            let is_ack = matches!(classify(None, refused.to_string().as_bytes()), Answer::Stored { .. });
            prop_assert!(!is_ack);
        }
    }

    #[test]
    fn plain_acks() {
        assert_eq!(plain_ack("S", br#"{"stream":"S","seq":7}"#), Some(7));
        assert_eq!(plain_ack("S", br#"{"stream":"S", "seq":18446744073709551615}"#), Some(u64::MAX));
        for other in [
            r#"{"stream":"S","seq":0}"#,
            r#"{"stream":"S","seq":7,"duplicate":true}"#,
            r#"{"stream":"S","seq":18446744073709551616}"#,
            r#"{"stream":"ST","seq":7}"#,
            r#"{"error":{"code":400},"stream":"S","seq":7}"#,
        ] {
            assert_eq!(plain_ack("S", other.as_bytes()), None, "{other}");
        }
    }

    #[test]
    fn answers() {
        let stored = br#"{"stream":"S","seq":7,"duplicate":true}"#;
        assert!(matches!(classify(None, stored), Answer::Stored { sequence: 7, duplicate: true, .. }));
        assert!(matches!(classify(Some(503), b""), Answer::Retry(_)));
        // The server knows the id, and a majority does not have the message yet: no ack.
        let early = br#"{"stream":"S","seq":0,"duplicate":true}"#;
        assert!(matches!(classify(None, early), Answer::Retry(_)));
        for (body, kind) in [
            (
                r#"{"error":{"code":400,"err_code":10071,"description":"wrong last sequence: 3"}}"#,
                ErrorKind::WrongSequence,
            ),
            (
                r#"{"error":{"code":400,"err_code":10054,"description":"message size exceeds"}}"#,
                ErrorKind::TooLarge,
            ),
            (
                r#"{"error":{"code":503,"err_code":10077,"description":"maximum messages exceeded"}}"#,
                ErrorKind::StreamFull,
            ),
            (
                r#"{"error":{"code":503,"err_code":10077,"description":"maximum messages per subject exceeded"}}"#,
                ErrorKind::StreamFull,
            ),
            (
                r#"{"error":{"code":400,"err_code":10164,"description":"wrong last sequence"}}"#,
                ErrorKind::WrongSequence,
            ),
            (r#"{"error":{"code":400,"err_code":10166,"description":"ttl"}}"#, ErrorKind::NotSupported),
            (r#"{"error":{"code":400,"err_code":10060,"description":"x"}}"#, ErrorKind::PublishRejected),
        ] {
            match classify(None, body.as_bytes()) {
                Answer::Rejected(e) => assert_eq!(e.kind(), kind, "{body}"),
                other => panic!("{body}: {other:?}"),
            }
        }
        for foreign in ["hello", "{}", ""] {
            assert!(matches!(classify(None, foreign.as_bytes()), Answer::Foreign(_)));
        }
        for (code, err_code) in [(503, 10_158), (503, 10_008), (503, 10_077), (429, 10_167)] {
            let body = format!(r#"{{"error":{{"code":{code},"err_code":{err_code},"description":"x"}}}}"#);
            assert!(matches!(classify(None, body.as_bytes()), Answer::Retry(_)));
        }
    }
}
