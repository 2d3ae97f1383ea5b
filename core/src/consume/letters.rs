//! Making a dead letter: the message with why it is one, stored and confirmed.

use super::Inner;
use crate::{
    config::ProducerConfig,
    dead_letters::{
        ATTEMPTS, FAILURES, GROUP, ID, REASON, SEQUENCE, STREAM, TIME, TOPIC, TRUNCATED, is_ours,
    },
    error::{ErrorKind, Result},
    jetstream::names::letters_topic,
    message::{Delivery, Meta, SendOptions},
    publish::{Declares, Producer},
};
use std::time::{SystemTime, UNIX_EPOCH};

/// The letter's id: the same letter stored again after a crash is a duplicate, and one that failed again after a replay
/// is another letter.
fn letter_id(stream: &str, group: &str, meta: &Meta) -> String {
    let again = meta.replay.map_or_else(String::new, |n| format!(".r{n}"));
    format!("dlq.{stream}.{group}.{}{again}", meta.sequence)
}

impl Inner {
    /// Ends when the letter is stored for certain.
    pub(super) async fn store_dead_letter(&self, d: &Delivery, reason: &str) -> Result<()> {
        let (Some(stream), Some(meta)) = (&self.stream, &d.meta) else { return Ok(()) };
        let group = &self.config.group;
        let producer = self.dead_letters.get_or_try_init(|| async { self.open_dead_letters(stream) }).await?;
        let mut options = SendOptions {
            key: d.key().map(str::to_owned),
            id: Some(letter_id(stream, group, meta)),
            ..SendOptions::default()
        };
        let mut put = |name: &str, value: String| options.headers.push((name.to_owned(), value));
        for (name, values) in d.headers.iter().flat_map(|h| h.iter()) {
            let name: &str = name.as_ref();
            // Ids, times to live and expectations are the original's; repeated, they would act on the letter.
            if let (Some(value), false) = (values.first(), is_ours(name)) {
                put(name, value.as_str().to_owned());
            }
        }
        let now = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_millis());
        put(REASON, reason.to_owned());
        put(ATTEMPTS, d.attempt().to_string());
        put(FAILURES, d.failures.to_string());
        put(TOPIC, d.topic.to_string());
        put(GROUP, group.clone());
        put(STREAM, stream.to_string());
        put(SEQUENCE, meta.sequence.to_string());
        put(TIME, now.to_string());
        if let Some(id) = d.id() {
            put(ID, id.to_owned());
        }
        match producer.send(&d.body, options.clone()).await {
            // With our headers it may be over the limit: then the letter goes without the original's body and headers.
            Err(e) if e.kind() == ErrorKind::TooLarge => {
                options.headers.retain(|(name, _)| is_ours(name));
                options.headers.push((TRUNCATED.into(), d.body.len().to_string()));
                producer.send(b"", options).await.map(drop)
            }
            other => other.map(drop),
        }
    }

    fn open_dead_letters(&self, stream: &str) -> Result<Producer> {
        let topic = letters_topic(stream, &self.config.group);
        let declares = Declares::Letters(stream.into());
        Producer::open_for(&self.shared, &topic, ProducerConfig::default(), declares)
    }
}
