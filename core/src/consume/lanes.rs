//! Order per key: of each key one message at a time, retries included. No I/O.
//!
//! A key's lane exists while one of its messages is unsettled. A message that waits for its retry holds its lane until it comes
//! back, or until another worker must have it.

use crate::message::Delivery;
use std::{
    collections::{HashMap, VecDeque},
    hash::{DefaultHasher, Hash, Hasher},
    time::{Duration, Instant},
};

/// How long after its delay a retry is waited for, on a connection that was not interrupted.
pub(super) const GRACE: Duration = Duration::from_secs(2);
/// How long after being asked for a retry is asked for again, each time twice as long: the server may have taken the
/// delay to be a little longer, and have used the credit up for other messages.
const ASK_AGAIN: Duration = Duration::from_millis(10);

/// A lane by the hash of its key.
pub(super) type LaneId = u64;

/// The lane of a delivery; none for a message without a key.
pub(super) fn lane_of(d: &Delivery) -> Option<LaneId> {
    let mut hasher = DefaultHasher::new();
    d.key()?.hash(&mut hasher);
    Some(hasher.finish())
}

#[derive(Debug, Default)]
struct Lane {
    /// One of it is with its handler, or ready for it.
    running: bool,
    /// By sequence.
    queue: VecDeque<Delivery>,
}

#[derive(Debug)]
struct Hold {
    sequence: u64,
    /// When to ask the server for it, beyond the prefetch.
    ask: Instant,
    again: Duration,
    /// From when on another worker is taken to have it.
    until: Instant,
}

/// The lanes of one consumer.
#[derive(Debug, Default)]
pub(super) struct Lanes {
    by_key: HashMap<LaneId, Lane>,
    /// Messages in all lanes.
    behind: usize,
    holds: HashMap<LaneId, Hold>,
}

fn sequence(d: &Delivery) -> u64 {
    d.meta.as_ref().map_or(u64::MAX, |m| m.sequence)
}

impl Lanes {
    /// Messages that wait for an earlier one of their key.
    pub(super) fn behind(&self) -> usize {
        self.behind
    }

    /// Takes in a message. Returns the one that may run now.
    pub(super) fn arrive(&mut self, id: LaneId, d: Delivery) -> Option<Delivery> {
        let lane = self.by_key.entry(id).or_default();
        let at = lane.queue.iter().rposition(|q| sequence(q) <= sequence(&d)).map_or(0, |i| i + 1);
        lane.queue.insert(at, d);
        self.behind += 1;
        self.next(id)
    }

    /// The running message of a lane has ended.
    pub(super) fn release(&mut self, id: LaneId) -> Option<Delivery> {
        if let Some(lane) = self.by_key.get_mut(&id) {
            lane.running = false;
        }
        self.next(id)
    }

    /// The running message of a lane comes again after a delay.
    pub(super) fn hold(&mut self, id: LaneId, sequence: u64, due: Instant) -> Option<Delivery> {
        self.holds.insert(id, Hold { sequence, ask: due, again: ASK_AGAIN, until: due + GRACE });
        self.release(id)
    }

    /// What may run in a lane: nothing while one of it runs, nothing past a held one.
    fn next(&mut self, id: LaneId) -> Option<Delivery> {
        let lane = self.by_key.get_mut(&id)?;
        if lane.running {
            return None;
        }
        let hold = self.holds.get(&id).map(|h| h.sequence);
        match (lane.queue.front().map(sequence), hold) {
            (Some(front), Some(held)) if front > held => None,
            (Some(front), held) => {
                if held == Some(front) {
                    self.holds.remove(&id);
                }
                lane.running = true;
                self.behind -= 1;
                lane.queue.pop_front()
            }
            (None, Some(_)) => None,
            (None, None) => {
                self.by_key.remove(&id);
                None
            }
        }
    }

    /// When to look at the holds next.
    pub(super) fn next_due(&self) -> Option<Instant> {
        self.holds.values().map(|h| h.ask.min(h.until)).min()
    }

    /// The number of retries to ask for. They count as asked for from now on.
    pub(super) fn ask(&mut self, now: Instant) -> usize {
        let due = self.holds.values_mut().filter(|h| h.ask <= now);
        let asked = |h: &mut Hold| {
            h.ask = now + h.again;
            h.again *= 2;
        };
        due.map(asked).count()
    }

