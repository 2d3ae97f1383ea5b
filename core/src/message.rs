//! Messages: send options, headers, acks, deliveries, and the metadata in the ack subject.

use crate::error::{Error, ErrorKind, Result};
use async_nats::{HeaderMap, HeaderName, HeaderValue, Subject};
use bytes::Bytes;
use std::{str::FromStr, sync::Arc, time::Duration};

/// The header that carries a message's key.
pub const KEY_HEADER: &str = "Sharding-Key";
/// The header that carries a message's id.
pub const ID_HEADER: &str = "Nats-Msg-Id";
/// The header with a message's time to live.
const TTL_HEADER: &str = "Nats-TTL";
const LAST_SEQUENCE_HEADER: &str = "Nats-Expected-Last-Sequence";
const LAST_SUBJECT_SEQUENCE_HEADER: &str = "Nats-Expected-Last-Subject-Sequence";

/// The server's confirmation that a message is stored.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PubAck {
    /// The stream it is stored in.
    pub stream: Arc<str>,
    /// Its sequence there.
    pub sequence: u64,
    /// Whether it was already stored under the same id.
    pub duplicate: bool,
}

/// The options of a send.
#[derive(Clone, Debug, Default)]
pub struct SendOptions {
    /// The key. Messages with the same key are stored in the order sent.
    pub key: Option<String>,
    /// The id for deduplication. Generated when absent.
    pub id: Option<String>,
    /// Further headers.
    pub headers: Vec<(String, String)>,
    /// How long the stream keeps the message. Needs server 2.11 and a stream that allows it.
    pub ttl: Option<Duration>,
    /// The stream's last sequence must be this one, else the send fails with `WrongSequence`. 0: the stream is empty.
    pub expected_last_sequence: Option<u64>,
    /// The same for the last message of the topic.
    pub expected_last_subject_sequence: Option<u64>,
}

impl SendOptions {
    fn is_plain(&self) -> bool {
        let expected = self.expected_last_sequence.or(self.expected_last_subject_sequence);
        self.headers.is_empty()
            && self.key.is_none()
            && self.id.is_none()
            && self.ttl.is_none()
            && expected.is_none()
    }

    /// The first given option that needs JetStream.
    pub(crate) fn needs_jetstream(&self) -> Option<&'static str> {
        [
            ("id", self.id.is_some()),
            ("ttl", self.ttl.is_some()),
            ("expected_last_sequence", self.expected_last_sequence.is_some()),
            ("expected_last_subject_sequence", self.expected_last_subject_sequence.is_some()),
        ]
        .into_iter()
        .find_map(|(name, given)| given.then_some(name))
    }
}

/// Checked headers, shared by all attempts of a send.
pub(crate) type Headers = Arc<[(HeaderName, HeaderValue)]>;

fn bad_header(name: &str, why: &str) -> Error {
    Error::new(ErrorKind::InvalidHeader, format!("header {name:?} {why}"))
}

fn header(name: &str, value: &str) -> Result<(HeaderName, HeaderValue)> {
    if name.is_empty() || !name.bytes().all(|b| b.is_ascii_graphic() && b != b':') {
        return Err(bad_header(name, "has no usable name: use printable ASCII without ':' or blanks"));
    }
    if value.bytes().any(|b| matches!(b, b'\r' | b'\n' | 0)) {
        return Err(bad_header(name, "has a line break or NUL in its value, which a header may not"));
    }
    Ok((
        HeaderName::from_str(name).map_err(|_| bad_header(name, "has a name that cannot be sent"))?,
        HeaderValue::from_str(value).map_err(|_| bad_header(name, "has a value that cannot be sent"))?,
    ))
}

/// Headers of the core's own.
pub(crate) fn own_headers(pairs: &[(&str, &str)]) -> Result<Headers> {
    pairs.iter().map(|(name, value)| header(name, value)).collect()
}

