//! What the server denies: its words read, and the error they become.

use crate::error::{Error, ErrorKind};

/// A topic that the server does not let us use.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Denied {
    /// Publishing, else subscribing.
    pub(crate) publish: bool,
    pub(crate) topic: String,
    /// The queue group of a subscription, where it has one.
    pub(crate) group: Option<String>,
    text: String,
}

impl Denied {
    /// Reads `Permissions Violation for Publish to "x"`, `… for Subscription to "x"`, and `… using queue "q"`.
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
        let may_not = if self.publish { "publish" } else { "subscribe" };
        let text = format!("the server does not let us {may_not} to {:?}: ask for the right", self.topic);
        let e = Error::new(ErrorKind::Permission, text).topic(&*self.topic).server(&*self.text);
        match &self.group {
            Some(group) => e.group(group),
            None => e,
        }
    }
}

/// A text up to its closing quote, and what follows; the server escapes quotes and backslashes.
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

/// Whether a server's words are about who we are, not about what we did.
pub(crate) fn is_auth(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    text.contains("authorization violation") || text.contains("authentication")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_servers_words() {
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
