//! Messages received and not yet handed out, what is unsettled, and who waits. No I/O.

mod asking;
mod credit;
mod examining;
mod suspects;

pub(super) use credit::Ask;
pub(super) use suspects::Start;

use super::{
    history::Record,
    lanes::{Lanes, lane_of},
    prefetch::Prefetch,
    settle::Settle,
    unsettled::{Gate, Known, Table, Unsettled, UnsettledId, id_of},
};
use crate::{
    error::Error,
    host::mailbox::{Body, Completion, Mailbox, Post},
    message::Delivery,
    testing::planted::{Bug, planted},
};
use async_nats::Subject;
use credit::{Credit, size_of};
use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};
use suspects::Front;

/// How a consumer ended.
#[derive(Clone, Debug)]
pub(crate) enum Ended {
    /// By its owner.
    Closed,
    /// It cannot continue.
    Failed(Error),
}

/// A message given back: where to say so, and what the records need of it.
pub(super) struct Returned {
    pub(super) ack: Subject,
    pub(super) known: Known,
    pub(super) attempt: u64,
    /// The record that takes its mark back, where it was to run alone.
    pub(super) mark: Option<Record>,
}

impl Returned {
    pub(super) fn of(d: Delivery) -> Option<Self> {
        let meta = d.meta?;
        Some(Self { ack: d.reply?, known: (meta.sequence, meta.replay), attempt: meta.attempt, mark: None })
    }
}

/// A delivery that has ended: where to say so, and what it was.
pub(super) struct Settled {
    pub(super) ack: Subject,
    pub(super) known: Known,
    pub(super) attempt: u64,
}

#[derive(Default)]
pub(crate) struct Buffer {
    queue: VecDeque<Delivery>,
    unsettled: Table,
    /// With `order="key"`: what waits for an earlier message of its key.
    lanes: Option<Lanes>,
    /// Whether handlers get what is handed out: it takes up the prefetch until it is settled, and what was delivered
    /// before is examined first.
    handlers: bool,
    /// The message that runs alone, or is about to.
    alone: Option<UnsettledId>,
    /// What handlers of this process did to messages that come again.
    failed: HashMap<Known, Record>,
    waiters: Vec<Completion>,
    /// Whether nothing is handed out any more: the rest is others'.
    leaving: bool,
    pub(crate) ended: Option<Ended>,
    credit: Credit,
}

impl Buffer {
    pub(super) fn new(prefetch: Prefetch, most_bytes: usize, by_key: bool) -> Self {
        Self {
            credit: Credit::new(prefetch, most_bytes),
            lanes: by_key.then(Lanes::default),
            ..Self::default()
        }
    }

    /// Messages received and not handed out.
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    pub(super) fn requested(&self) -> usize {
        self.credit.requested
    }

    /// From now on handlers get what is handed out.
    pub(super) fn handle(&mut self, at_once: usize) {
        self.handlers = true;
        self.credit.prefetch.handle(at_once);
    }

    /// Handlers have ended: what is handed out takes up the prefetch no longer.
    pub(super) fn stop_handling(&mut self) {
        self.handlers = false;
        self.credit.prefetch.stop_handling();
        self.unsettled.uncount_begun();
    }

    /// Takes in what arrived; what is acked later is remembered by a token. `cap` is how long a handler may have one.
    pub(crate) fn push(&mut self, batch: &mut Vec<Delivery>, now: Instant, cap: Duration, post: &mut Post) {
        let mut here = None;
        for mut d in batch.drain(..) {
            if let (Some(meta), Some(ack)) = (&d.meta, &d.reply) {
                let known = (meta.sequence, meta.replay);
                self.credit.prefetch.backlog(meta.pending > 0);
                if meta.attempt > 1 {
                    let here = here.get_or_insert_with(|| self.unsettled.ids());
                    if let Some(id) = here.get(&known) {
                        self.unsettled.adopt(*id, ack, meta.attempt, now, cap);
                        continue;
                    }
                }
                let lane = self.lanes.as_ref().and_then(|_| lane_of(&d)).filter(|_| !planted(Bug::NoLanes));
                let mut u = Unsettled::new(ack.clone(), now, known, meta.attempt, size_of(&d));
                u.lane = lane;
                if meta.attempt > 1 {
                    (u.gate, u.failures) = self.gate_of(known, meta.attempt);
                }
                d.token = self.unsettled.insert(u);
                if let (Some(lane), Some(lanes)) = (lane, &mut self.lanes) {
                    self.queue.extend(lanes.arrive(lane, d));
                    continue;
                }
            }
            self.queue.push_back(d);
        }
        if let Some(since) = self.credit.waiting_since.take() {
            self.credit.prefetch.waited(now.saturating_duration_since(since));
        }
        self.wake(post);
    }

