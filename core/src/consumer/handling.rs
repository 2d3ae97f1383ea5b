//! What becomes of a message after its handler: ack, retry with backoff, or dead letter.
//!
//! The decision ([`verdict`]) is pure. A dead letter is stored and confirmed first; only then is the original
//! terminated, so a crash in between stores it once and loses nothing.

use super::{Consumer, Inner, Settle};
use crate::{
    config::{ConsumerConfig, ProducerConfig},
    error::{ErrorKind, Result},
    message::{Delivery, ID_HEADER, KEY_HEADER, SendOptions},
    producer::Producer,
};
use serde_json::json;
use std::{
    sync::Arc,
    time::{Duration, SystemTime, UNIX_EPOCH},
};

/// How a handler ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Handled {
    /// It returned.
    Done,
    /// It raised; the text says what.
    Failed(String),
    /// It raised `Reject`: no retry will help.
    Rejected(String),
    /// It raised `RetryAfter`.
    RetryAfter(Duration),
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Ack,
    Retry(Duration),
    /// Not again, for this reason.
    End(String),
}

/// `attempt` counts from 1; `random` in 0..1 decides the jitter.
fn verdict(how: Handled, attempt: u64, config: &ConsumerConfig, random: f64) -> Verdict {
    let last = attempt >= config.max_deliver;
    let retry = |n: u64| config.backoff.delay(u32::try_from(n.saturating_sub(1)).unwrap_or(u32::MAX), random);
    match how {
        Handled::Done => Verdict::Ack,
        Handled::Rejected(reason) => Verdict::End(reason),
        Handled::Failed(reason) if last => Verdict::End(reason),
        Handled::Failed(_) => Verdict::Retry(retry(attempt)),
        Handled::RetryAfter(_) if last => {
            Verdict::End("asked for another retry after its last attempt".into())
        }
        Handled::RetryAfter(delay) => Verdict::Retry(delay),
    }
}

/// A text that can travel in a header.
fn header_text(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(1024).collect()
}

impl Consumer {
    /// Whether the handler may see this delivery. One whose attempt is above `max_deliver` (its last worker died)
    /// becomes a dead letter at once.
    pub fn admit(&self, d: &Delivery) -> bool {
        let over = self.inner.stream.is_some() && d.attempt() > self.inner.config.max_deliver;
        if over {
            let limit = self.inner.config.max_deliver;
            self.end(
                d,
                &format!("delivered {} times, and max_deliver is {limit}: its workers died", d.attempt()),
            );
        }
        !over
    }

    /// Settles a delivery by how its handler ended; a no-op in core mode.
    pub fn finish(&self, d: &Delivery, how: Handled) {
        if self.inner.stream.is_none() {
            return;
        }
        match verdict(how, d.attempt(), &self.inner.config, fastrand::f64()) {
            Verdict::Ack => drop(self.settle(d.token, &Settle::Ack)),
            Verdict::Retry(delay) => drop(self.settle(d.token, &Settle::Nak(Some(delay)))),
            Verdict::End(reason) => self.end(d, &reason),
        }
    }

    fn end(&self, d: &Delivery, reason: &str) {
        let reason = header_text(reason);
        if !self.inner.config.dead_letter {
            self.settle(d.token, &Settle::Term(Some(reason)));
            return;
        }
        let (this, d) = (self.clone(), d.clone());
        self.inner.shared.spawn(async move {
            match this.inner.store_dead_letter(&d, &reason).await {
                Ok(()) => {
                    this.inner.shared.metrics.dead_letters.add(1);
                    this.settle(d.token, &Settle::Term(Some(reason)));
                }
                Err(e) => {
                    // Not stored for certain: the message stays, and its next delivery tries again.
                    tracing::warn!(error = %e, topic = %d.topic, "a dead letter could not be stored");
                    this.settle(d.token, &Settle::Nak(Some(this.inner.config.backoff.max)));
                }
            }
        });
    }
}

