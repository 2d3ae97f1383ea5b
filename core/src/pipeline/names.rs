//! How generated ids, and the topics that answers come to, are written and read.
//!
//! Every durable message has one of each, so they are made without a formatter, and topics without an allocation.

use super::slot::SlotId;
use async_nats::Subject;
use bytes::BytesMut;
use slotmap::{Key, KeyData};
use std::sync::Arc;

const ARENA: usize = 64 * 1024;

/// Unique ids: random per connection object, then a number. The generator is a new one, for that of the process is copied
/// by a fork: its children would give the same ids, and the server would take their messages for duplicates.
#[derive(Clone, Debug)]
pub(super) struct Ids(Arc<str>);

impl Ids {
    pub(super) fn new() -> Self {
        Self(format!("{}.", nuid::NUID::new().next()).into())
    }

    pub(super) fn text(&self, number: u64) -> String {
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(number);
        let mut id = String::with_capacity(self.0.len() + digits.len());
        id.push_str(&self.0);
        id.push_str(digits);
        id
    }
}

/// The topics that answers come to, each below our inbox.
pub(super) struct Replies {
    prefix: String,
    arena: BytesMut,
}

impl Replies {
    pub(super) fn new(inbox: &str) -> Self {
        Self { prefix: format!("{inbox}."), arena: BytesMut::new() }
    }

    /// Where the answer to this slot's message comes to.
    pub(super) fn of(&mut self, id: SlotId) -> Subject {
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(id.data().as_ffi());
        let len = self.prefix.len() + digits.len();
        if self.arena.capacity() < len {
            self.arena.reserve(ARENA);
        }
        self.arena.extend_from_slice(self.prefix.as_bytes());
        self.arena.extend_from_slice(digits.as_bytes());
        let topic = self.arena.split().freeze();
        Subject::from_utf8(topic).unwrap_or_else(|_| format!("{}{digits}", self.prefix).into())
    }
}

/// The slot that an answer is for, by the last token of its topic.
pub(super) fn slot_of(token: &str) -> Option<SlotId> {
    token.parse::<u64>().ok().map(|n| SlotId::from(KeyData::from_ffi(n)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn answers_find_their_slot() {
        let mut replies = Replies::new("_INBOX.abc");
        for n in [1, 0xffff_ffff, (7 << 32) | 0xc, u64::MAX] {
            let id = SlotId::from(KeyData::from_ffi(n));
            let topic = replies.of(id);
            assert_eq!(topic.strip_prefix("_INBOX.abc.").and_then(slot_of), Some(id));
        }
        assert_eq!(slot_of("x"), None);
        assert_eq!(slot_of(""), None);
    }

    #[test]
    fn ids_differ() {
        let (a, b) = (Ids::new(), Ids::new());
        assert_ne!(a.text(1), b.text(1));
        assert_ne!(a.text(1), a.text(2));
        assert!(a.text(u64::MAX).len() <= crate::producer::LONGEST_ID.len());
    }
}