/// Checks the caller's headers, and adds those of the other options.
pub(crate) fn checked_headers(options: &SendOptions) -> Result<Option<Headers>> {
    if options.is_plain() {
        return Ok(None);
    }
    let mut out = Vec::with_capacity(options.headers.len() + 2);
    for (name, value) in &options.headers {
        if let Some(why) = refusal_of(name) {
            return Err(bad_header(name, why));
        }
        out.push(header(name, value)?);
    }
    if let Some(key) = &options.key {
        if key.is_empty() {
            return Err(bad_header(KEY_HEADER, "is empty: give a key, or none"));
        }
        out.push(header(KEY_HEADER, key)?);
    }
    if let Some(id) = &options.id {
        if id.is_empty() {
            return Err(bad_header(ID_HEADER, "is empty: give an id, or none to have one made"));
        }
        out.push(header(ID_HEADER, id)?);
    }
    if let Some(ttl) = options.ttl {
        if ttl < Duration::from_secs(1) {
            return Err(bad_header(TTL_HEADER, "is below one second, the least a server keeps a message"));
        }
        // Round up: the caller gives the minimum.
        out.push(header(TTL_HEADER, &format!("{}ms", ttl.as_nanos().div_ceil(1_000_000)))?);
    }
    let expected = [
        (LAST_SEQUENCE_HEADER, options.expected_last_sequence),
        (LAST_SUBJECT_SEQUENCE_HEADER, options.expected_last_subject_sequence),
    ];
    for (name, sequence) in expected {
        if let Some(n) = sequence {
            out.push(header(name, &n.to_string())?);
        }
    }
    Ok(Some(out.into()))
}

/// The time to live in checked headers.
pub(crate) fn ttl_of(headers: &Headers) -> Option<Duration> {
    let (_, value) = headers.iter().find(|(name, _)| AsRef::<str>::as_ref(name) == TTL_HEADER)?;
    value.as_str().strip_suffix("ms")?.parse().ok().map(Duration::from_millis)
}

/// Why a header is refused, if the server acts on it: it has an argument of its own, or is not for `send`.
fn refusal_of(name: &str) -> Option<&'static str> {
    const OF_THE_SERVER: &str =
        "is the server's own, with a protocol of its own: it is not for send, leave it out";
    const GIVEN: [(&str, &str); 5] = [
        (KEY_HEADER, "is set by the key and id arguments: give it there"),
        (ID_HEADER, "is set by the key and id arguments: give it there"),
        (TTL_HEADER, "is set by the ttl argument: give it there"),
        (LAST_SEQUENCE_HEADER, "is set by the expected_last_sequence argument: give it there"),
        (
            LAST_SUBJECT_SEQUENCE_HEADER,
            "is set by the expected_last_subject_sequence argument: give it there",
        ),
    ];
    const REFUSED: [&str; 5] =
        ["nats-batch-", "nats-schedule", "nats-incr", "nats-rollup", "nats-stream-source"];
    let given = GIVEN.iter().find(|(own, _)| name.eq_ignore_ascii_case(own)).map(|(_, text)| *text);
    let refused = |prefix: &&str| name.get(..prefix.len()).is_some_and(|n| n.eq_ignore_ascii_case(prefix));
    given.or_else(|| REFUSED.iter().any(refused).then_some(OF_THE_SERVER))
}

/// The size of headers in the protocol.
pub(crate) fn headers_len(headers: Option<&Headers>, extra_id: Option<&str>) -> usize {
    let one = |name: &str, value: &str| name.len() + value.len() + 4;
    let sum: usize = headers.iter().flat_map(|h| h.iter()).map(|(n, v)| one(n.as_ref(), v.as_str())).sum();
    let sum = sum + extra_id.map_or(0, |id| one(ID_HEADER, id));
    if sum == 0 { 0 } else { sum + "NATS/1.0\r\n\r\n".len() }
}

/// A received message.
#[derive(Clone, Debug)]
pub struct Delivery {
    /// Identifies it for settling. 0 when there is nothing to settle.
    pub token: u64,
    /// The topic it was sent to.
    pub topic: Subject,
    /// The body.
    pub body: Bytes,
    /// Its headers.
    pub headers: Option<HeaderMap>,
    /// The reply subject: the requester's inbox, or the ack subject.
    pub reply: Option<Subject>,
    /// The JetStream metadata.
    pub meta: Option<Meta>,
    /// How often a handler failed on it, or died with it, before. Counted when messages go to handlers.
    pub failures: u64,
}

