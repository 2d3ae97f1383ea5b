//! Writing keys: each write has one honest outcome.
//!
//! A lost ack is asked for again under the same id. A conflict is settled by looking whose write is there: it may be
//! ours, whose ack was lost.

use super::{
    Kv,
    entry::{KvEntry, OPERATION},
    names::check_key,
};
use crate::{
    error::{Error, ErrorKind, Result},
    message::{ID_HEADER, own_headers},
};
use std::time::Duration;

const ROLLUP: &str = "Nats-Rollup";
const TTL: &str = "Nats-TTL";
const EXPECTED: &str = "Nats-Expected-Last-Subject-Sequence";

impl Kv {
    /// Writes a value. Returns its revision. `ttl` lets the key expire; at least 1 s.
    ///
    /// # Errors
    /// `Config` for a key that is none; `NotSupported` for `ttl` where the bucket takes none; as a send.
    pub async fn put(&self, key: &str, value: &[u8], ttl: Option<Duration>) -> Result<u64> {
        check_key(key)?;
        self.write(key, value, None, None, ttl).await
    }

    /// Writes a value where there is none: the key is new, deleted or expired.
    ///
    /// # Errors
    /// `Conflict` when the key has a value.
    pub async fn create(&self, key: &str, value: &[u8], ttl: Option<Duration>) -> Result<u64> {
        check_key(key)?;
        let taken = match self.write(key, value, None, Some(0), ttl).await {
            Err(e) if e.kind() == ErrorKind::Conflict => e,
            written => return written,
        };
        match self.last(key).await? {
            // Over a sign of deletion: at its revision, so that only one of several succeeds.
            Some(entry) if !entry.is_value() => self.write(key, value, None, Some(entry.revision), ttl).await,
            _ => Err(taken),
        }
    }

    /// Writes a value over the revision given, and over no other.
    ///
    /// # Errors
    /// `Conflict` when the key has another revision.
    pub async fn update(&self, key: &str, value: &[u8], revision: u64, ttl: Option<Duration>) -> Result<u64> {
        check_key(key)?;
        if revision == 0 {
            return Err(Error::config("update: revisions begin at 1; use create for a new key"));
        }
        self.write(key, value, None, Some(revision), ttl).await
    }

    /// Deletes a key; its history stays. With `revision` only over that one. Returns the revision of the deletion.
    ///
    /// # Errors
    /// `Conflict` when the key has another revision.
    pub async fn delete(&self, key: &str, revision: Option<u64>) -> Result<u64> {
        check_key(key)?;
        self.write(key, &[], Some("DEL"), revision, None).await
    }

    /// Deletes a key with its history. `ttl`: how long the sign of it stays; at least 1 s. Returns the revision of the
    /// deletion.
    ///
    /// # Errors
    /// `Conflict` when the key has another revision than the one given.
    pub async fn purge(&self, key: &str, revision: Option<u64>, ttl: Option<Duration>) -> Result<u64> {
        check_key(key)?;
        self.write(key, &[], Some("PURGE"), revision, ttl).await
    }

    async fn write(
        &self,
        key: &str,
        value: &[u8],
        operation: Option<&str>,
        expected: Option<u64>,
        ttl: Option<Duration>,
    ) -> Result<u64> {
        let id = nuid::next();
        let mut headers: Vec<(&str, String)> = vec![(ID_HEADER, id.to_string())];
        headers.extend(operation.map(|o| (OPERATION, o.to_owned())));
        if operation == Some("PURGE") {
            headers.push((ROLLUP, "sub".to_owned()));
        }
        headers.extend(expected.map(|n| (EXPECTED, n.to_string())));
        if let Some(ttl) = ttl {
            headers.push((TTL, self.seconds(ttl)?));
        }
        let pairs: Vec<_> = headers.iter().map(|(name, value)| (*name, value.as_str())).collect();
        let subject = self.subject(key);
        match self.producer.send_to(&subject, value, own_headers(&pairs)?).await {
            Ok(ack) => Ok(ack.sequence),
            Err(e) if e.kind() == ErrorKind::WrongSequence => self.whose(key, &id, expected, e).await,
            Err(e) => Err(e),
        }
    }

    /// A write that met another revision: ours, whose ack was lost, or a conflict.
    async fn whose(&self, key: &str, id: &str, expected: Option<u64>, e: Error) -> Result<u64> {
        let found = self.stored(key).await?;
        let has = match found {
            Some((entry, Some(by))) if by == id => return Ok(entry.revision),
            Some((entry, _)) if entry.is_value() => format!("revision {}", entry.revision),
            Some((entry, _)) => format!("no value (revision {})", entry.revision),
            None => "no value".to_owned(),
        };
        let text = match expected {
            Some(0) => format!("the key {key:?} has a value already: {has}"),
            Some(n) => format!("the key {key:?} has {has} and not {n}"),
            None => format!("the key {key:?} has {has}"),
        };
        let conflict = Error::new(ErrorKind::Conflict, text).in_the_words_of(&e);
        Err(conflict.topic(self.subject(key)).stream(&*self.stream))
    }

    fn seconds(&self, ttl: Duration) -> Result<String> {
        if ttl < Duration::from_secs(1) {
            return Err(Error::config("ttl is below 1 s, the least a server keeps"));
        }
        if !self.ttl {
            let text = "the bucket takes no times to live for single keys: create it with limit_marker_ttl (server 2.11)";
            return Err(Error::new(ErrorKind::NotSupported, text).stream(&*self.stream));
        }
        // Round up: the caller gives the minimum.
        Ok(ttl.as_nanos().div_ceil(1_000_000_000).to_string())
    }

    /// The last message of a key, a sign of deletion included.
    pub(super) async fn last(&self, key: &str) -> Result<Option<KvEntry>> {
        Ok(self.stored(key).await?.map(|(entry, _)| entry))
    }
}
