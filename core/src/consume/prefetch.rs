//! How many messages a consumer asks for in advance. Pure.
//!
//! Without a setting it starts with what can begin soon: what handlers run at once, and one more. From there it follows
//! the measured pace: some hundredths of a second of work. So quick messages come in large batches, and workers of slow
//! jobs share them.

use std::time::{Duration, Instant};

/// The most, however fast they are handled.
const MOST: usize = 1024;
/// The work asked for in advance, by the pace of the last messages.
const WINDOW: Duration = Duration::from_millis(30);
/// Jobs that take longer each are slow: a round trip to the server is nothing to them, so none waits here for its turn.
const SLOW: Duration = Duration::from_millis(250);
/// Messages that take less each are quick: where the consumer waits for them while the stream has more, the network is
/// slower than the work, and the limit grows whatever the pace.
const QUICK: Duration = Duration::from_millis(5);

#[derive(Debug, Default)]
pub(super) struct Prefetch {
    given: Option<usize>,
    /// The most the durable allows.
    allowed: usize,
    /// The least: what can begin soon.
    base: usize,
    auto: usize,
    /// When the pace was last measured.
    since: Option<Instant>,
    /// How long the consumer has waited for messages since then.
    idle: Duration,
    /// Whether handlers take long for each message.
    slow: bool,
    /// Whether the stream had more messages for the group when the last one was sent.
    backlog: bool,
}

impl Prefetch {
    /// What was given, or what the pace makes of it; never above what the durable allows.
    pub(super) fn new(given: Option<usize>, allowed: usize) -> Self {
        Self {
            given,
            allowed,
            base: 1,
            auto: 1,
            since: None,
            idle: Duration::ZERO,
            slow: false,
            backlog: false,
        }
    }

    pub(super) fn limit(&self) -> usize {
        let limit = match self.given {
            Some(given) => given.max(self.base - 1),
            None if self.slow => self.base - 1,
            None => self.auto,
        };
        limit.min(self.allowed)
    }

    pub(super) fn allowed(&self) -> usize {
        self.allowed
    }

    pub(super) fn is_given(&self) -> bool {
        self.given.is_some()
    }

    /// New messages are asked for when no more than this is here.
    pub(super) fn low(&self) -> usize {
        (self.limit() / 2).max(self.base - 1)
    }

    /// Whether it asks for more than can begin soon.
    pub(super) fn is_ahead(&self) -> bool {
        self.given.is_none() && self.limit() > self.base
    }

    /// How many messages a host may take in one go without another worker waiting for them.
    pub(super) fn chunk(&self) -> usize {
        (self.auto / 4).max(1)
    }

    /// The number of handlers that run at once. Each holds its message until it is settled.
    pub(super) fn handle(&mut self, at_once: usize) {
        self.base = at_once.saturating_add(1);
        self.auto = self.auto.max(self.base);
    }

    /// No handlers run any longer.
    pub(super) fn stop_handling(&mut self) {
        self.base = 1;
        self.slow = false;
    }

    /// The consumer has waited for a message.
    pub(super) fn waited(&mut self, time: Duration) {
        self.idle += time;
    }

    /// The server had no messages for a while.
    pub(super) fn rest(&mut self) {
        self.auto = self.base;
    }

    /// Whether the stream has more messages for the group.
    pub(super) fn backlog(&mut self, more: bool) {
        self.backlog = more;
    }

