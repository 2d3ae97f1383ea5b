//! Core messages on their way: the bodies of a batch one after the other, without a slot or a reference count each.
//!
//! A count that one thread raises and another lowers costs more than all the rest of such a send.

use async_nats::Subject;
use bytes::Bytes;

/// Larger bodies go alone: growing the batch would copy them again.
pub(super) const LARGEST: usize = 16 * 1024;

/// The batch that senders fill.
#[derive(Debug, Default)]
pub(super) struct Filling {
    number: u64,
    bytes: Vec<u8>,
    messages: Vec<(u32, u32)>,
    topics: Vec<Subject>,
}

/// Where a producer's topic stands in a batch.
#[derive(Clone, Copy, Debug, Default)]
pub(super) struct Place {
    batch: u64,
    topic: u32,
}

impl Filling {
    pub(super) fn new() -> Self {
        Self { number: 1, ..Self::default() }
    }

    pub(super) fn push(&mut self, topic: &Subject, place: &mut Place, body: &[u8]) {
        if place.batch != self.number {
            *place =
                Place { batch: self.number, topic: u32::try_from(self.topics.len()).unwrap_or(u32::MAX) };
            self.topics.push(topic.clone());
        }
        self.bytes.extend_from_slice(body);
        self.messages.push((place.topic, u32::try_from(body.len()).unwrap_or(u32::MAX)));
    }

    /// The batch so far; the next one begins with as much room.
    pub(super) fn take(&mut self) -> Batch {
        let room = |n: usize| n + n / 4;
        let next = Self {
            number: self.number + 1,
            bytes: Vec::with_capacity(room(self.bytes.len())),
            messages: Vec::with_capacity(room(self.messages.len())),
            topics: Vec::new(),
        };
        let full = std::mem::replace(self, next);
        Batch { bytes: full.bytes.into(), messages: full.messages.into_iter(), topics: full.topics }
    }
}

/// A batch that the writer empties.
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
        let mut filling = Filling::new();
        let (a, b) = (Subject::from_static("a"), Subject::from_static("b"));
        let (mut at_a, mut at_b) = (Place::default(), Place::default());
        for round in 0..3 {
            filling.push(&a, &mut at_a, b"one");
            filling.push(&b, &mut at_b, b"");
            filling.push(&a, &mut at_a, format!("{round}").as_bytes());
            let out: Vec<_> = filling.take().map(|(t, b)| (t.to_string(), b.to_vec())).collect();
            let want = [("a", "one".to_owned()), ("b", String::new()), ("a", round.to_string())];
            assert_eq!(out, want.map(|(t, b)| (t.to_owned(), b.into_bytes())));
        }
        assert!(filling.take().next().is_none());
    }
}
