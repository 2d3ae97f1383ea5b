//! Messages received and not yet handed out, what is unsettled, and who waits. No I/O.

use super::{
    Settle,
    lanes::{LaneId, Lanes, lane_of},
    prefetch::Prefetch,
};
use crate::{
    error::Error,
    mailbox::{Body, Completion, Mailbox, Post},
    message::Delivery,
    planted::{Bug, planted},
};
use async_nats::Subject;
use slotmap::{Key, KeyData, SlotMap, new_key_type};
use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
    time::{Duration, Instant},
};

new_key_type! { struct UnsettledId; }

fn id_of(token: u64) -> UnsettledId {
    UnsettledId::from(KeyData::from_ffi(token))
}

/// What a message is known by when it comes again: its sequence, and that of its replay.
type Known = (u64, Option<u64>);

/// A delivery whose end is still to come.
#[derive(Debug)]
struct Unsettled {
    ack: Subject,
    since: Instant,
    extended: Instant,
    known: Known,
    lane: Option<LaneId>,
    /// Whether it takes up a place of the prefetch.
    counted: bool,
}

/// How a consumer ended.
#[derive(Clone, Debug)]
pub(crate) enum Ended {
    /// By its owner.
    Closed,
    /// It cannot go on.
    Failed(Error),
}

#[derive(Default)]
pub(crate) struct Buffer {
    queue: VecDeque<Delivery>,
    unsettled: SlotMap<UnsettledId, Unsettled>,
    /// With `order="key"`: what waits for an earlier message of its key.
    lanes: Option<Lanes>,
    /// Unsettled messages that take up the prefetch.
    counted: usize,
    /// Whether what is handed out goes on taking up the prefetch until it is settled.
    handlers: bool,
    waiters: Vec<Completion>,
    /// Whether nothing is handed out any more: the rest is others'.
    leaving: bool,
    pub(crate) ended: Option<Ended>,
    /// Messages asked for and not yet received.
    pub(crate) requested: usize,
    /// Whether the pull loop was told that there is room, and has not looked yet.
    room_told: bool,
    prefetch: Prefetch,
}

impl Buffer {
    pub(super) fn new(prefetch: Prefetch, by_key: bool) -> Self {
        Self { prefetch, lanes: by_key.then(Lanes::default), ..Self::default() }
    }

    /// Messages received and not handed out.
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    /// From now on what is handed out counts until it is settled.
    pub(super) fn handle(&mut self, at_once: usize) {
        self.handlers = true;
        self.prefetch.at_least(at_once);
    }

    /// Takes in what arrived; what is acked later is remembered by a token. `cap` is how long one may be worked on.
    pub(crate) fn push(&mut self, batch: &mut Vec<Delivery>, now: Instant, cap: Duration, post: &mut Post) {
        let mut here = None;
        for mut d in batch.drain(..) {
            if let (Some(meta), Some(ack)) = (&d.meta, &d.reply) {
                let known = (meta.sequence, meta.replay);
                if meta.attempt > 1 && self.adopt(&mut here, known, ack, now, cap) {
                    continue;
                }
                let lane = self.lanes.as_ref().and_then(|_| lane_of(&d)).filter(|_| !planted(Bug::NoLanes));
                let (ack, counted) = (ack.clone(), true);
                let one = Unsettled { ack, since: now, extended: now, known, lane, counted };
                self.counted += 1;
                d.token = self.unsettled.insert(one).data().as_ffi();
                if let (Some(lane), Some(lanes)) = (lane, &mut self.lanes) {
                    self.queue.extend(lanes.arrive(lane, d));
                    continue;
                }
            }
            self.queue.push_back(d);
        }
        self.wake(post);
    }

    /// A message that comes again while it is still here goes on under the ack of its new delivery, instead of twice;
    /// one that was worked on for longer than `cap` is handed out again.
    fn adopt(
        &mut self,
        here: &mut Option<HashMap<Known, UnsettledId>>,
        known: Known,
        ack: &Subject,
        now: Instant,
        cap: Duration,
    ) -> bool {
        let here = here.get_or_insert_with(|| self.unsettled.iter().map(|(id, u)| (u.known, id)).collect());
        let Some(id) = here.remove(&known) else { return false };
        match self.unsettled.get_mut(id) {
            Some(u) if now.duration_since(u.since) < cap => {
                u.ack = ack.clone();
                u.extended = now;
                true
            }
            _ => {
                self.forget(id);
                false
            }
        }
    }

