//! Names of buckets and keys, as all NATS clients have them.

use crate::error::{Error, Result};

/// Before the name of a bucket in that of its stream.
const STREAM: &str = "KV_";

pub(super) fn stream(bucket: &str) -> String {
    format!("{STREAM}{bucket}")
}

/// The subjects of a bucket.
pub(super) fn subjects(bucket: &str) -> String {
    subject(bucket, ">")
}

/// The subject of a key, or of a pattern of keys.
pub(super) fn subject(bucket: &str, key: &str) -> String {
    format!("$KV.{bucket}.{key}")
}

/// The key of a subject.
pub(super) fn key_of<'a>(bucket: &str, subject: &'a str) -> Option<&'a str> {
    subject.strip_prefix("$KV.")?.strip_prefix(bucket)?.strip_prefix('.')
}

pub(super) fn check_bucket(bucket: &str) -> Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '_' | '-');
    if bucket.is_empty() || !bucket.chars().all(plain) {
        return Err(Error::config(format!("bucket {bucket:?}: use letters, digits, '_' and '-'")));
    }
    Ok(())
}

pub(super) fn check_key(key: &str) -> Result<()> {
    check(key, false)
}

/// A key, or a pattern with the wildcards of topics.
pub(super) fn check_pattern(pattern: &str) -> Result<()> {
    check(pattern, true)
}

fn check(key: &str, wildcards: bool) -> Result<()> {
    let plain = |c: char| c.is_ascii_alphanumeric() || matches!(c, '-' | '/' | '_' | '=' | '.');
    let tokens: Vec<&str> = key.split('.').collect();
    let is_wildcard = |i: usize, t: &str| wildcards && (t == "*" || (t == ">" && i + 1 == tokens.len()));
    let good = |(i, t): (usize, &&str)| is_wildcard(i, t) || (!t.is_empty() && t.chars().all(plain));
    if tokens.iter().enumerate().all(good) {
        return Ok(());
    }
    let more = if wildcards { "; '*' and a last '>' stand for any tokens" } else { "" };
    Err(Error::config(format!(
        "key {key:?}: use letters, digits, '-', '/', '_', '=' and '.' between tokens that are not empty{more}"
    )))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn keys_and_buckets() {
        for good in ["a", "a.b", "_x", "_kv_x", "A/=-_b"] {
            assert!(check_key(good).is_ok() && check_pattern(good).is_ok(), "{good}");
            assert_eq!(key_of("b", &subject("b", good)), Some(good));
        }
        for bad in ["", ".a", "a.", "a..b", "a b", "a\tb", "é", "*", ">", "a.*", "$a", "a:b", "a#"] {
            assert!(check_key(bad).is_err(), "{bad}");
        }
        for (pattern, good) in [("*", true), ("a.*.b", true), ("a.>", true), (">.a", false), ("a*", false)] {
            assert_eq!(check_pattern(pattern).is_ok(), good, "{pattern}");
        }
        for (bucket, good) in [("b", true), ("_x-1", true), ("", false), ("a.b", false), ("a/b", false)] {
            assert_eq!(check_bucket(bucket).is_ok(), good, "{bucket}");
        }
        assert_eq!(key_of("b", "$KV.bb.a"), None);
    }
}
