//! The server's `-ERR` texts: permission violations and authentication errors.
//!
//! Core NATS reports these only as text, without a code, so the text decides here and nowhere else.

use crate::error::{Error, ErrorKind};

/// A topic that the server denies.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Denied {
    /// Whether publishing is denied, else subscribing.
    pub(crate) publish: bool,
    pub(crate) topic: String,
    /// The queue group of a subscription, if it has one.
    pub(crate) group: Option<String>,
    text: String,
}

impl Denied {
    /// Parses `Permissions Violation for Publish to "x"`, `… for Subscription to "x"`, and `… using queue "q"`.
    pub(super) fn parse(text: &str) -> Option<Self> {
        const START: &str = "permissions violation for ";
        let start = text.get(..START.len())?;
        if !start.eq_ignore_ascii_case(START) {
            return None;
        }
        let rest = &text[START.len()..];
        let (verb, topic) = rest.split_once('"')?;
        let publish = verb.to_ascii_lowercase().starts_with("publish");
        let (topic, rest) = quoted(topic)?;
        let group = rest.split_once('"').and_then(|(_, q)| quoted(q)).map(|(q, _)| q);
        Some(Self { publish, topic, group, text: text.to_owned() })
    }

    pub(crate) fn error(&self) -> Error {
        let operation = if self.publish { "publish" } else { "subscribe" };
        let text = format!("the server denies permission to {operation} to {:?}: ask for it", self.topic);
        let e = Error::new(ErrorKind::Permission, text).topic(&*self.topic).server(&*self.text);
        match &self.group {
            Some(group) => e.group(group),
            None => e,
        }
    }
}

/// Splits a text at its closing quote. The server escapes quotes and backslashes.
fn quoted(text: &str) -> Option<(String, &str)> {
    let (mut out, mut chars) = (String::new(), text.char_indices());
    while let Some((at, c)) = chars.next() {
        match c {
            '"' => return Some((out, &text[at + 1..])),
            '\\' => out.push(chars.next()?.1),
            _ => out.push(c),
        }
    }
    None
}

/// Why a connection failed or ended, and whether authentication is the reason.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Cause {
    pub(crate) text: String,
    pub(crate) is_auth: bool,
}

impl Cause {
    /// A cause that the server or the client reported as text. Neither gives a code.
    pub(super) fn reported(text: impl Into<String>) -> Self {
        let text = text.into();
        Self { is_auth: is_auth(&text), text }
    }
    /// A failure to get or use the credentials.
    pub(super) fn auth(text: impl Into<String>) -> Self {
        Self { text: text.into(), is_auth: true }
    }
    /// Any other cause.
    pub(crate) fn other(text: impl Into<String>) -> Self {
        Self { text: text.into(), is_auth: false }
    }
}

/// Whether a server's error text is about authentication, not about an operation.
pub(super) fn is_auth(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    text.contains("authorization violation") || text.contains("authentication")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_texts_of_the_server() {
        for (text, expected) in [
            (r#"Permissions Violation for Publish to "a.b""#, Some((true, "a.b", None))),
            (r#"Permissions Violation for Subscription to "a.*""#, Some((false, "a.*", None))),
            (
                r#"Permissions Violation for Subscription to "a" using queue "q""#,
                Some((false, "a", Some("q"))),
            ),
            (r#"Permissions Violation for Publish to "a\"\\b""#, Some((true, r#"a"\b"#, None))),
            (r#"Permissions Violation for Publish to "a"#, None),
            ("Permissions Violation for ", None),
            ("é", None),
            ("User Authentication Expired", None),
        ] {
            let got = Denied::parse(text);
            assert_eq!(
                got.as_ref().map(|d| (d.publish, d.topic.as_str(), d.group.as_deref())),
                expected,
                "{text}"
            );
            assert!(got.is_none_or(|d| d.error().message().contains(&format!("{:?}", d.topic))));
        }
        assert!(is_auth("User Authentication Revoked") && is_auth("nats: authorization violation"));
        assert!(!is_auth(r#"Permissions Violation for Publish to "a""#) && !is_auth("Stale Connection"));
    }
}
