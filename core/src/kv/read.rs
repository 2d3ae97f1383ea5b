//! Reading one key: by a direct get where the bucket allows it, else by the stream's leader.

use super::{
    Kv,
    entry::{KvEntry, operation},
    names::{check_key, key_of},
};
use crate::{
    error::{Error, ErrorKind, Result},
    jetstream::{api, codes},
    message::{Delivery, ID_HEADER},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::Deserialize;
use serde_json::{Value, json};
use std::time::{SystemTime, UNIX_EPOCH};
use time::{OffsetDateTime, format_description::well_known::Rfc3339};

/// A message found, and the id it was written under.
type Stored = (KvEntry, Option<String>);

#[derive(Deserialize)]
struct Answer {
    message: StoredMessage,
}
#[derive(Deserialize)]
struct StoredMessage {
    subject: String,
    seq: u64,
    #[serde(default)]
    hdrs: String,
    #[serde(default)]
    data: String,
    #[serde(default)]
    time: String,
}

impl Kv {
    /// The value of a key, or the one it had at a revision; none when it has none.
    ///
    /// # Errors
    /// `Config` for a key that is none; `Timeout` or `Connection` when the server does not answer.
    pub async fn get(&self, key: &str, revision: Option<u64>) -> Result<Option<KvEntry>> {
        check_key(key)?;
        let found = match revision {
            None => self.stored(key).await?,
            Some(0) => return Err(Error::config("revisions begin at 1")),
            Some(n) => self.ask(&json!({"seq": n})).await?.filter(|(entry, _)| entry.key == key),
        };
        Ok(found.map(|(entry, _)| entry).filter(KvEntry::is_value))
    }

    /// The last message of a key.
    pub(super) async fn stored(&self, key: &str) -> Result<Option<Stored>> {
        self.ask(&json!({"last_by_subj": self.subject(key)})).await
    }

    async fn ask(&self, query: &Value) -> Result<Option<Stored>> {
        if self.direct { self.ask_directly(query).await } else { self.ask_the_leader(query).await }
    }

    async fn ask_directly(&self, query: &Value) -> Result<Option<Stored>> {
        let shared = &self.shared;
        let to = api::subject(&shared.config, &format!("DIRECT.GET.{}", self.stream));
        let body = query.to_string();
        let reply = match shared.pipeline.request(to, body.as_bytes(), shared.config.api_timeout).await {
            Ok(reply) => reply,
            // A leader is being elected, or the bucket is gone: the leader's answer tells which.
            Err(e) if e.kind() == ErrorKind::NoResponders => return self.ask_the_leader(query).await,
            Err(e) => return Err(e.stream(&*self.stream)),
        };
        Ok(self.read_direct(reply))
    }

    /// An answer's headers say what is stored; one without a sequence is a status: there is nothing.
    fn read_direct(&self, reply: Delivery) -> Option<Stored> {
        let header = |name: &str| reply.header(name).map(str::to_owned);
        let revision = header("Nats-Sequence")?.parse().ok()?;
        let key = key_of(&self.bucket, &header("Nats-Subject")?)?.to_owned();
        let (time, id) = (time(&header("Nats-Time-Stamp").unwrap_or_default()), header(ID_HEADER));
        let (bucket, operation) = (self.bucket.to_string(), operation(header));
        let entry = KvEntry { bucket, key, revision, operation, time, initial: false, value: reply.body };
        Some((entry, id))
    }

    async fn ask_the_leader(&self, query: &Value) -> Result<Option<Stored>> {
        let call = format!("STREAM.MSG.GET.{}", self.stream);
        let m = match self.shared.api::<Answer>(&call, query).await {
            Ok(found) => found.message,
            Err(e) if matches!(e.err_code(), Some(codes::NO_MESSAGE | codes::NO_SEQUENCE)) => {
                return Ok(None);
            }
            Err(e) => return Err(e.stream(&*self.stream)),
        };
        let bytes = |text: &str| {
            let wrong = |e| Error::new(ErrorKind::Decode, format!("the server's answer is not base64: {e}"));
            STANDARD.decode(text).map_err(wrong)
        };
        let headers = crate::dead_letters::read_headers(&bytes(&m.hdrs)?);
        let header = |name: &str| headers.iter().find(|(n, _)| n == name).map(|(_, v)| v.clone());
        let Some(key) = key_of(&self.bucket, &m.subject).map(str::to_owned) else { return Ok(None) };
        let (operation, id) = (operation(header), header(ID_HEADER));
        let (bucket, time, value) = (self.bucket.to_string(), time(&m.time), bytes(&m.data)?.into());
        Ok(Some((KvEntry { bucket, key, revision: m.seq, operation, time, initial: false, value }, id)))
    }
}

/// A time as the server writes it. What cannot be read is 1970.
fn time(text: &str) -> SystemTime {
    OffsetDateTime::parse(text, &Rfc3339).map_or(UNIX_EPOCH, SystemTime::from)
}