impl Delivery {
    pub(crate) fn new(m: async_nats::Message) -> Self {
        Self {
            token: 0,
            topic: m.subject,
            body: m.payload,
            headers: m.headers,
            reply: m.reply,
            meta: None,
            failures: 0,
        }
    }
    /// The first value of a header.
    pub fn header(&self, name: &str) -> Option<&str> {
        self.headers.as_ref()?.get(name).map(HeaderValue::as_str)
    }
    /// The key: `Sharding-Key`, else the platform's `Nats-Msg-Id` without its `-<index>` suffix.
    pub fn key(&self) -> Option<&str> {
        self.header(KEY_HEADER).or_else(|| {
            let (key, index) = self.header(ID_HEADER)?.rsplit_once('-')?;
            let numbered = !key.is_empty() && !index.is_empty() && index.bytes().all(|b| b.is_ascii_digit());
            numbered.then_some(key)
        })
    }
    /// The message id.
    pub fn id(&self) -> Option<&str> {
        self.header(ID_HEADER)
    }
    /// Its sequence in the stream; 0 in core mode.
    pub fn sequence(&self) -> u64 {
        self.meta.as_ref().map_or(0, |m| m.sequence)
    }
    /// The server's delivery count, from 1; 1 in core mode.
    pub fn attempt(&self) -> u64 {
        self.meta.as_ref().map_or(1, |m| m.attempt)
    }
}

/// The metadata of a delivery, from its ack subject.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Meta {
    /// Stream sequence.
    pub sequence: u64,
    /// Delivery count, from 1.
    pub attempt: u64,
    /// When it was stored: Unix time in nanoseconds.
    pub timestamp_ns: i64,
    /// Messages that this group has not received yet.
    pub pending: u64,
    /// For a replayed dead letter: the sequence of the replay in the dead-letter stream.
    pub replay: Option<u64>,
}

/// Parses a number of digits only.
fn number(digits: &[u8]) -> Option<u64> {
    let digit = |n: u64, b: &u8| {
        let d = b.wrapping_sub(b'0');
        if d < 10 { n.checked_mul(10)?.checked_add(u64::from(d)) } else { None }
    };
    if digits.is_empty() { None } else { digits.iter().try_fold(0, digit) }
}