    /// Hands messages out, oldest first. What no handler may have goes to `over`, with the reason.
    pub(crate) fn take(
        &mut self,
        max: usize,
        now: Instant,
        into: &mut Vec<Delivery>,
        over: &mut Vec<(Delivery, String)>,
    ) {
        self.credit.want = 0;
        self.look(now);
        if self.leaving {
            return;
        }
        if self.unsettled.is_empty() {
            // In core mode there is nothing to know of a message.
            let n = self.queue.len().min(max);
            into.extend(self.queue.drain(..n));
        } else if !self.handlers || self.unsettled.gated() == 0 {
            let n = self.queue.len().min(max);
            let from = into.len();
            into.extend(self.queue.drain(..n));
            for d in &mut into[from..] {
                d.failures = self.unsettled.begin(id_of(d.token), now, self.handlers);
            }
        } else {
            self.take_checked(max, now, into, over);
        }
    }

    /// The same where some must be examined, must run alone, or are over.
    fn take_checked(
        &mut self,
        max: usize,
        now: Instant,
        into: &mut Vec<Delivery>,
        over: &mut Vec<(Delivery, String)>,
    ) {
        let mut left = max;
        while left > 0 {
            let front = self.front();
            if matches!(front, Front::Held) {
                break;
            }
            let Some(mut d) = self.queue.pop_front() else { break };
            let id = id_of(d.token);
            d.failures = self.unsettled.begin(id, now, true);
            if matches!(front, Front::Over)
                && let Some(Gate::Over(why)) = self.unsettled.get(id).map(|u| &u.gate)
            {
                over.push((d, why.clone()));
                continue;
            }
            into.push(d);
            left -= 1;
        }
    }

    /// How many messages a host may take in one go without keeping them from other workers.
    pub(super) fn chunk(&self) -> usize {
        self.credit.prefetch.chunk()
    }

    /// Puts back what was taken and not handled, before all others.
    pub(crate) fn put_back(
        &mut self,
        deliveries: impl DoubleEndedIterator<Item = Delivery>,
        post: &mut Post,
    ) {
        for d in deliveries.rev() {
            let id = id_of(d.token);
            self.unsettled.end_begun(id);
            self.unsettled.count(id, true);
            self.queue.push_front(d);
        }
        self.wake(post);
    }