    /// Follows the pace: `used` messages were handled since the last measurement.
    pub(super) fn measure(&mut self, now: Instant, used: usize) {
        if used == 0 && self.since.is_some() {
            return;
        }
        let Some(since) = self.since.replace(now) else { return };
        let idle = std::mem::take(&mut self.idle);
        let took = now.saturating_duration_since(since).max(Duration::from_micros(1));
        let each = took.saturating_sub(idle) / u32::try_from(used.max(1)).unwrap_or(u32::MAX);
        let at_once = u32::try_from(self.base - 1).unwrap_or(u32::MAX);
        self.slow = at_once > 0 && each.saturating_mul(at_once) >= SLOW;
        // A pace of more than the most in a microsecond is not met.
        let ahead = (used as f64 * WINDOW.as_secs_f64() / took.as_secs_f64()).min(MOST as f64);
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // between 0 and MOST
        let mut target = self.base + ahead as usize;
        if self.backlog && !idle.is_zero() && each < QUICK {
            target = target.max(self.auto.saturating_mul(2));
        }
        let most = MOST.max(self.base);
        self.auto = target.clamp(self.auto / 2, self.auto.saturating_mul(2)).clamp(self.base, most);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const US: fn(u64) -> Duration = Duration::from_micros;

    /// A worker that is never out of messages, with this time for each: the limit after this many measurements.
    fn after(p: &mut Prefetch, each: Duration, times: usize) -> usize {
        let mut now = p.since.unwrap_or_else(Instant::now);
        for _ in 0..times {
            let used = p.limit().saturating_sub(p.low()).max(1);
            now += each * u32::try_from(used).unwrap();
            p.backlog(true);
            p.measure(now, used);
        }
        p.limit()
    }

    #[test]
    fn it_starts_with_what_can_begin_soon_and_follows_the_pace() {
        let mut p = Prefetch::new(None, 65_536);
        assert_eq!((p.limit(), p.low(), p.chunk()), (1, 0, 1), "an iteration: one in hand, one here");
        p.handle(8);
        assert_eq!((p.limit(), p.low()), (9, 8));
        assert_eq!(
            after(&mut p, Duration::from_millis(20), 50),
            10,
            "160 ms each: the next ones are here already"
        );
        assert_eq!(
            after(&mut p, Duration::from_millis(100), 50),
            8,
            "800 ms each: all that wait are left to others"
        );
        assert_eq!(after(&mut p, US(20), 12), 1024, "quick messages come in large batches");
        assert_eq!(p.chunk(), 256);
        let steady = after(&mut p, US(300), 20);
        assert!((100..120).contains(&steady), "{steady}: 30 ms of work, and what runs");
        p.rest();
        assert_eq!(p.limit(), 9);
    }

    #[test]
    fn one_slow_message_in_a_while_does_not_make_it_slow() {
        let mut p = Prefetch::new(None, 65_536);
        after(&mut p, US(20), 20);
        let now = p.since.unwrap() + Duration::from_millis(500);
        p.measure(now, 512);
        assert_eq!(p.limit(), 512, "at most half of it in one step");
    }

    #[test]
    fn a_slow_network_is_no_slow_worker() {
        let mut p = Prefetch::new(None, 65_536);
        let mut now = Instant::now();
        for _ in 0..20 {
            let used = p.limit() - p.low();
            now += Duration::from_millis(50) + US(20) * u32::try_from(used).unwrap();
            p.waited(Duration::from_millis(50));
            p.backlog(true);
            p.measure(now, used);
        }
        assert_eq!(p.limit(), 1024);
        let mut p = Prefetch::new(None, 65_536);
        for _ in 0..20 {
            now += Duration::from_millis(50);
            p.waited(Duration::from_millis(50));
            p.measure(now, 1);
        }
        assert_eq!(p.limit(), 1, "a trickle needs no credit in advance");
    }

    #[test]
    fn what_was_given_or_allowed_bounds_it() {
        for (given, allowed, want) in [(Some(16), 65_536, 16), (Some(100), 5, 5), (Some(4000), 65_536, 4000)]
        {
            let mut p = Prefetch::new(given, allowed);
            assert_eq!((p.limit(), after(&mut p, US(1), 20)), (want, want));
        }
        assert_eq!(after(&mut Prefetch::new(None, 100), US(1), 20), 100);
        let mut p = Prefetch::new(Some(4), 65_536);
        p.handle(10);
        assert_eq!(p.limit(), 10, "what runs at once has a place each");
    }
}