impl Meta {
    /// Parses `$JS.ACK.…` with and without a domain. `None` for another subject.
    pub fn parse(subject: &str) -> Option<Self> {
        let rest = subject.strip_prefix("$JS.ACK.")?;
        // Byte by byte: the tokens are too short for a fast search of the next dot.
        let mut tokens = [&[] as &[u8]; 10];
        let mut n = 0;
        for token in rest.as_bytes().split(|b| *b == b'.') {
            if n < tokens.len() {
                tokens[n] = token;
            }
            n += 1;
        }
        let at = match n {
            7 => 2,
            9.. => 4,
            _ => return None,
        };
        let field = |i: usize| number(tokens.get(at + i)?);
        Some(Self {
            attempt: field(0)?,
            sequence: field(1)?,
            timestamp_ns: i64::try_from(field(3)?).ok()?,
            pending: field(4)?,
            replay: None,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn any_ack_subject(text in "\\PC{0,120}") {
            let _ = Meta::parse(&text);
            let _ = Meta::parse(&format!("$JS.ACK.{text}"));
        }

        #[test]
        fn every_ack_subject_of_a_server(attempt: u64, sequence: u64, consumer: u64, ts in 0..i64::MAX, pending: u64, name in "[a-z_]{1,20}") {
            let want = Meta { sequence, attempt, timestamp_ns: ts, pending, replay: None };
            let old = format!("$JS.ACK.{name}.g.{attempt}.{sequence}.{consumer}.{ts}.{pending}");
            let new = format!("$JS.ACK._.h.{name}.g.{attempt}.{sequence}.{consumer}.{ts}.{pending}");
            prop_assert_eq!(Meta::parse(&old), Some(want.clone()));
            prop_assert_eq!(Meta::parse(&new), Some(want));
        }
    }

    #[test]
    fn ack_subjects_of_both_forms() {
        let want = Meta {
            attempt: 3,
            sequence: 42,
            timestamp_ns: 1_700_000_000_000_000_000,
            pending: 9,
            replay: None,
        };
        for subject in [
            "$JS.ACK.S.C.3.42.7.1700000000000000000.9",
            "$JS.ACK._.hash.S.C.3.42.7.1700000000000000000.9",
            "$JS.ACK.hub.hash.S.C.3.42.7.1700000000000000000.9.rnd",
        ] {
            assert_eq!(Meta::parse(subject), Some(want.clone()), "{subject}");
        }
        for bad in ["", "$JS.ACK", "$JS.ACK.S.C.x.42.7.17.9", "_INBOX.a.b", "$JS.ACK.S.C.3.42"] {
            assert_eq!(Meta::parse(bad), None, "{bad}");
        }
    }

    #[test]
    fn headers_are_checked() {
        let with = |name: &str, value: &str| SendOptions {
            headers: vec![(name.into(), value.into())],
            ..SendOptions::default()
        };
        for (name, value) in
            [("", "v"), ("a:b", "v"), ("a b", "v"), ("a", "v\r\nX: y"), ("a", "\0"), ("Nats-Msg-Id", "1")]
        {
            assert_eq!(
                checked_headers(&with(name, value)).unwrap_err().kind(),
                ErrorKind::InvalidHeader,
                "{name:?}"
            );
        }
        assert!(checked_headers(&with("tenant", "中文 t1")).unwrap().is_some());
        assert!(checked_headers(&SendOptions::default()).unwrap().is_none());
    }

    #[test]
    fn headers_that_the_server_acts_on_are_refused() {
        for (name, word) in [
            ("nats-ttl", "ttl"),
            ("Nats-Expected-Last-Sequence", "expected_last_sequence"),
            ("Nats-Batch-Id", "not for send"),
            ("Nats-Schedule", "not for send"),
            ("Nats-Schedule-Target", "not for send"),
            ("Nats-Scheduler", "not for send"),
            ("NATS-INCR", "not for send"),
            ("Nats-Rollup", "not for send"),
            ("Nats-Stream-Source", "not for send"),
        ] {
            let options = SendOptions { headers: vec![(name.into(), "1".into())], ..SendOptions::default() };
            let e = checked_headers(&options).unwrap_err();
            assert!(e.kind() == ErrorKind::InvalidHeader && e.message().contains(word), "{e}");
        }
        for name in ["Nats-Expected-Stream", "Nats-Trace-Dest", "traceparent", "中"] {
            assert_eq!(refusal_of(name), None);
        }
    }

    #[test]
    fn a_time_to_live_is_rounded_up_to_milliseconds() {
        let options = SendOptions { ttl: Some(Duration::from_micros(1_500_001)), ..SendOptions::default() };
        let headers = checked_headers(&options).unwrap().unwrap();
        assert_eq!(ttl_of(&headers), Some(Duration::from_millis(1501)));
    }

    #[test]
    fn keys_of_both_kinds() {
        let with = |name: &str, value: &str| {
            let headers = HeaderMap::from_iter([(
                HeaderName::from_str(name).unwrap(),
                HeaderValue::from_str(value).unwrap(),
            )]);
            let (topic, body) = (Subject::from_static("t"), Bytes::new());
            Delivery { token: 0, topic, body, headers: Some(headers), reply: None, meta: None, failures: 0 }
        };
        assert_eq!(with("Sharding-Key", "doc-7").key(), Some("doc-7"));
        assert_eq!(with("Nats-Msg-Id", "doc-7-0").key(), Some("doc-7"));
        assert_eq!(with("Nats-Msg-Id", "generated").key(), None);
        assert_eq!(with("Nats-Msg-Id", "a-b").key(), None);
    }
}
