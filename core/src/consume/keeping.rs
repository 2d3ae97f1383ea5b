//! When what is unsettled is looked at, and when it is extended, so that its ack wait never runs out.

use std::time::Duration;

/// The longest time between two looks, and between the server's signs of life.
pub(super) const HEARTBEAT: Duration = Duration::from_secs(1);

/// How often to look at what is unsettled.
pub(super) fn period(ack_wait: Duration) -> Duration {
    HEARTBEAT.min(ack_wait / 3).max(Duration::from_millis(5))
}

/// The least time since its last extension before it is extended again: at the look nearest to a third of the ack wait, and not at
/// the first one after it, which may come when two thirds are over.
pub(super) fn quiet(ack_wait: Duration) -> Duration {
    (ack_wait / 3).saturating_sub(period(ack_wait) / 2)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn half_of_the_ack_wait_is_left_whenever_looks_come_a_little_early_or_late() {
        for ms in [100, 300, 1500, 2900, 3000, 3100, 5000, 30_000] {
            let ack_wait = Duration::from_millis(ms);
            let (mut since, mut longest) = (Duration::ZERO, Duration::ZERO);
            for n in 0..1000 {
                // By up to a tenth.
                since += period(ack_wait) * (18 + n * 7 % 5) / 20;
                longest = longest.max(since);
                if since >= quiet(ack_wait) {
                    since = Duration::ZERO;
                }
            }
            assert!(longest <= ack_wait / 2, "{longest:?} of {ack_wait:?}");
        }
    }
}
