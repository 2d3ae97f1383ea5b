//! Topics: building and checking them.
//!
//! Owns the rules for topics, tokens, groups and stream names. No I/O.

use crate::error::{Error, ErrorKind, Result};

/// The longest topic, in bytes. Servers limit a control line to 4 KiB by default.
pub const MAX_TOPIC: usize = 1024;

fn bad(message: String) -> Error {
    Error::new(ErrorKind::InvalidTopic, message)
}

fn is_forbidden(c: char) -> bool {
    c.is_whitespace() || c.is_control()
}

/// Builds a topic from tokens, such as `["coze", "workflow", "42", "done"]` → `coze.workflow.42.done`.
///
/// # Errors
/// `InvalidTopic` when a token is empty or contains `.`, `*`, `>`, white space or control characters. Such tokens are
/// never escaped, so that untrusted input cannot widen a topic.
pub fn topic<S: AsRef<str>>(tokens: &[S]) -> Result<String> {
    if tokens.is_empty() {
        return Err(bad("a topic needs at least one token".into()));
    }
    for (i, token) in tokens.iter().enumerate() {
        let token = token.as_ref();
        if token.is_empty() {
            return Err(bad(format!("token {} of the topic is empty: give it a value", i + 1)));
        }
        if let Some(c) = token.chars().find(|c| matches!(c, '.' | '*' | '>') || is_forbidden(*c)) {
            return Err(bad(format!(
                "token {} of the topic, {token:?}, holds {c:?}, which a token may not",
                i + 1
            )));
        }
    }
    let joined = tokens.iter().map(AsRef::as_ref).collect::<Vec<_>>().join(".");
    check_publish(&joined)?;
    Ok(joined)
}

/// Checks a topic for publishing.
pub fn check_publish(topic: &str) -> Result<()> {
    check_shape(topic)?;
    if let Some(token) = topic.split('.').find(|t| *t == "*" || *t == ">") {
        return Err(bad(format!(
            "the wildcard {token:?} cannot be published to: name one topic (wildcards are for consumers)"
        ))
        .topic(topic));
    }
    if topic.starts_with('$') || topic == "_INBOX" || topic.starts_with("_INBOX.") {
        return Err(
            bad("topics under $ and _INBOX belong to the server: choose another root".into()).topic(topic)
        );
    }
    Ok(())
}

/// Checks a topic for consuming. A wildcard must be a whole token, and `>` the last one.
pub fn check_subscribe(topic: &str) -> Result<()> {
    check_shape(topic)?;
    let tokens: Vec<&str> = topic.split('.').collect();
    let last = tokens.len() - 1;
    if tokens.iter().enumerate().any(|(i, t)| *t == ">" && i != last) {
        return Err(bad("the wildcard '>' may only be the last token".into()).topic(topic));
    }
    Ok(())
}

fn check_shape(topic: &str) -> Result<()> {
    if topic.is_empty() {
        return Err(bad("the topic is empty: name one, such as \"coze.workflow.42.done\"".into()));
    }
    if topic.len() > MAX_TOPIC {
        let (n, start) = (topic.len(), topic.chars().take(40).collect::<String>());
        return Err(bad(format!("the topic {start:?}… has {n} bytes; the limit is {MAX_TOPIC}")));
    }
    if let Some(c) = topic.chars().find(|c| is_forbidden(*c)) {
        return Err(
            bad(format!("a topic may not hold {c:?}: no white space or control characters")).topic(topic)
        );
    }
    if topic.split('.').any(str::is_empty) {
        return Err(bad("a topic may not start or end with '.', nor hold '..'".into()).topic(topic));
    }
    Ok(())
}

/// Checks the prefix of the reply inbox.
pub(crate) fn check_inbox_prefix(prefix: &str) -> Result<()> {
    let wild = prefix.split('.').any(|t| t == "*" || t == ">");
    if check_shape(prefix).is_err() || wild || prefix.starts_with('$') || prefix.len() > 128 {
        return Err(Error::config(format!(
            "inbox_prefix is {prefix:?}: give a topic without wildcards, not under $, such as \"_INBOX.indexer\""
        )));
    }
    Ok(())
}

/// Checks a JetStream domain: one token.
pub(crate) fn check_domain(domain: &str) -> Result<()> {
    if check_shape(domain).is_err() || domain.contains(['.', '*', '>']) {
        return Err(Error::config(format!(
            "domain is {domain:?}: give the name of a JetStream domain, one token such as \"hub\""
        )));
    }
    Ok(())
}

