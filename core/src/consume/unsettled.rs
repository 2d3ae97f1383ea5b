//! The deliveries whose end is still to come, and what is known of each. No I/O.
//!
//! Owns the counts that follow from them: what takes up the prefetch, in messages and bytes; what handlers have; what
//! must be examined before a handler sees it.

use super::lanes::LaneId;
use async_nats::Subject;
use slotmap::{Key, KeyData, SlotMap, new_key_type};
use std::{
    collections::HashMap,
    time::{Duration, Instant},
};

new_key_type! { pub(super) struct UnsettledId; }

pub(super) fn id_of(token: u64) -> UnsettledId {
    UnsettledId::from(KeyData::from_ffi(token))
}

/// What identifies a message across its deliveries: its sequence, and that of its replay.
pub(super) type Known = (u64, Option<u64>);

/// What must happen before a handler may have a redelivered message.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum Gate {
    /// Nothing.
    Open,
    /// What handlers did to it so far must be looked up.
    Unexamined,
    /// It must run alone, and its start must be stored first.
    Alone,
    /// It must run alone, and its start is stored.
    Marked,
    /// No handler may have it: it becomes a dead letter, for this reason.
    Over(String),
}

/// A delivery whose end is still to come.
#[derive(Debug)]
pub(super) struct Unsettled {
    pub(super) ack: Subject,
    /// When it was handed out; none while it waits here.
    pub(super) begun: Option<Instant>,
    pub(super) extended: Instant,
    pub(super) known: Known,
    pub(super) attempt: u64,
    /// How often handlers failed on it before this delivery, as far as that is known.
    pub(super) failures: u64,
    pub(super) gate: Gate,
    pub(super) lane: Option<LaneId>,
    /// Whether its handler took too long: that is being recorded.
    overdue: bool,
    /// Whether it takes up a place of the prefetch.
    counted: bool,
    size: usize,
}

impl Unsettled {
    pub(super) fn new(ack: Subject, now: Instant, known: Known, attempt: u64, size: usize) -> Self {
        Self {
            ack,
            begun: None,
            extended: now,
            known,
            attempt,
            failures: 0,
            gate: Gate::Open,
            lane: None,
            overdue: false,
            counted: true,
            size,
        }
    }

    fn is_suspect(&self) -> bool {
        matches!(self.gate, Gate::Unexamined | Gate::Alone)
    }

    /// Whether the time that a handler may have it is over.
    fn is_over(&self, now: Instant, cap: Duration) -> bool {
        self.begun.is_some_and(|at| now.duration_since(at) >= cap)
    }
}

/// All of one consumer.
#[derive(Debug, Default)]
pub(super) struct Table {
    all: SlotMap<UnsettledId, Unsettled>,
    /// Those that take up the prefetch, and their bytes.
    counted: usize,
    bytes: usize,
    /// Those that are handed out.
    out: usize,
    /// Those to be examined, or to run alone; and all that handlers may not have just so.
    suspects: usize,
    gated: usize,
    /// Places of the prefetch that became free since the pace was last measured.
    used: usize,
}

impl Table {
    pub(super) fn counted(&self) -> usize {
        self.counted
    }
    pub(super) fn bytes(&self) -> usize {
        self.bytes
    }
    pub(super) fn out(&self) -> usize {
        self.out
    }
    pub(super) fn suspects(&self) -> usize {
        self.suspects
    }
    pub(super) fn gated(&self) -> usize {
        self.gated
    }
    pub(super) fn is_empty(&self) -> bool {
        self.all.is_empty()
    }
    pub(super) fn take_used(&mut self) -> usize {
        std::mem::take(&mut self.used)
    }
    pub(super) fn get(&self, id: UnsettledId) -> Option<&Unsettled> {
        self.all.get(id)
    }
    pub(super) fn ids(&self) -> HashMap<Known, UnsettledId> {
        self.all.iter().map(|(id, u)| (u.known, id)).collect()
    }

    /// Takes one in; its token.
    pub(super) fn insert(&mut self, u: Unsettled) -> u64 {
        self.counted += 1;
        self.bytes += u.size;
        self.suspects += usize::from(u.is_suspect());
        self.gated += usize::from(u.gate != Gate::Open);
        self.all.insert(u).data().as_ffi()
    }

    pub(super) fn remove(&mut self, id: UnsettledId) -> Option<Unsettled> {
        self.count(id, false);
        let u = self.all.remove(id)?;
        self.out -= usize::from(u.begun.is_some());
        self.suspects -= usize::from(u.is_suspect());
        self.gated -= usize::from(u.gate != Gate::Open);
        Some(u)
    }