    fn forget(&mut self, id: UnsettledId) -> Option<Unsettled> {
        let u = self.unsettled.remove(id)?;
        self.counted -= usize::from(u.counted);
        Some(u)
    }

    /// Hands messages out, oldest first.
    pub(crate) fn take(&mut self, max: usize, into: &mut Vec<Delivery>) {
        let (n, from) = (if self.leaving { 0 } else { self.queue.len().min(max) }, into.len());
        into.extend(self.queue.drain(..n));
        if !self.handlers {
            into[from..].iter().for_each(|d| self.count(d.token, false));
        }
    }

    fn count(&mut self, token: u64, counted: bool) {
        if let Some(u) = self.unsettled.get_mut(id_of(token))
            && u.counted != counted
        {
            u.counted = counted;
            self.counted = if counted { self.counted + 1 } else { self.counted - 1 };
        }
    }

    /// Puts back what was taken and not handled, before all others.
    pub(crate) fn put_back(
        &mut self,
        deliveries: impl DoubleEndedIterator<Item = Delivery>,
        post: &mut Post,
    ) {
        for d in deliveries.rev() {
            self.count(d.token, true);
            self.queue.push_front(d);
        }
        self.wake(post);
    }

    /// Whether the pull loop should be told, once, that there is room or a retry to wait for.
    pub(super) fn tell_room(&mut self) -> bool {
        let low = self.counted + self.requested <= self.prefetch.limit() / 2 && !self.room_told;
        self.room_told |= low;
        low
    }

    /// How many messages to ask for now; they count as asked for.
    pub(super) fn ask(&mut self, now: Instant) -> usize {
        self.room_told = false;
        let retries = self.lanes.as_mut().map_or(0, |l| l.ask(now));
        let here = self.counted + self.requested;
        if here <= self.prefetch.limit() / 2 {
            self.prefetch.half_used(now);
        }
        let (limit, room) = (self.prefetch.limit(), self.prefetch.limit().saturating_sub(here));
        // Small pulls wait for more room, while others are under way.
        let room = if room < limit.div_ceil(2) && self.requested > 0 { 0 } else { room };
        self.requested += room + retries;
        room + retries
    }

    /// When to look at retries that are waited for.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.lanes.as_ref().and_then(Lanes::next_due)
    }

    /// Lets go on what waited for retries that others must have.
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
    pub(crate) fn arm(&mut self, waiter: Completion) -> bool {
        if (self.queue.is_empty() || self.leaving) && self.ended.is_none() {
            self.waiters.retain(|w| !w.is_gone());
            self.waiters.push(waiter);
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

    /// Says how a delivery goes on: the subject to say it to. None when it has ended already. An ack needs no clock.
    pub(crate) fn settle(
        &mut self,
        token: u64,
        how: &Settle,
        now: impl Fn() -> Instant,
        post: &mut Post,
    ) -> Option<Subject> {
        if *how == Settle::InProgress {
            let u = self.unsettled.get_mut(id_of(token))?;
            u.extended = now();
            return Some(u.ack.clone());
        }
        let u = self.forget(id_of(token))?;
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
        Some(u.ack)
    }

    /// The deliveries to keep from redelivery now: quiet for `quiet`, and not older than `cap`.
    pub(crate) fn extend_quiet(&mut self, now: Instant, quiet: Duration, cap: Duration) -> Vec<Subject> {
        let due =
            |u: &Unsettled| now.duration_since(u.extended) >= quiet && now.duration_since(u.since) < cap;
        let extend = |u: &mut Unsettled| {
            u.extended = now;
            u.ack.clone()
        };
        self.unsettled.values_mut().filter(|u| due(u)).map(extend).collect()
    }

    /// Whether anything needs to be kept from redelivery.
    pub(crate) fn has_unsettled(&self) -> bool {
        !self.unsettled.is_empty()
    }

    /// Empties the queue, for others to have: the ack subjects of what was in it.
    pub(crate) fn give_up(&mut self) -> Vec<Subject> {
        let mut left: Vec<_> = self.queue.drain(..).map(|d| d.token).collect();
        left.extend(self.lanes.iter_mut().flat_map(Lanes::drain).map(|d| d.token));
        left.into_iter().filter_map(|t| Some(self.forget(id_of(t))?.ack)).collect()
    }
}

#[cfg(test)]
#[path = "buffer_tests.rs"]
mod tests;
