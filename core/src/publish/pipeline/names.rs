//! How generated ids, and the topics that answers come to, are written and read.
//!
//! Every durable message has one of each, so they are made without a formatter, and topics without an allocation.

use super::slot::SlotId;
use async_nats::Subject;
use bytes::BytesMut;
use slotmap::{Key, KeyData};
use std::sync::Arc;

const ARENA: usize = 64 * 1024;
/// Begins the last token of a topic that is used again; that of a slot's own topic is a number.
const AGAIN: &str = "a";
/// The longest generated id, so that a message that passes our check for length passes the server's.
pub(crate) const LONGEST_ID: &str = "0123456789012345678901.18446744073709551615";

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

/// A topic that the answer to one message at a time comes to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Name {
    index: u32,
    round: u32,
}

/// The topics that answers come to, each below our inbox.
///
/// Those of acks are used again: a server knows the topics it has matched lately, and takes up to a fifth more messages
/// where the next ack goes to one of them. A name whose message may still be answered goes on with its next round.
pub(super) struct Names {
    prefix: String,
    arena: BytesMut,
    all: Vec<Lent>,
    free: Vec<u32>,
    /// Whether a message was answered twice: then no name is used again.
    twice: bool,
}

struct Lent {
    round: u32,
    slot: Option<SlotId>,
    topic: Subject,
}

impl Names {
    pub(super) fn new(inbox: &str) -> Self {
        let prefix = format!("{inbox}.");
        Self { prefix, arena: BytesMut::new(), all: Vec::new(), free: Vec::new(), twice: false }
    }

    /// Where answers to this slot's message come to, and to no other's ever.
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

    /// A name for the ack of this slot's message.
    pub(super) fn lend(&mut self, id: SlotId) -> Name {
        let index = self.free.pop().unwrap_or_else(|| {
            // As many as were ever under way at once, which a window bounds.
            let index = u32::try_from(self.all.len()).unwrap_or(u32::MAX);
            let topic = self.lent(index, 0);
            self.all.push(Lent { round: 0, slot: None, topic });
            index
        });
        if self.twice {
            self.renew(index);
        }
        let round = self.all.get_mut(index as usize).map_or(0, |lent| {
            lent.slot = Some(id);
            lent.round
        });
        Name { index, round }
    }

    pub(super) fn topic_of(&self, name: Name) -> Option<Subject> {
        self.all.get(name.index as usize).map(|lent| lent.topic.clone())
    }

    /// Its message has ended; `answered`: with an ack, and no other answer can come.
    pub(super) fn give_back(&mut self, name: Name, answered: bool) {
        if !answered {
            self.renew(name.index);
        }
        let Some(lent) = self.all.get_mut(name.index as usize) else { return };
        lent.slot = None;
        self.free.push(name.index);
    }

    /// From now on answers to its earlier topic find nobody.
    fn renew(&mut self, index: u32) {
        let Some(round) = self.all.get(index as usize).map(|lent| lent.round.wrapping_add(1)) else { return };
        let topic = self.lent(index, round);
        if let Some(lent) = self.all.get_mut(index as usize) {
            (lent.round, lent.topic) = (round, topic);
        }
    }

    /// The slot that an answer is for, by the last token of its topic.
    pub(super) fn slot(&mut self, token: &str) -> Option<SlotId> {
        let Some(digits) = token.strip_prefix(AGAIN) else { return slot_of(token) };
        let n = digits.parse::<u64>().ok()?;
        let lent = self.all.get(usize::try_from(n & u64::from(u32::MAX)).ok()?)?;
        if u64::from(lent.round) != n >> 32 {
            return None;
        }
        if lent.slot.is_none() && !self.twice {
            tracing::debug!("a message was answered twice: from now on each has a reply topic of its own");
            self.twice = true;
        }
        lent.slot
    }

    /// Not out of the arena: it is kept, and would keep a block of it.
    fn lent(&self, index: u32, round: u32) -> Subject {
        format!("{}{AGAIN}{}", self.prefix, u64::from(round) << 32 | u64::from(index)).into()
    }
}

/// The slot whose own topic this is, by its last token.
pub(super) fn slot_of(token: &str) -> Option<SlotId> {
    token.parse::<u64>().ok().map(|n| SlotId::from(KeyData::from_ffi(n)))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    fn slot(n: u64) -> SlotId {
        SlotId::from(KeyData::from_ffi((1 << 32) | n))
    }

    fn token(names: &Names, name: Name) -> String {
        names.topic_of(name).unwrap().strip_prefix("_INBOX.abc.").unwrap().to_owned()
    }

    #[test]
    fn answers_find_their_slot() {
        let mut names = Names::new("_INBOX.abc");
        for n in [1, 0xffff_ffff, (7 << 32) | 0xc, u64::MAX] {
            let id = SlotId::from(KeyData::from_ffi(n));
            let topic = names.of(id);
            let token = topic.strip_prefix("_INBOX.abc.").unwrap();
            assert_eq!((names.slot(token), slot_of(token)), (Some(id), Some(id)));
        }
        for broken in ["x", "", "a", "ax", "a0", "a99999999999999999999"] {
            assert_eq!(names.slot(broken), None);
        }
    }

    #[test]
    fn a_name_is_used_again_once_its_message_has_its_only_answer() {
        let mut names = Names::new("_INBOX.abc");
        let (one, two) = (names.lend(slot(1)), names.lend(slot(2)));
        let (a, b) = (token(&names, one), token(&names, two));
        assert_eq!((names.slot(&a), names.slot(&b)), (Some(slot(1)), Some(slot(2))));
        names.give_back(one, true);
        let again = names.lend(slot(3));
        assert_eq!((token(&names, again), names.slot(&a)), (a.clone(), Some(slot(3))));
        // This one may be answered yet: the next message has another topic, and the late answer finds nobody.
        names.give_back(again, false);
        let other = names.lend(slot(4));
        assert_ne!(token(&names, other), a);
        assert_eq!((names.slot(&a), names.slot(&token(&names, other))), (None, Some(slot(4))));
        names.give_back(other, true);
    }

    #[test]
    fn where_a_message_is_answered_twice_no_name_is_used_again() {
        let mut names = Names::new("_INBOX.abc");
        let (one, two) = (names.lend(slot(1)), names.lend(slot(2)));
        let mut seen = HashSet::from([token(&names, one), token(&names, two)]);
        let a = token(&names, one);
        names.give_back(two, true);
        names.give_back(one, true);
        assert_eq!(names.slot(&a), None, "the second answer");
        for n in 3..10 {
            let name = names.lend(slot(n));
            assert!(seen.insert(token(&names, name)), "{seen:?}");
            // Only every other one is over before the next begins.
            if n % 2 == 0 {
                names.give_back(name, true);
            }
        }
    }

    #[test]
    fn ids_differ() {
        let (a, b) = (Ids::new(), Ids::new());
        assert_ne!(a.text(1), b.text(1));
        assert_ne!(a.text(1), a.text(2));
        assert!(a.text(u64::MAX).len() <= LONGEST_ID.len());
    }
}