impl Inner {
    async fn store_dead_letter(self: &Arc<Self>, d: &Delivery, reason: &str) -> Result<()> {
        let (Some(stream), Some(meta)) = (&self.stream, &d.meta) else { return Ok(()) };
        let producer = self.dead_letters.get_or_try_init(|| self.open_dead_letters(stream)).await?;
        let mut options = SendOptions {
            key: d.key().map(str::to_owned),
            // The same letter stored again after a crash is a duplicate.
            id: Some(format!("dlq.{stream}.{}.{}", self.config.group, meta.sequence)),
            ..SendOptions::default()
        };
        let mut put = |name: &str, value: String| options.headers.push((name.to_owned(), value));
        for (name, values) in d.headers.iter().flat_map(|h| h.iter()) {
            let name: &str = name.as_ref();
            // Ids, times to live and expectations are the original's; repeated, they would act on the letter.
            let acts = name.starts_with("Nats-")
                || name.eq_ignore_ascii_case(KEY_HEADER)
                || name.starts_with("Dlq-");
            if let (Some(value), false) = (values.first(), acts) {
                put(name, value.as_str().to_owned());
            }
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_millis());
        put("Dlq-Reason", reason.to_owned());
        put("Dlq-Attempts", d.attempt().to_string());
        put("Dlq-Topic", d.topic.to_string());
        put("Dlq-Group", self.config.group.clone());
        put("Dlq-Stream", stream.to_string());
        put("Dlq-Sequence", meta.sequence.to_string());
        put("Dlq-Time", now.to_string());
        if let Some(id) = d.header(ID_HEADER) {
            put("Dlq-Id", id.to_owned());
        }
        match producer.send(&d.body, options.clone()).await {
            // With our headers it may be over the limit: then the letter goes without the original's body and headers.
            Err(e) if e.kind() == ErrorKind::TooLarge => {
                options.headers.retain(|(name, _)| name.starts_with("Dlq-"));
                options.headers.push(("Dlq-Truncated".into(), d.body.len().to_string()));
                producer.send(b"", options).await.map(drop)
            }
            other => other.map(drop),
        }
    }

    async fn open_dead_letters(&self, stream: &str) -> Result<Producer> {
        self.shared.declare_dead_letters(stream).await?;
        let topic = format!("dlq.{stream}.{}", self.config.group);
        Producer::open(
            &self.shared,
            &topic,
            ProducerConfig { declare: Some(false), ..ProducerConfig::default() },
        )
    }
}

impl crate::bus::Shared {
    /// The stream of dead letters of a stream: `<STREAM>_DLQ`, by limits, kept for 30 days.
    async fn declare_dead_letters(&self, stream: &str) -> Result<()> {
        let (name, subject) = (format!("{stream}_DLQ"), format!("dlq.{stream}.>"));
        let config = json!({
            "name": name, "subjects": [subject], "storage": "file", "retention": "limits", "discard": "old",
            "max_age": 30 * 24 * 3600 * 1_000_000_000_u64, "num_replicas": self.config.replicas,
        });
        self.declare_stream_as(&name, &[subject], &config).await.map(drop)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts() {
        let config = ConsumerConfig { max_deliver: 3, ..ConsumerConfig::default() };
        let failed = || Handled::Failed("boom".into());
        let s = Duration::from_secs;
        for (how, attempt, want) in [
            (Handled::Done, 9, Verdict::Ack),
            (failed(), 1, Verdict::Retry(s(1))),
            (failed(), 2, Verdict::Retry(s(2))),
            (failed(), 3, Verdict::End("boom".into())),
            (Handled::RetryAfter(s(7)), 1, Verdict::Retry(s(7))),
            (Handled::Rejected("no".into()), 1, Verdict::End("no".into())),
        ] {
            assert_eq!(verdict(how.clone(), attempt, &config, 0.5), want, "{how:?} {attempt}");
        }
        assert!(matches!(verdict(Handled::RetryAfter(s(7)), 3, &config, 0.5), Verdict::End(_)));
    }

    #[test]
    fn reasons_fit_a_header() {
        assert_eq!(header_text("a\r\nb"), "a  b");
        assert_eq!(header_text(&"x".repeat(5000)).len(), 1024);
    }
}