    /// Releases messages that wait for retries which another worker must have.
    pub(super) fn expire(&mut self, now: Instant) -> Vec<Delivery> {
        let over: Vec<_> = self.holds.iter().filter(|(_, h)| h.until <= now).map(|(id, _)| *id).collect();
        let next = over.into_iter().filter_map(|id| {
            self.holds.remove(&id);
            self.next(id)
        });
        next.collect()
    }

    /// After an interruption the server may deliver retries only after their ack wait.
    pub(super) fn interrupted(&mut self, now: Instant, ack_wait: Duration) {
        for h in self.holds.values_mut() {
            h.until = h.until.max(now + ack_wait + GRACE);
            h.ask = h.ask.min(now + GRACE);
            h.again = ASK_AGAIN;
        }
    }

    /// Empties all lanes: what waited in them.
    pub(super) fn drain(&mut self) -> impl Iterator<Item = Delivery> + use<> {
        self.holds.clear();
        self.behind = 0;
        std::mem::take(&mut self.by_key).into_values().flat_map(|l| l.queue)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::message::Meta;
    use async_nats::Subject;
    use bytes::Bytes;

    fn message(sequence: u64, attempt: u64) -> Delivery {
        let meta = Meta { sequence, attempt, timestamp_ns: 0, pending: 0, replay: None };
        Delivery {
            token: sequence,
            topic: Subject::from_static("t"),
            body: Bytes::new(),
            headers: None,
            reply: None,
            meta: Some(meta),
            failures: 0,
        }
    }

    #[test]
    fn one_of_a_key_at_a_time_in_order() {
        let mut lanes = Lanes::default();
        assert_eq!(lanes.arrive(1, message(1, 1)).map(|d| d.token), Some(1));
        assert!(lanes.arrive(1, message(3, 1)).is_none());
        assert!(lanes.arrive(1, message(2, 1)).is_none(), "late, but before 3");
        assert_eq!(lanes.arrive(2, message(4, 1)).map(|d| d.token), Some(4), "another key is not concerned");
        assert_eq!(lanes.release(1).map(|d| d.token), Some(2));
        assert_eq!(lanes.release(1).map(|d| d.token), Some(3));
        assert!(lanes.release(1).is_none() && lanes.release(2).is_none());
        assert!(lanes.by_key.is_empty(), "nothing is kept of idle keys");
    }

    #[test]
    fn a_retry_holds_its_lane_until_it_is_back() {
        let (mut lanes, now) = (Lanes::default(), Instant::now());
        lanes.arrive(1, message(1, 1));
        lanes.arrive(1, message(2, 1));
        assert!(lanes.hold(1, 1, now + Duration::from_secs(1)).is_none());
        assert_eq!(lanes.ask(now), 0);
        let due = now + Duration::from_secs(1);
        assert_eq!((lanes.next_due(), lanes.ask(due), lanes.ask(due)), (Some(due), 1, 0));
        assert!(lanes.expire(due).is_empty());
        assert_eq!(lanes.arrive(1, message(1, 2)).map(|d| d.token), Some(1));
        assert_eq!(lanes.release(1).map(|d| d.token), Some(2));
        assert!(lanes.next_due().is_none());
    }

    #[test]
    fn a_retry_is_asked_for_again_while_it_is_waited_for() {
        let (mut lanes, now) = (Lanes::default(), Instant::now());
        lanes.arrive(1, message(1, 1));
        lanes.hold(1, 1, now);
        let each = GRACE.as_millis().try_into().unwrap_or(u64::MAX);
        let asked: usize = (0..each).map(|ms| lanes.ask(now + Duration::from_millis(ms))).sum();
        assert!((4..=10).contains(&asked), "{asked} times: soon, and without filling the buffer");
    }

    #[test]
    fn a_retry_that_another_worker_has_lets_go() {
        let (mut lanes, now) = (Lanes::default(), Instant::now());
        lanes.arrive(1, message(1, 1));
        lanes.arrive(1, message(2, 1));
        lanes.hold(1, 1, now);
        assert!(lanes.expire(now + GRACE / 2).is_empty());
        lanes.interrupted(now, Duration::from_secs(30));
        assert!(lanes.expire(now + GRACE).is_empty(), "after a reconnect it comes only after its ack wait");
        let over = now + Duration::from_secs(30) + GRACE;
        assert_eq!(lanes.expire(over).into_iter().map(|d| d.token).collect::<Vec<_>>(), [2]);
    }
}