/// Checks the subject prefix of the JetStream API.
pub(crate) fn check_api_prefix(prefix: &str) -> Result<()> {
    if check_shape(prefix).is_err() || prefix.contains(['*', '>']) {
        return Err(Error::config(format!(
            "api_prefix is {prefix:?}: give a subject without wildcards, and without '.' at its end, such as \"JS.acme.API\""
        )));
    }
    Ok(())
}

/// Checks a group name. It becomes the name of a durable, so it must be one token without path characters.
pub fn check_group(group: &str) -> Result<()> {
    if group.is_empty() {
        return Err(Error::config(
            "the group is empty: name the workers that share the messages, such as \"indexer\"",
        ));
    }
    check_name("group", group)
}

/// Checks the name of a stream, durable or group: one token without path characters.
pub(crate) fn check_name(what: &str, name: &str) -> Result<()> {
    if name.is_empty() {
        return Err(Error::config(format!("the {what} name is empty: give a name, or leave it out")));
    }
    if name.len() > 255 {
        return Err(Error::config(format!("the {what} name has {} bytes; the limit is 255", name.len())));
    }
    match name.chars().find(|c| matches!(c, '.' | '*' | '>' | '/' | '\\') || is_forbidden(*c)) {
        Some(c) => Err(Error::config(format!("the {what} {name:?} holds {c:?}, which such a name may not"))),
        None => Ok(()),
    }
}

/// Whether two subjects, which may have wildcards, have a topic in common.
pub(crate) fn overlap(a: &str, b: &str) -> bool {
    let (mut a, mut b) = (a.split('.'), b.split('.'));
    loop {
        match (a.next(), b.next()) {
            (Some(">"), Some(_)) | (Some(_), Some(">")) | (None, None) => return true,
            (Some(x), Some(y)) if x == y || x == "*" || y == "*" => {}
            _ => return false,
        }
    }
}

/// Whether a subject with wildcards covers every topic of another subject, which may have wildcards too.
pub fn covers(filter: &str, topic: &str) -> bool {
    let (mut f, mut t) = (filter.split('.'), topic.split('.'));
    loop {
        match (f.next(), t.next()) {
            (Some(">"), Some(_)) | (None, None) => return true,
            (Some("*"), Some(x)) if x != ">" => {}
            (Some(a), Some(b)) if a == b => {}
            _ => return false,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens_become_a_topic() {
        assert_eq!(topic(&["coze", "workflow", "42", "done"]).unwrap(), "coze.workflow.42.done");
        for bad in ["", "a.b", "*", ">", "a b", "a\r\n", "\u{0}", "\u{2003}"] {
            assert_eq!(topic(&["coze", bad]).unwrap_err().kind(), ErrorKind::InvalidTopic, "{bad:?}");
        }
        assert!(topic(&["$JS", "API"]).is_err());
        assert!(topic(&["_INBOX", "x"]).is_err());
        assert!(topic::<&str>(&[]).is_err());
    }

    #[test]
    fn publish_topics() {
        for bad in ["", ".a", "a.", "a..b", "a.*", ">", "a b", "a\r\nPUB x", "$SYS.x", "_INBOX.x"] {
            assert!(check_publish(bad).is_err(), "{bad:?}");
        }
        assert!(check_publish(&"x".repeat(MAX_TOPIC + 1)).is_err());
        check_publish("opencoze_knowledge").unwrap();
        check_publish("中文.主题").unwrap();
    }

    #[test]
    fn coverage() {
        for (filter, topic, yes) in [
            ("a.b", "a.b", true),
            ("a.*", "a.b", true),
            ("a.>", "a.b.c", true),
            ("a.>", "a", false),
            ("a.*", "a.>", false),
            ("a.>", "a.>", true),
            ("a.*.c", "a.b.d", false),
            ("a.>", "a.*", true),
        ] {
            assert_eq!(covers(filter, topic), yes, "{filter} {topic}");
        }
    }

    #[test]
    fn overlaps() {
        for (a, b, yes) in [
            ("a.b", "a.b", true),
            ("a.*", "*.b", true),
            ("a.>", "a.b.c", true),
            ("a.>", "a", false),
            ("a.b", "a.b.c", false),
            ("*.x", "a.y", false),
            (">", "a.*.c", true),
        ] {
            assert_eq!((overlap(a, b), overlap(b, a)), (yes, yes), "{a} {b}");
        }
    }
}
