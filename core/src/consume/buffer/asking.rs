//! What to ask the server for: in messages and in bytes, and nothing while nothing is taken.

use super::{
    Buffer,
    credit::{Ask, size_of},
};
use crate::{consume::lanes::Lanes, message::Delivery};
use std::time::{Duration, Instant};

/// Messages of `order="key"` that wait for an earlier one of their key and take up no place of the prefetch, so that
/// one busy key leaves the others something to do.
const BEHIND: usize = 256;

impl Buffer {
    /// A caller waits for this many messages. They are asked for even beyond the prefetch.
    pub(in crate::consume) fn want(&mut self, messages: usize) {
        self.credit.want = messages;
    }

    /// What is here or asked for, as far as it takes up the prefetch.
    fn here(&self) -> usize {
        let behind =
            self.lanes.as_ref().filter(|_| !self.credit.prefetch.is_given()).map_or(0, Lanes::behind);
        (self.unsettled.counted() + self.credit.requested).saturating_sub(behind.min(BEHIND))
    }

    fn low(&self) -> usize {
        self.credit.prefetch.low().max(self.credit.want.saturating_sub(1))
    }

    /// Whether the pull loop needs a wake-up, once, because there is room or a retry to wait for.
    pub(in crate::consume) fn tell_room(&mut self) -> bool {
        let low = self.here() <= self.low() && !self.credit.room_told;
        self.credit.room_told |= low;
        low
    }

    /// What to ask for now; it counts as asked for.
    pub(in crate::consume) fn ask(&mut self, now: Instant) -> Option<Ask> {
        self.credit.room_told = false;
        let retries = self.lanes.as_mut().map_or(0, |l| l.ask(now));
        if self.credit.asleep {
            return None;
        }
        let here = self.here();
        if here <= self.low() {
            let used = self.unsettled.take_used();
            self.credit.prefetch.measure(now, used);
        }
        let limit = self.credit.prefetch.limit().max(self.credit.want.min(self.credit.prefetch.allowed()));
        let room = limit.saturating_sub(here);
        // Small pulls wait for more room, while others are under way.
        let room = if room < limit.div_ceil(2) && self.credit.requested > 0 { 0 } else { room };
        // What waits behind its key counts for the durable.
        let room = room.min(
            self.credit.prefetch.allowed().saturating_sub(self.unsettled.counted() + self.credit.requested),
        );
        let messages = room + retries;
        let (messages, bytes) = self.bounded(messages)?;
        self.credit.requested += messages;
        self.credit.requested_bytes += bytes.unwrap_or_default();
        let ahead = self.credit.prefetch.is_ahead() || self.credit.want > 0;
        Some(Ask { messages, bytes, ahead })
    }

    /// Within the limit of bytes; where nothing else is here or under way, one message of any size.
    fn bounded(&self, messages: usize) -> Option<(usize, Option<usize>)> {
        let empty = self.unsettled.counted() == 0 && self.credit.requested == 0;
        let room =
            self.credit.most_bytes.saturating_sub(self.unsettled.bytes() + self.credit.requested_bytes);
        match messages {
            0 => None,
            _ if self.credit.oversize && empty => Some((1, None)),
            _ if self.credit.oversize || room < self.credit.most_bytes.div_ceil(2) => None,
            n => Some((n, Some(room))),
        }
    }

    /// Of what was asked for this much has come.
    pub(in crate::consume) fn received(&mut self, batch: &[Delivery]) {
        self.credit.requested = self.credit.requested.saturating_sub(batch.len());
        let bytes = batch.iter().map(size_of).sum();
        self.credit.requested_bytes = self.credit.requested_bytes.saturating_sub(bytes);
        self.credit.oversize = false;
        self.settle_bytes();
    }

    /// Of what was asked for this much will not come; none: nothing more.
    pub(in crate::consume) fn released(&mut self, messages: Option<usize>, bytes: Option<usize>) {
        let left = |has: usize, less: Option<usize>| less.map_or(0, |n| has.saturating_sub(n));
        self.credit.requested = left(self.credit.requested, messages);
        self.credit.requested_bytes = left(self.credit.requested_bytes, bytes);
        self.settle_bytes();
    }

    fn settle_bytes(&mut self) {
        if self.credit.requested == 0 {
            self.credit.requested_bytes = 0;
        }
    }

    /// The next message is over what was asked for in bytes.
    pub(in crate::consume) fn oversize(&mut self) {
        self.credit.oversize = true;
    }

    /// The server has had nothing for us for a while.
    pub(in crate::consume) fn rest(&mut self) {
        if self.queue.is_empty() {
            self.credit.prefetch.rest();
        }
    }

    /// Whether this is an iteration from which nothing was taken for `limit`: what is buffered is others', and nothing is
    /// pulled until something is taken again.
    pub(in crate::consume) fn fall_asleep(&mut self, now: Instant, limit: Duration) -> bool {
        let looked = *self.credit.looked.get_or_insert(now);
        let waits = self.waiters.iter().any(|w| !w.is_gone());
        let idle = !self.handlers && !waits && now.saturating_duration_since(looked) >= limit;
        let asleep = idle && !self.leaving && !self.credit.asleep;
        self.credit.asleep |= asleep;
        asleep && (self.credit.requested > 0 || !self.queue.is_empty())
    }

    /// Something is taken, or waited for: it does not sleep any longer.
    pub(super) fn look(&mut self, now: Instant) {
        self.credit.looked = Some(now);
        self.credit.asleep = false;
    }

    pub(in crate::consume) fn is_asleep(&self) -> bool {
        self.credit.asleep
    }
}
