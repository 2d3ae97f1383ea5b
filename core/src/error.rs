//! The one error of the bus: few kinds, each telling the caller what to do, and one stable code each.
//!
//! Owns the kinds, their codes and the text. Never holds a secret: nothing here is built from credentials.

use std::fmt;

/// A result whose error is the bus's own [`Error`].
pub type Result<T, E = Error> = std::result::Result<T, E>;

macro_rules! kinds {
    ($($(#[doc = $doc:literal])+ $kind:ident, $class:literal, $code:literal, $parent:literal, $retryable:literal;)*) => {
        /// What went wrong, by what the caller should do about it.
        ///
        /// Each variant names the class it becomes in Python and Node and the stable code it carries.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        #[non_exhaustive]
        pub enum ErrorKind { $($(#[doc = $doc])+ $kind,)* }

        impl ErrorKind {
            /// Every kind, parents before children.
            pub const ALL: &'static [ErrorKind] = &[$(ErrorKind::$kind,)*];
            /// The stable code, the same in every language, such as `publish.unknown`.
            pub const fn code(self) -> &'static str { match self { $(Self::$kind => $code,)* } }
            /// The name of the class in Python and Node.
            pub const fn class(self) -> &'static str { match self { $(Self::$kind => $class,)* } }
            /// The class this one specialises; the root is `EventBusError`.
            pub const fn parent(self) -> &'static str { match self { $(Self::$kind => $parent,)* } }
            /// What it means and what to do.
            pub const fn doc(self) -> &'static [&'static str] { match self { $(Self::$kind => &[$($doc),+],)* } }
            /// Whether the same call may succeed later without being changed.
            pub const fn retryable(self) -> bool { match self { $(Self::$kind => $retryable,)* } }
        }
    };
}

kinds! {
    /// A setting is wrong: fix the setting named.
    Config, "ConfigError", "config", "EventBusError", false;
    /// No connection: the rest is retried for you.
    Connection, "ConnectionError", "connection", "EventBusError", true;
    /// The server refused the credentials.
    Auth, "AuthError", "connection.auth", "ConnectionError", false;
    /// The TLS handshake failed: fix certificates or names.
    Tls, "TlsError", "connection.tls", "ConnectionError", false;
    /// The server denies the subject named: ask for the right.
    Permission, "PermissionError", "permission", "EventBusError", false;
    /// The stream, consumer or JetStream itself does not exist: declare it.
    NotFound, "NotFoundError", "not_found", "EventBusError", false;
    /// The server or the stream cannot do what was asked: nothing was done.
    NotSupported, "NotSupportedError", "not_supported", "EventBusError", false;
    /// What exists differs from what was asked: correct one of them.
    Conflict, "ConflictError", "conflict", "EventBusError", false;
    /// The message is not stored and never will be: change it or make room.
    PublishRejected, "PublishRejected", "publish.rejected", "EventBusError", false;
    /// Body, headers or topic are over a limit.
    TooLarge, "TooLarge", "publish.rejected.too_large", "PublishRejected", false;
    /// An expected sequence did not match.
    WrongSequence, "WrongSequence", "publish.rejected.wrong_sequence", "PublishRejected", false;
    /// The stream is at its limit and discards new messages.
    StreamFull, "StreamFull", "publish.rejected.stream_full", "PublishRejected", true;
    /// Never handed to a live connection before its deadline.
    NotSent, "NotSent", "publish.rejected.not_sent", "PublishRejected", true;
    /// The topic cannot be published to.
    InvalidTopic, "InvalidTopic", "publish.rejected.invalid_topic", "PublishRejected", false;
    /// A header name or value cannot be sent.
    InvalidHeader, "InvalidHeader", "publish.rejected.invalid_header", "PublishRejected", false;
    /// The deadline passed; it may be stored: check, or send again with the same id.
    PublishUnknown, "PublishUnknown", "publish.unknown", "EventBusError", true;
    /// The window is full: slow down.
    Backpressure, "Backpressure", "backpressure", "EventBusError", true;
    /// The time given ran out.
    Timeout, "Timeout", "timeout", "EventBusError", true;
    /// No responder listens to the topic.
    NoResponders, "NoResponders", "request.no_responders", "EventBusError", true;
    /// The responder failed; the text is its own.
    RequestFailed, "RequestFailed", "request.failed", "EventBusError", false;
    /// The bus, producer or consumer is closed.
    Closed, "ClosedError", "closed", "EventBusError", false;
    /// A body is not what it was read as.
    Decode, "DecodeError", "decode", "EventBusError", false;
    /// A defect in this library: please report it.
    Internal, "InternalError", "internal", "EventBusError", false;
}

/// What went wrong, where, and in whose words.
#[derive(Clone)]
pub struct Error(Box<Inner>);

#[derive(Clone, Default)]
struct Inner {
    kind: Option<ErrorKind>,
    message: String,
    topic: Option<String>,
    stream: Option<String>,
    group: Option<String>,
    server: Option<String>,
    id: Option<String>,
    err_code: Option<u64>,
    failures: Vec<Error>,
}

impl Error {
    /// An error of this kind that says what to do.
    pub fn new(kind: ErrorKind, message: impl Into<String>) -> Self {
        Self(Box::new(Inner { kind: Some(kind), message: message.into(), ..Inner::default() }))
    }
    pub(crate) fn config(message: impl Into<String>) -> Self {
        Self::new(ErrorKind::Config, message)
    }
    pub(crate) fn closed(what: &str) -> Self {
        Self::new(ErrorKind::Closed, format!("the {what} is closed"))
    }
    /// Names the topic concerned.
    pub fn topic(mut self, topic: impl Into<String>) -> Self {
        self.0.topic = Some(topic.into());
        self
    }
    /// Names the stream concerned.
    pub fn stream(mut self, stream: impl Into<String>) -> Self {
        self.0.stream = Some(stream.into());
        self
    }
    /// Names the group concerned.
    pub fn group(mut self, group: impl Into<String>) -> Self {
        self.0.group = Some(group.into());
        self
    }
    /// Keeps the server's own text.
    pub fn server(mut self, text: impl Into<String>) -> Self {
        self.0.server = Some(text.into());
        self
    }
    /// Keeps the server's error code; 0 means none.
    pub(crate) fn err_code_of(mut self, code: u64) -> Self {
        self.0.err_code = Some(code).filter(|n| *n != 0);
        self
    }
    /// Keeps what the server said with another error.
    pub(crate) fn in_the_words_of(mut self, other: &Error) -> Self {
        self.0.server.clone_from(&other.0.server);
        self.0.err_code = other.0.err_code;
        self
    }
    /// Names the message concerned by its id, to look for it or to send it again.
    pub fn id(mut self, id: impl Into<String>) -> Self {
        self.0.id = Some(id.into());
        self
    }
    /// Several failures as one error of the first one's kind, or none.
    pub(crate) fn many(failures: Vec<Error>, total: u64) -> Option<Self> {
        let first = failures.first()?.clone();
        if total <= 1 {
            return Some(first);
        }
        let mut all = first.clone();
        all.0.message = format!("{total} messages failed since the last flush; the first: {first}");
        all.0.failures = failures;
        Some(all)
    }

    /// What the caller should do something about.
    pub fn kind(&self) -> ErrorKind {
        self.0.kind.unwrap_or(ErrorKind::Internal)
    }
    /// The stable code of the kind.
    pub fn code(&self) -> &'static str {
        self.kind().code()
    }
    /// Whether the same call may succeed later unchanged.
    pub fn retryable(&self) -> bool {
        self.kind().retryable()
    }
    /// The text, without topic, stream and group.
    pub fn message(&self) -> &str {
        &self.0.message
    }
    /// The topic concerned, if any.
    pub fn topic_name(&self) -> Option<&str> {
        self.0.topic.as_deref()
    }
    /// The stream concerned, if any.
    pub fn stream_name(&self) -> Option<&str> {
        self.0.stream.as_deref()
    }
    /// The group concerned, if any.
    pub fn group_name(&self) -> Option<&str> {
        self.0.group.as_deref()
    }
    /// The server's own text, if it said anything.
    pub fn server_text(&self) -> Option<&str> {
        self.0.server.as_deref()
    }
    /// The `JetStream` error code (`err_code`) of the server's answer, if it gave one.
    pub fn err_code(&self) -> Option<u64> {
        self.0.err_code
    }
    /// The id of the message concerned, given or generated, if any.
    pub fn message_id(&self) -> Option<&str> {
        self.0.id.as_deref()
    }
    /// The single failures behind a flush's error (at most 100 are kept).
    pub fn failures(&self) -> &[Error] {
        &self.0.failures
    }
    /// The error as host languages receive it: every field by name.
    pub fn to_json(&self) -> serde_json::Value {
        serde_json::json!({
            "class": self.kind().class(), "code": self.code(), "message": self.to_string(),
            "retryable": self.retryable(), "topic": self.0.topic, "stream": self.0.stream,
            "group": self.0.group, "server": self.0.server,
            "id": self.0.id, "err_code": self.0.err_code,
            "failures": self.0.failures.iter().map(Error::to_json).collect::<Vec<_>>(),
        })
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.0.message)?;
        let named = [("topic", &self.0.topic), ("stream", &self.0.stream), ("group", &self.0.group)];
        let mut open = false;
        for (name, value) in named {
            if let Some(value) = value {
                write!(f, "{}{name} {value:?}", if open { ", " } else { " [" })?;
                open = true;
            }
        }
        if let Some(text) = &self.0.server {
            write!(f, "{}server said {text:?}", if open { ", " } else { " [" })?;
            open = true;
        }
        if open { f.write_str("]") } else { Ok(()) }
    }
}

impl fmt::Debug for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}({}: {self})", self.kind().class(), self.code())
    }
}

impl std::error::Error for Error {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn codes_are_unique_and_specialise_their_parents() {
        for (i, kind) in ErrorKind::ALL.iter().enumerate() {
            assert!(ErrorKind::ALL[..i].iter().all(|k| k.code() != kind.code() && k.class() != kind.class()));
            let parent = ErrorKind::ALL[..i].iter().find(|k| k.class() == kind.parent());
            match parent {
                Some(p) => assert!(kind.code().starts_with(p.code())),
                None => assert_eq!(kind.parent(), "EventBusError"),
            }
        }
    }

    #[test]
    fn text_names_what_is_concerned() {
        let e = Error::new(ErrorKind::StreamFull, "no room").topic("a.b").stream("S").server("maximum bytes");
        assert_eq!(e.to_string(), r#"no room [topic "a.b", stream "S", server said "maximum bytes"]"#);
    }
}
