//! What handlers did to a message before it came again, and what must run alone.

use super::{
    Buffer,
    suspects::{Front, Start},
};
use crate::{
    consume::{
        history::Record,
        unsettled::{Gate, Known, id_of},
    },
    host::mailbox::Post,
    message::Delivery,
};
use std::time::{Duration, Instant};

/// Failures of this process that are remembered, so that a retry that comes back needs no look at the records.
const REMEMBERED: usize = 4096;

impl Buffer {
    /// What this process knows of a message that comes again: all, where it failed here the last time.
    pub(super) fn gate_of(&self, known: Known, attempt: u64) -> (Gate, u64) {
        match self.failed.get(&known) {
            Some(r) if r.attempt + 1 == attempt => (Gate::Open, r.failures),
            _ => (Gate::Unexamined, 0),
        }
    }

    pub(super) fn front(&self) -> Front {
        let Some(d) = self.queue.front() else { return Front::Held };
        if !self.handlers || (self.alone.is_none() && d.attempt() <= 1) {
            return Front::Free;
        }
        let id = id_of(d.token);
        let Some(u) = self.unsettled.get(id) else { return Front::Free };
        match (&u.gate, self.alone) {
            (Gate::Marked, Some(alone)) if alone == id => Front::Free,
            (_, Some(_)) => Front::Held,
            (Gate::Open | Gate::Marked, None) => Front::Free,
            (Gate::Over(_), None) => Front::Over,
            (Gate::Unexamined | Gate::Alone, None) => Front::Held,
        }
    }

    /// How often handlers failed on it before, as far as this process knows.
    pub(in crate::consume) fn record_of(&self, d: &Delivery) -> Option<Record> {
        let meta = d.meta.as_ref()?;
        let u = self.unsettled.get(id_of(d.token))?;
        // What is remembered of an earlier life of the durable says nothing.
        let known = self.failed.get(&(meta.sequence, meta.replay)).filter(|r| r.attempt < u.attempt);
        let mut record = known.cloned().unwrap_or_default();
        record.failures = record.failures.max(u.failures).max(d.failures);
        record.attempt = u.attempt;
        Some(record)
    }

    pub(in crate::consume) fn remember(&mut self, known: Known, record: Record) {
        if self.failed.len() >= REMEMBERED
            && let Some(any) = self.failed.keys().next().copied()
        {
            self.failed.remove(&any);
        }
        self.failed.insert(known, record);
    }

    /// Messages whose handlers have had them for `cap`, and what is known of each.
    pub(in crate::consume) fn overdue(&mut self, now: Instant, cap: Duration) -> Vec<(u64, Known, Record)> {
        if !self.handlers {
            return Vec::new();
        }
        let record = |known, attempt, failures: u64| {
            let before = self.failed.get(&known).cloned().unwrap_or_default();
            Record { failures: before.failures.max(failures), attempt, ..before }
        };
        let all = self.unsettled.overdue(now, cap);
        all.into_iter()
            .map(|(token, known, attempt, failures)| (token, known, record(known, attempt, failures)))
            .collect()
    }

    /// The state of a message before its delivery, as it was found out.
    pub(in crate::consume) fn record_at(&self, token: u64) -> Record {
        let known = self.unsettled.get(id_of(token)).map(|u| u.known);
        known.and_then(|k| self.failed.get(&k)).cloned().unwrap_or_default()
    }

    /// The record that takes back the mark of the message that runs alone, or is about to.
    pub(in crate::consume) fn unmarked(&self, token: u64) -> Option<(Known, Record)> {
        let id = id_of(token);
        let u = self.unsettled.get(id).filter(|_| self.alone == Some(id))?;
        Some((u.known, Record { attempt: u.attempt, ..self.record_at(token) }))
    }

    /// The message that was to run alone must wait.
    pub(in crate::consume) fn not_alone(&mut self) {
        self.alone = None;
    }

    /// Whether the first message is to run alone, and can.
    pub(in crate::consume) fn may_run_alone(&self) -> bool {
        let first = self.queue.front().and_then(|d| self.unsettled.get(id_of(d.token)));
        self.alone.is_none() && self.unsettled.out() == 0 && first.is_some_and(|u| u.gate == Gate::Alone)
    }

    /// Whether handlers must wait for something to be found out.
    pub(in crate::consume) fn has_questions(&self) -> bool {
        self.handlers && self.unsettled.suspects() > 0 && !self.leaving && self.ended.is_none()
    }

    /// Up to `max` messages whose history must be looked up.
    pub(in crate::consume) fn unexamined(&self, max: usize) -> Vec<(u64, Known, u64)> {
        self.unsettled.unexamined(max)
    }

    /// What was found out of a message.
    pub(in crate::consume) fn examined(&mut self, token: u64, gate: Gate, record: Record, post: &mut Post) {
        let id = id_of(token);
        let Some(u) = self.unsettled.get(id) else { return };
        let (known, failures) = (u.known, record.failures);
        if failures > 0 {
            self.remember(known, record);
        }
        self.unsettled.set_gate(id, gate, failures);
        self.wake(post);
    }

    /// The message that must run alone, once all handlers have ended: from now on nothing else is handed out.
    pub(in crate::consume) fn next_alone(&mut self) -> Option<Start> {
        if !self.may_run_alone() {
            return None;
        }
        let token = self.queue.front()?.token;
        let u = self.unsettled.get(id_of(token))?;
        let start = Start { token, known: u.known, attempt: u.attempt };
        self.alone = Some(id_of(token));
        Some(start)
    }
}
