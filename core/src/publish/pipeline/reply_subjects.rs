//! The reply subjects that answers arrive on, all below our inbox.
//!
//! Every durable message has one, so a reply subject is made without a formatter and, when it is reused, without an
//! allocation.

use super::keys::SlotId;
use async_nats::Subject;
use bytes::BytesMut;
use slotmap::{Key, KeyData};

const ARENA: usize = 64 * 1024;
/// Starts the last token of a reusable reply subject. The last token of a one-off reply subject is a number.
const REUSABLE: &str = "a";

/// A reusable reply subject, assigned to one message at a time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct ReplySubject {
    index: u32,
    generation: u32,
}

/// Whether an answer to a message that has ended may still come.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum LateAnswer {
    Possible,
    Impossible,
}

/// The reply subjects of one connection object.
///
/// Reply subjects of acks are reused: a server caches the subjects it has matched, and takes up to a fifth more messages
/// when the next ack goes to a cached subject. A subject on which a late answer may arrive gets a new generation.
pub(super) struct ReplySubjects {
    prefix: String,
    arena: BytesMut,
    all: Vec<Entry>,
    free: Vec<u32>,
    /// Whether one message was answered twice. From then on no reply subject is reused.
    answered_twice: bool,
}

struct Entry {
    generation: u32,
    slot: Option<SlotId>,
    subject: Subject,
}

impl ReplySubjects {
    pub(super) fn new(inbox: &str) -> Self {
        let prefix = format!("{inbox}.");
        Self { prefix, arena: BytesMut::new(), all: Vec::new(), free: Vec::new(), answered_twice: false }
    }

    /// The one-off reply subject of a slot.
    pub(super) fn one_off(&mut self, id: SlotId) -> Subject {
        let mut digits = itoa::Buffer::new();
        let digits = digits.format(id.data().as_ffi());
        let len = self.prefix.len() + digits.len();
        if self.arena.capacity() < len {
            self.arena.reserve(ARENA);
        }
        self.arena.extend_from_slice(self.prefix.as_bytes());
        self.arena.extend_from_slice(digits.as_bytes());
        let subject = self.arena.split().freeze();
        Subject::from_utf8(subject).unwrap_or_else(|_| format!("{}{digits}", self.prefix).into())
    }

    /// Assigns a reusable reply subject to the ack of a slot.
    pub(super) fn assign(&mut self, id: SlotId) -> ReplySubject {
        let index = self.free.pop().unwrap_or_else(|| {
            // The windows bound this: there is one entry for each message that was ever under way at once.
            let index = u32::try_from(self.all.len()).unwrap_or(u32::MAX);
            let subject = self.reusable(index, 0);
            self.all.push(Entry { generation: 0, slot: None, subject });
            index
        });
        if self.answered_twice {
            self.renew(index);
        }
        let generation = self.all.get_mut(index as usize).map_or(0, |entry| {
            entry.slot = Some(id);
            entry.generation
        });
        ReplySubject { index, generation }
    }

    pub(super) fn subject(&self, of: ReplySubject) -> Option<Subject> {
        self.all.get(of.index as usize).map(|entry| entry.subject.clone())
    }

    /// Releases the reply subject of a message that has ended.
    pub(super) fn release(&mut self, subject: ReplySubject, late: LateAnswer) {
        if late == LateAnswer::Possible {
            self.renew(subject.index);
        }
        let Some(entry) = self.all.get_mut(subject.index as usize) else { return };
        entry.slot = None;
        self.free.push(subject.index);
    }

    /// Gives an entry a new generation, so that late answers to the old one match no slot.
    fn renew(&mut self, index: u32) {
        let Some(generation) = self.all.get(index as usize).map(|entry| entry.generation.wrapping_add(1))
        else {
            return;
        };
        let subject = self.reusable(index, generation);
        if let Some(entry) = self.all.get_mut(index as usize) {
            (entry.generation, entry.subject) = (generation, subject);
        }
    }

