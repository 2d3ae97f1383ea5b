//! Whether another client gives the messages of a group back in a loop. Pure.

use serde::Deserialize;
use std::time::Instant;

/// This many redeliveries to others between two looks are no accident.
const MANY: u64 = 200;

#[derive(Clone, Copy, Deserialize)]
pub(super) struct Delivered {
    pub(super) consumer_seq: u64,
    pub(super) stream_seq: u64,
}

/// The durable's counts at one look, and the redeliveries this consumer had by then.
#[derive(Clone, Copy)]
pub(super) struct Look {
    pub(super) at: Instant,
    pub(super) delivered: Delivered,
    pub(super) ours: u64,
}

/// Redeliveries between two looks that were not ours, if there are enough of them to mean that a client gives messages back in a
/// loop. A filter makes the estimate too low, never too high.
pub(super) fn given_back_by_others(before: Look, now: Look) -> Option<u64> {
    let deliveries = now.delivered.consumer_seq.saturating_sub(before.delivered.consumer_seq);
    let new = now.delivered.stream_seq.saturating_sub(before.delivered.stream_seq);
    let others = deliveries.saturating_sub(new).saturating_sub(now.ours.saturating_sub(before.ours));
    (others >= MANY).then_some(others)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_others_give_back_in_a_loop_counts() {
        let look = |consumer_seq, stream_seq, ours| Look {
            at: Instant::now(),
            delivered: Delivered { consumer_seq, stream_seq },
            ours,
        };
        for (now, want) in [
            (look(1000, 1000, 0), None),
            (look(1100, 100, 900), None),
            (look(1200, 100, 0), Some(1100)),
            (look(1200, 100, 1000), None),
            (look(0, 0, 0), None),
        ] {
            assert_eq!(given_back_by_others(look(0, 0, 0), now), want);
        }
    }
}
