//! The writer's queue, and when it is worth a write.
//!
//! Owns the order of what leaves, the bodies of core messages and the count of their bytes.

use super::{
    core_batch::{Batch, BatchBuilder, TopicIndex},
    keys::SlotId,
    outbound::Outbound,
};
use async_nats::Subject;

/// Deferrable messages that together are worth a write.
const WORTH_A_WRITE: usize = 64;
/// What a queued core message costs besides its body.
const OVERHEAD: usize = 64;

/// An entry of the writer's queue.
#[derive(Debug)]
pub(super) enum Queued {
    /// A message with a slot, which an answer or the hand-over ends.
    Slot(SlotId),
    /// A message without a slot: an ack, a pull request, a core message sent while connected.
    Unanswered { message: Outbound, reply: Option<Subject> },
    /// The next `n` core messages of the batch.
    Core(usize),
}

/// Whether the writer may wait a moment, so that many messages become one write.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Urgency {
    Now,
    Deferrable,
}

#[derive(Debug)]
pub(super) struct Outbox {
    queue: Vec<Queued>,
    /// Whether an entry of the queue must not wait.
    urgent: bool,
    /// The bodies of the entries `Queued::Core`.
    core: BatchBuilder,
    /// Bytes of queued core messages. Only the writer's pace bounds them.
    core_bytes: usize,
}

impl Outbox {
    pub(super) fn new() -> Self {
        Self { queue: Vec::new(), urgent: false, core: BatchBuilder::new(), core_bytes: 0 }
    }

    #[cfg(test)]
    pub(super) fn len(&self) -> usize {
        self.queue.len()
    }
    pub(super) fn is_empty(&self) -> bool {
        self.queue.is_empty()
    }
    pub(super) fn core_bytes(&self) -> usize {
        self.core_bytes
    }
    /// Whether the writer must not wait for more.
    pub(super) fn must_write_now(&self) -> bool {
        self.urgent || self.queue.len() >= WORTH_A_WRITE
    }

    pub(super) fn push(&mut self, entry: Queued, urgency: Urgency) {
        self.queue.push(entry);
        self.urgent |= urgency == Urgency::Now;
    }

    /// Queues a core message without a slot.
    pub(super) fn push_core(&mut self, message: Outbound) {
        self.core_bytes += message.body.len() + OVERHEAD;
        self.push(Queued::Unanswered { message, reply: None }, Urgency::Now);
    }

    /// Queues a core message that is only a body, without a slot or an allocation.
    pub(super) fn push_core_body(&mut self, topic: &Subject, index: &mut TopicIndex, body: &[u8]) {
        self.core.push(topic, index, body);
        self.core_bytes += body.len() + OVERHEAD;
        match self.queue.last_mut() {
            Some(Queued::Core(n)) => *n += 1,
            _ => self.push(Queued::Core(1), Urgency::Now),
        }
    }

    /// Moves the whole queue into `into`, which must be empty, and returns the bodies of its core messages.
    pub(super) fn take(&mut self, into: &mut Vec<Queued>) -> Batch {
        std::mem::swap(&mut self.queue, into);
        (self.core_bytes, self.urgent) = (0, false);
        self.core.take()
    }

    /// Puts entries back in front of the queue.
    pub(super) fn put_back(&mut self, front: Vec<Queued>) {
        self.urgent |= !front.is_empty();
        self.queue.splice(0..0, front);
    }

    pub(super) fn retain(&mut self, keep: impl FnMut(&Queued) -> bool) {
        self.queue.retain(keep);
    }
    pub(super) fn clear(&mut self) {
        self.queue.clear();
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn deferrable_messages_wait_until_they_are_worth_a_write() {
        let mut outbox = Outbox::new();
        (1..WORTH_A_WRITE).for_each(|n| outbox.push(Queued::Core(n), Urgency::Deferrable));
        assert!(!outbox.must_write_now());
        outbox.push(Queued::Core(WORTH_A_WRITE), Urgency::Deferrable);
        assert!(outbox.must_write_now());
    }
}
