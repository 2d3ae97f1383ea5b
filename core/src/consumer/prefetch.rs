//! How many messages may be here or on their way, where nobody said so: as many as are some hundredths of a second's work.

use std::time::{Duration, Instant};

/// So many whatever the pace.
const LEAST: usize = 256;
/// So many where they are handled fast: the server is asked a quarter as often, and sends and gets more at a time.
const MOST: usize = 1024;
/// Half of it handled in less: there may be twice as many.
const FAST: Duration = Duration::from_millis(5);
/// Half of it handled in more: others should have some of them.
const SLOW: Duration = Duration::from_millis(20);

#[derive(Debug, Default)]
pub(super) struct Prefetch {
    limit: usize,
    least: usize,
    most: usize,
    /// When the last half was asked for.
    since: Option<Instant>,
}

impl Prefetch {
    /// What was given, or what the pace makes of it; never above what the durable allows.
    pub(super) fn new(given: Option<usize>, allowed: usize) -> Self {
        let (least, most) = given.map_or((LEAST, MOST), |n| (n, n));
        let (least, most) = (least.min(allowed), most.min(allowed));
        Self { limit: least, least, most, since: None }
    }

    pub(super) fn limit(&self) -> usize {
        self.limit
    }

    /// At least so many, for as many are handled at once.
    pub(super) fn at_least(&mut self, n: usize) {
        for bound in [&mut self.limit, &mut self.least, &mut self.most] {
            *bound = (*bound).max(n);
        }
    }

    /// Half of it has been handled.
    pub(super) fn half_used(&mut self, now: Instant) {
        let Some(since) = self.since.replace(now) else { return };
        let took = now.saturating_duration_since(since);
        if took < FAST {
            self.limit = (self.limit * 2).min(self.most);
        } else if took > SLOW {
            self.limit = (self.limit / 2).max(self.least);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What the limit is after halves that took so many milliseconds each.
    fn after(p: &mut Prefetch, halves: &[u64]) -> usize {
        let mut now = p.since.unwrap_or_else(Instant::now);
        for ms in halves {
            now += Duration::from_millis(*ms);
            p.half_used(now);
        }
        p.limit()
    }

    #[test]
    fn it_grows_where_messages_are_handled_fast_and_shrinks_where_not() {
        let mut p = Prefetch::new(None, 65_536);
        assert_eq!(after(&mut p, &[0]), 256, "the first is no measure");
        assert_eq!(after(&mut p, &[1]), 512);
        assert_eq!(after(&mut p, &[1, 1, 1]), 1024);
        assert_eq!(after(&mut p, &[10, 19, 10]), 1024, "neither fast nor slow");
        assert_eq!(after(&mut p, &[21]), 512);
        assert_eq!(after(&mut p, &[500, 500]), 256);
    }

    #[test]
    fn what_was_given_or_allowed_bounds_it() {
        for (given, allowed, want) in
            [(Some(16), 65_536, 16), (None, 5, 5), (Some(100), 5, 5), (Some(4000), 65_536, 4000)]
        {
            let mut p = Prefetch::new(given, allowed);
            assert_eq!((p.limit(), after(&mut p, &[0, 1, 1, 500])), (want, want));
        }
        assert_eq!(after(&mut Prefetch::new(None, 1000), &[0, 1, 1, 1]), 1000);
        let mut p = Prefetch::new(None, 65_536);
        p.at_least(2000);
        assert_eq!(after(&mut p, &[0, 1, 500, 500]), 2000);
    }
}