    /// Whether it takes up a place of the prefetch from now on.
    pub(super) fn count(&mut self, id: UnsettledId, counted: bool) {
        let Some(u) = self.all.get_mut(id).filter(|u| u.counted != counted) else { return };
        u.counted = counted;
        if counted {
            self.counted += 1;
            self.bytes += u.size;
        } else {
            self.counted -= 1;
            self.bytes -= u.size;
            self.used += 1;
        }
    }

    /// What is handed out takes up the prefetch no longer.
    pub(super) fn uncount_begun(&mut self) {
        let begun: Vec<_> = self.all.iter().filter(|(_, u)| u.begun.is_some()).map(|(id, _)| id).collect();
        begun.into_iter().for_each(|id| self.count(id, false));
    }

    /// It is handed out, and takes up the prefetch from now on or not; how often handlers failed on it before.
    pub(super) fn begin(&mut self, id: UnsettledId, now: Instant, counted: bool) -> u64 {
        let Some(u) = self.all.get_mut(id) else { return 0 };
        self.out += usize::from(u.begun.is_none());
        u.begun = Some(now);
        if u.counted && !counted {
            u.counted = false;
            self.counted -= 1;
            self.bytes -= u.size;
            self.used += 1;
        }
        u.failures
    }

    /// It is here again, and was not begun.
    pub(super) fn end_begun(&mut self, id: UnsettledId) {
        if let Some(u) = self.all.get_mut(id) {
            self.out -= usize::from(u.begun.take().is_some());
        }
    }

    /// What was found out of it.
    pub(super) fn set_gate(&mut self, id: UnsettledId, gate: Gate, failures: u64) {
        if let Some(u) = self.all.get_mut(id) {
            let was = (u.is_suspect(), u.gate != Gate::Open);
            (u.gate, u.failures) = (gate, failures);
            self.suspects = self.suspects + usize::from(u.is_suspect()) - usize::from(was.0);
            self.gated = self.gated + usize::from(u.gate != Gate::Open) - usize::from(was.1);
        }
    }

    /// It came again while it is here: its new delivery is the one to settle. The time of a handler that has had it for
    /// longer than `cap` is not renewed by that.
    pub(super) fn adopt(
        &mut self,
        id: UnsettledId,
        ack: &Subject,
        attempt: u64,
        now: Instant,
        cap: Duration,
    ) {
        if let Some(u) = self.all.get_mut(id) {
            (u.ack, u.attempt) = (ack.clone(), attempt);
            if !u.is_over(now, cap) {
                u.extended = now;
            }
        }
    }

    /// Its worker says that it is still at work: the subject to say it to.
    pub(super) fn extend(&mut self, id: UnsettledId, now: Instant) -> Option<Subject> {
        let u = self.all.get_mut(id)?;
        u.extended = now;
        Some(u.ack.clone())
    }

    /// The deliveries to keep from redelivery now: quiet for `quiet`, and not with a handler for longer than `cap`.
    pub(super) fn extend_quiet(&mut self, now: Instant, quiet: Duration, cap: Duration) -> Vec<Subject> {
        let due = |u: &&mut Unsettled| now.duration_since(u.extended) >= quiet && !u.is_over(now, cap);
        let extend = |u: &mut Unsettled| {
            u.extended = now;
            u.ack.clone()
        };
        self.all.values_mut().filter(due).map(extend).collect()
    }

    /// Those whose handlers have had them for `cap`, each once.
    pub(super) fn overdue(&mut self, now: Instant, cap: Duration) -> Vec<(u64, Known, u64, u64)> {
        let over = |u: &mut Unsettled| {
            let over = !u.overdue && u.is_over(now, cap);
            u.overdue |= over;
            over
        };
        let all = self.all.iter_mut();
        all.filter_map(|(id, u)| over(u).then(|| (id.data().as_ffi(), u.known, u.attempt, u.failures)))
            .collect()
    }

    /// Those that wait here and could not be extended within their ack wait: the server gives them to others.
    pub(super) fn stale(&self, now: Instant, ack_wait: Duration) -> Vec<u64> {
        let stale = |u: &Unsettled| u.begun.is_none() && now.duration_since(u.extended) >= ack_wait;
        self.all.iter().filter(|(_, u)| stale(u)).map(|(id, _)| id.data().as_ffi()).collect()
    }

    /// Those whose history must be looked up, up to `max`.
    pub(super) fn unexamined(&self, max: usize) -> Vec<(u64, Known, u64)> {
        if self.suspects == 0 {
            return Vec::new();
        }
        let all = self.all.iter().filter(|(_, u)| u.gate == Gate::Unexamined);
        all.map(|(id, u)| (id.data().as_ffi(), u.known, u.attempt)).take(max).collect()
    }
}
