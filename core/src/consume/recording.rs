//! The records of what handlers did to messages: kept by failures, by give-backs, and by messages that run alone.
//!
//! They live in the stream `<STREAM>_ATTEMPTS`, made with the first of them: one message for each message that failed
//! (`attempts.<STREAM>.<group>.<sequence>`, the last one counts), and one for each give-back of messages that had been
//! delivered before. A group whose handlers never fail has no such stream, and pays nothing.

use super::{Inner, history::Record, unsettled::Known};
use crate::{
    error::{Error, ErrorKind, Result},
    jetstream::names::{attempts_stream, attempts_subject, attempts_topic, returned_topic},
    observe::{Level, NoticeKind},
};
use base64::{Engine, engine::general_purpose::STANDARD};
use serde::{Deserialize, Serialize};
use serde_json::{Value, json};
use std::{sync::atomic::Ordering, time::Duration};

/// How long a record is kept after the last failure.
const KEPT: Duration = Duration::from_secs(7 * 24 * 3600);

/// One give-back: the messages, each with its replay if it is one.
#[derive(Debug, Default, Serialize, Deserialize)]
#[serde(default)]
struct GivenBack {
    returned: Vec<Known>,
}

#[derive(Deserialize)]
struct Stored {
    message: StoredMessage,
}
#[derive(Deserialize)]
struct StoredMessage {
    seq: u64,
    #[serde(default)]
    data: String,
}

impl StoredMessage {
    fn read<T: for<'a> Deserialize<'a>>(&self) -> Option<T> {
        serde_json::from_slice(&STANDARD.decode(&self.data).ok()?).ok()
    }
}

impl Inner {
    /// The record of a message; the default where there is none.
    pub(super) async fn read_record(&self, known: Known) -> Result<Record> {
        let Some(stream) = self.recorded() else { return Ok(Record::default()) };
        let query = json!({"last_by_subj": attempts_topic(stream, self.config.durable_name(), known)});
        Ok(self.stored(stream, &query).await?.and_then(|m| m.read()).unwrap_or_default())
    }

    /// Ends when the record is stored.
    pub(super) async fn write_record(&self, known: Known, record: &Record) -> Result<()> {
        let Some(stream) = self.recorded() else { return Ok(()) };
        let topic = attempts_topic(stream, self.config.durable_name(), known);
        self.put_record(stream, topic, record).await
    }

    /// Ends when it is stored that these deliveries were given back.
    pub(super) async fn write_returned(&self, returned: Vec<Known>) -> Result<()> {
        let Some(stream) = self.recorded() else { return Ok(()) };
        let topic = returned_topic(stream, self.config.durable_name(), Some(&nuid::next()));
        self.put_record(stream, topic, &GivenBack { returned }).await
    }

    /// How many deliveries of a message were given back unbegun.
    pub(super) async fn read_returned(&self, known: Known) -> Result<u64> {
        let Some(stream) = self.recorded() else { return Ok(0) };
        let topic = returned_topic(stream, self.config.durable_name(), None);
        loop {
            let after = self.records.returned.lock().read_to;
            let query = json!({"seq": after + 1, "next_by_subj": topic});
            let Some(m) = self.stored(stream, &query).await? else { break };
            let mut counts = self.records.returned.lock();
            // Another look may have read it meanwhile.
            if m.seq > counts.read_to {
                counts.read_to = m.seq;
                for known in m.read::<GivenBack>().unwrap_or_default().returned {
                    *counts.by_message.entry(known).or_default() += 1;
                }
            }
        }
        Ok(self.records.returned.lock().by_message.get(&known).copied().unwrap_or_default())
    }

    /// The stream whose records are kept; none where they cannot be.
    fn recorded(&self) -> Option<&str> {
        self.stream.as_deref().filter(|_| !self.records.denied.load(Ordering::Relaxed))
    }

    async fn stored(&self, stream: &str, query: &Value) -> Result<Option<StoredMessage>> {
        let call = format!("STREAM.MSG.GET.{}", attempts_stream(stream));
        match self.shared.api::<Stored>(&call, query).await {
            Ok(found) => Ok(Some(found.message)),
            Err(e) if e.kind() == ErrorKind::NotFound => Ok(None),
            Err(e) => self.unless_denied(e).map(|()| None),
        }
    }

    async fn put_record<T: Serialize>(&self, stream: &str, topic: String, record: &T) -> Result<()> {
        let put = async {
            self.records.declared.get_or_try_init(|| self.declare_attempts(stream)).await?;
            let body = serde_json::to_vec(record)
                .map_err(|e| Error::new(ErrorKind::Internal, format!("a record of attempts: {e}")))?;
            match self.shared.store(topic.clone(), &body).await {
                // The stream was lost: it is declared again, once.
                Err(e) if e.kind() == ErrorKind::NoResponders => {
                    self.declare_attempts(stream).await?;
                    self.shared.store(topic, &body).await
                }
                other => other,
            }
        };
        match put.await {
            Ok(()) => Ok(()),
            Err(e) => self.unless_denied(e),
        }
    }

    fn unless_denied(&self, e: Error) -> Result<()> {
        if e.kind() != ErrorKind::Permission {
            return Err(e);
        }
        if !self.records.denied.swap(true, Ordering::Relaxed) {
            let text = format!(
                "failures of handlers cannot be recorded: each process counts its own, and a message that kills its process is not found out; grant the right named: {e}"
            );
            self.notice(Level::Warning, NoticeKind::Retry, text);
        }
        Ok(())
    }

    async fn declare_attempts(&self, stream: &str) -> Result<()> {
        let (name, subject) = (attempts_stream(stream), attempts_subject(stream));
        let config = json!({
            "name": name, "subjects": [subject], "storage": "file", "retention": "limits", "discard": "old",
            "max_msgs_per_subject": 1, "max_age": u64::try_from(KEPT.as_nanos()).unwrap_or(u64::MAX),
            "num_replicas": self.shared.config.replicas,
        });
        self.shared.declare_stream_as(&name, &[subject], &config).await.map(drop)
    }
}
