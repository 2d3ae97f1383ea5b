//! Core messages on their way: one batch of bodies end to end, without a slot or a reference count each.
//!
//! A reference count that one thread raises and another lowers costs more than everything else in such a send.

use async_nats::Subject;
use bytes::Bytes;

/// A larger body goes alone: growing the batch would copy it again.
pub(super) const LARGEST: usize = 16 * 1024;

/// The batch that senders fill.
#[derive(Debug, Default)]
pub(super) struct BatchBuilder {
    number: u64,
    bytes: Vec<u8>,
    messages: Vec<(u32, u32)>,
    topics: Vec<Subject>,
}

/// The index of a producer's topic in a batch.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct TopicIndex {
    batch: u64,
    topic: u32,
}

impl BatchBuilder {
    pub(super) fn new() -> Self {
        Self { number: 1, ..Self::default() }
    }

    pub(super) fn push(&mut self, topic: &Subject, index: &mut TopicIndex, body: &[u8]) {
        if index.batch != self.number {
            *index = TopicIndex {
                batch: self.number,
                topic: u32::try_from(self.topics.len()).unwrap_or(u32::MAX),
            };
            self.topics.push(topic.clone());
        }
        self.bytes.extend_from_slice(body);
        self.messages.push((index.topic, u32::try_from(body.len()).unwrap_or(u32::MAX)));
    }

    /// Returns the batch so far. The next batch starts with as much capacity.
    pub(super) fn take(&mut self) -> Batch {
        let capacity = |n: usize| n + n / 4;
        let next = Self {
            number: self.number + 1,
            bytes: Vec::with_capacity(capacity(self.bytes.len())),
            messages: Vec::with_capacity(capacity(self.messages.len())),
            topics: Vec::new(),
        };
        let full = std::mem::replace(self, next);
        Batch { bytes: full.bytes.into(), messages: full.messages.into_iter(), topics: full.topics }
    }
}

/// The batch that the writer empties.
#[derive(Debug, Default)]
pub(super) struct Batch {
    bytes: Bytes,
    messages: std::vec::IntoIter<(u32, u32)>,
    topics: Vec<Subject>,
}

impl Iterator for Batch {
    type Item = (Subject, Bytes);

    fn next(&mut self) -> Option<Self::Item> {
        let (topic, len) = self.messages.next()?;
        let topic = self.topics.get(topic as usize)?.clone();
        Some((topic, self.bytes.split_to((len as usize).min(self.bytes.len()))))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn messages_come_out_as_they_went_in() {
        let mut builder = BatchBuilder::new();
        let (a, b) = (Subject::from_static("a"), Subject::from_static("b"));
        let (mut at_a, mut at_b) = (TopicIndex::default(), TopicIndex::default());
        for round in 0..3 {
            builder.push(&a, &mut at_a, b"one");
            builder.push(&b, &mut at_b, b"");
            builder.push(&a, &mut at_a, format!("{round}").as_bytes());
            let out: Vec<_> = builder.take().map(|(t, b)| (t.to_string(), b.to_vec())).collect();
            let want = [("a", "one".to_owned()), ("b", String::new()), ("a", round.to_string())];
            assert_eq!(out, want.map(|(t, b)| (t.to_owned(), b.into_bytes())));
        }
        assert!(builder.take().next().is_none());
    }
}