    /// The slot that an answer belongs to, from the last token of its subject.
    pub(super) fn slot(&mut self, token: &str) -> Option<SlotId> {
        let Some(digits) = token.strip_prefix(REUSABLE) else { return slot_of(token) };
        let n = digits.parse::<u64>().ok()?;
        let entry = self.all.get(usize::try_from(n & u64::from(u32::MAX)).ok()?)?;
        if u64::from(entry.generation) != n >> 32 {
            return None;
        }
        if entry.slot.is_none() && !self.answered_twice {
            tracing::debug!("a message was answered twice: each message now has a reply subject of its own");
            self.answered_twice = true;
        }
        entry.slot
    }

    /// Allocates outside the arena: a reusable subject lives long, and would keep a whole arena block alive.
    fn reusable(&self, index: u32, generation: u32) -> Subject {
        format!("{}{REUSABLE}{}", self.prefix, u64::from(generation) << 32 | u64::from(index)).into()
    }
}

/// The slot of a one-off reply subject, from its last token.
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

    fn token(subjects: &ReplySubjects, of: ReplySubject) -> String {
        subjects.subject(of).unwrap().strip_prefix("_INBOX.abc.").unwrap().to_owned()
    }

    #[test]
    fn answers_find_their_slot() {
        let mut subjects = ReplySubjects::new("_INBOX.abc");
        for n in [1, 0xffff_ffff, (7 << 32) | 0xc, u64::MAX] {
            let id = SlotId::from(KeyData::from_ffi(n));
            let subject = subjects.one_off(id);
            let token = subject.strip_prefix("_INBOX.abc.").unwrap();
            assert_eq!((subjects.slot(token), slot_of(token)), (Some(id), Some(id)));
        }
        for broken in ["x", "", "a", "ax", "a0", "a99999999999999999999"] {
            assert_eq!(subjects.slot(broken), None);
        }
    }

    #[test]
    fn a_subject_is_reused_after_the_only_answer_to_its_message() {
        let mut subjects = ReplySubjects::new("_INBOX.abc");
        let (one, two) = (subjects.assign(slot(1)), subjects.assign(slot(2)));
        let (a, b) = (token(&subjects, one), token(&subjects, two));
        assert_eq!((subjects.slot(&a), subjects.slot(&b)), (Some(slot(1)), Some(slot(2))));
        subjects.release(one, LateAnswer::Impossible);
        let again = subjects.assign(slot(3));
        assert_eq!((token(&subjects, again), subjects.slot(&a)), (a.clone(), Some(slot(3))));
        // A late answer may still come, so the next message gets another subject and the late answer matches no slot.
        subjects.release(again, LateAnswer::Possible);
        let other = subjects.assign(slot(4));
        assert_ne!(token(&subjects, other), a);
        let other_token = token(&subjects, other);
        assert_eq!((subjects.slot(&a), subjects.slot(&other_token)), (None, Some(slot(4))));
        subjects.release(other, LateAnswer::Impossible);
    }

    #[test]
    fn no_subject_is_reused_once_a_message_was_answered_twice() {
        let mut subjects = ReplySubjects::new("_INBOX.abc");
        let (one, two) = (subjects.assign(slot(1)), subjects.assign(slot(2)));
        let mut seen = HashSet::from([token(&subjects, one), token(&subjects, two)]);
        let a = token(&subjects, one);
        subjects.release(two, LateAnswer::Impossible);
        subjects.release(one, LateAnswer::Impossible);
        assert_eq!(subjects.slot(&a), None, "the second answer");
        for n in 3..10 {
            let subject = subjects.assign(slot(n));
            assert!(seen.insert(token(&subjects, subject)), "{seen:?}");
            // Only every second message ends before the next one starts.
            if n % 2 == 0 {
                subjects.release(subject, LateAnswer::Impossible);
            }
        }
    }
}
