//! Messages received and not yet handed out, what is unsettled, and who waits. No I/O.

use crate::{
    error::Error,
    mailbox::{Body, Completion, Mailbox, Post},
    message::Delivery,
};
use async_nats::Subject;
use slotmap::{Key, KeyData, SlotMap, new_key_type};
use std::{
    collections::VecDeque,
    sync::Arc,
    time::{Duration, Instant},
};

new_key_type! { struct UnsettledId; }

/// A delivery whose end is still to come.
#[derive(Debug)]
struct Unsettled {
    ack: Subject,
    since: Instant,
    extended: Instant,
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
    waiters: Vec<Completion>,
    pub(crate) ended: Option<Ended>,
    /// Messages asked for and not yet received.
    pub(crate) requested: usize,
    /// Whether the pull loop was told that there is room, and has not looked yet.
    pub(crate) room_told: bool,
}

impl Buffer {
    pub(crate) fn len(&self) -> usize {
        self.queue.len()
    }

    /// Takes in what arrived; what is acked later is remembered by a token.
    pub(crate) fn push(&mut self, batch: &mut Vec<Delivery>, now: Instant, post: &mut Post) {
        for mut d in batch.drain(..) {
            if let (Some(_), Some(ack)) = (&d.meta, &d.reply) {
                let id = self.unsettled.insert(Unsettled { ack: ack.clone(), since: now, extended: now });
                d.token = id.data().as_ffi();
            }
            self.queue.push_back(d);
        }
        self.wake(post);
    }

    /// Hands messages out, oldest first.
    pub(crate) fn take(&mut self, max: usize, into: &mut Vec<Delivery>) {
        let n = self.queue.len().min(max);
        into.extend(self.queue.drain(..n));
    }

    /// Puts back what was taken and not handled, before all others.
    pub(crate) fn put_back(
        &mut self,
        deliveries: impl DoubleEndedIterator<Item = Delivery>,
        post: &mut Post,
    ) {
        deliveries.rev().for_each(|d| self.queue.push_front(d));
        self.wake(post);
    }

    /// Registers a wait unless there is something to take, or the end, already.
    pub(crate) fn arm(&mut self, waiter: Completion) -> bool {
        if self.queue.is_empty() && self.ended.is_none() {
            self.waiters.retain(|w| !w.is_gone());
            self.waiters.push(waiter);
            return true;
        }
        false
    }

    /// Takes a host's wait back; false when its end is on its way already.
    pub(crate) fn disarm(&mut self, mailbox: &Arc<Mailbox>, token: u64) -> bool {
        let before = self.waiters.len();
        self.waiters.retain(|w| !w.is_host(mailbox, &[token]));
        self.waiters.len() < before
    }

    pub(crate) fn end(&mut self, how: Ended, post: &mut Post) {
        self.ended.get_or_insert(how);
        self.wake(post);
    }

    fn wake(&mut self, post: &mut Post) {
        self.waiters.drain(..).for_each(|w| post.add(w, Body::Ready));
    }

    /// Ends a delivery: its ack subject, once.
    pub(crate) fn settle(&mut self, token: u64) -> Option<Subject> {
        Some(self.unsettled.remove(UnsettledId::from(KeyData::from_ffi(token)))?.ack)
    }

    /// The ack subject of a delivery that goes on, its clock started anew.
    pub(crate) fn extend(&mut self, token: u64, now: Instant) -> Option<Subject> {
        let u = self.unsettled.get_mut(UnsettledId::from(KeyData::from_ffi(token)))?;
        u.extended = now;
        Some(u.ack.clone())
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
        let tokens: Vec<_> = self.queue.drain(..).map(|d| d.token).collect();
        tokens.into_iter().filter_map(|t| self.settle(t)).collect()
    }
}