    /// When to look at retries that are waited for.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.lanes.as_ref().and_then(Lanes::next_due)
    }

    /// Releases messages that waited for retries which other workers must have.
    pub(super) fn expire(&mut self, now: Instant, post: &mut Post) {
        if let Some(lanes) = &mut self.lanes {
            let free = lanes.expire(now);
            if !free.is_empty() {
                self.queue.extend(free);
                self.wake(post);
            }
        }
    }

    /// After an interruption retries may come late.
    pub(super) fn interrupted(&mut self, now: Instant, ack_wait: Duration) {
        if let Some(lanes) = &mut self.lanes {
            lanes.interrupted(now, ack_wait);
        }
    }

    /// Registers a wait unless there is something to take, or the end, already.
    pub(crate) fn arm(&mut self, waiter: Completion, now: Instant) -> bool {
        self.look(now);
        let empty = self.leaving || matches!(self.front(), Front::Held);
        if empty && self.ended.is_none() {
            self.waiters.retain(|w| !w.is_gone());
            self.waiters.push(waiter);
            self.credit.waiting_since.get_or_insert(now);
            return true;
        }
        false
    }

    /// Takes a host's wait back; false when its end is on its way already.
    pub(crate) fn disarm(&mut self, mailbox: &Arc<Mailbox>, token: u64) -> bool {
        let before = self.waiters.len();
        self.waiters.retain(|w| w.token_of(mailbox) != Some(token));
        self.waiters.len() < before
    }

    /// From now on nothing is handed out.
    pub(super) fn leave(&mut self) {
        self.leaving = true;
    }

    pub(crate) fn end(&mut self, how: Ended, post: &mut Post) {
        self.ended.get_or_insert(how);
        self.wake(post);
    }

    fn wake(&mut self, post: &mut Post) {
        self.waiters.drain(..).for_each(|w| post.add(w, Body::Ready));
    }

    /// Settles a delivery. Returns the subject to say it to, or None when the delivery has ended already.
    /// An ack reads no clock.
    pub(crate) fn settle(
        &mut self,
        token: u64,
        how: &Settle,
        now: impl Fn() -> Instant,
        post: &mut Post,
    ) -> Option<Settled> {
        let id = id_of(token);
        if *how == Settle::InProgress {
            let known = self.unsettled.get(id)?.known;
            return self.unsettled.extend(id, now()).map(|ack| Settled { ack, known, attempt: 0 });
        }
        let u = self.unsettled.remove(id)?;
        if u.attempt > 1 && !matches!(how, Settle::Nak(_)) {
            self.failed.remove(&u.known);
        }
        if let (Some(lane), Some(lanes)) = (u.lane, &mut self.lanes) {
            let next = match how {
                Settle::Nak(delay) => lanes.hold(lane, u.known.0, now() + delay.unwrap_or_default()),
                _ => lanes.release(lane),
            };
            if let Some(next) = next {
                self.queue.push_back(next);
                self.wake(post);
            }
        }
        if self.alone == Some(id) {
            self.alone = None;
            self.wake(post);
        }
        Some(Settled { ack: u.ack, known: u.known, attempt: u.attempt })
    }

    /// The deliveries to keep from redelivery now: quiet for `quiet`, and not with a handler for longer than `cap`.
    pub(crate) fn extend_quiet(&mut self, now: Instant, quiet: Duration, cap: Duration) -> Vec<Subject> {
        self.unsettled.extend_quiet(now, quiet, cap)
    }

    /// Whether anything needs to be kept from redelivery.
    pub(crate) fn has_unsettled(&self) -> bool {
        !self.unsettled.is_empty()
    }

    /// Drops what waits here and could not be extended within its ack wait: others get it, or it comes again.
    pub(super) fn drop_stale(&mut self, now: Instant, ack_wait: Duration) -> usize {
        // By key the order would be lost; there it is adopted when it comes again.
        if self.lanes.is_some() {
            return 0;
        }
        let stale = self.unsettled.stale(now, ack_wait);
        if !stale.is_empty() {
            self.queue.retain(|d| !stale.contains(&d.token));
            stale.iter().for_each(|t| self.forget(*t));
        }
        stale.len()
    }

    fn forget(&mut self, token: u64) {
        let id = id_of(token);
        self.unsettled.remove(id);
        if self.alone == Some(id) {
            self.alone = None;
        }
    }

    /// Empties the queue, for others to have.
    pub(super) fn give_up(&mut self) -> Vec<Returned> {
        let mut left: Vec<_> = self.queue.drain(..).map(|d| d.token).collect();
        left.extend(self.lanes.iter_mut().flat_map(Lanes::drain).map(|d| d.token));
        let back = |token| {
            let mark = self.unmarked(token).map(|(_, record)| record);
            let u = self.unsettled.remove(id_of(token))?;
            Some(Returned { ack: u.ack, known: u.known, attempt: u.attempt, mark })
        };
        let returned = left.into_iter().filter_map(back).collect();
        self.alone = self.alone.filter(|id| self.unsettled.get(*id).is_some());
        returned
    }
}

#[cfg(test)]
mod tests;
