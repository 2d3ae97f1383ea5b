//! What an operator should know of a group: its durable is paused, or another client gives its messages back in a loop.

use super::Inner;
use crate::error::ErrorKind;
use serde::Deserialize;
use serde_json::Value;
use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

/// So many redeliveries to others between two looks are no accident.
const MANY: u64 = 200;

#[derive(Deserialize)]
struct Info {
    #[serde(default)]
    paused: bool,
    #[serde(default)]
    pause_remaining: u64,
    delivered: Delivered,
}

#[derive(Clone, Copy, Deserialize)]
struct Delivered {
    consumer_seq: u64,
    stream_seq: u64,
}

/// The durable's counts at one look, and the redeliveries this consumer had by then.
#[derive(Clone, Copy)]
pub(super) struct Look {
    at: Instant,
    delivered: Delivered,
    ours: u64,
}

/// Redeliveries between two looks that were not ours, where there are so many that somebody gives messages back in a
/// loop. A filter makes the estimate too low, never too high.
fn given_back_by_others(before: Look, now: Look) -> Option<u64> {
    let deliveries = now.delivered.consumer_seq.saturating_sub(before.delivered.consumer_seq);
    let new = now.delivered.stream_seq.saturating_sub(before.delivered.stream_seq);
    let others = deliveries.saturating_sub(new).saturating_sub(now.ours.saturating_sub(before.ours));
    (others >= MANY).then_some(others)
}

impl Inner {
    /// What is wrong with its group, in words; none where all is well, or the right to ask is missing.
    pub(crate) async fn group_problem(&self) -> Option<String> {
        let stream = self.stream.as_deref()?;
        if self.uninformed.load(Ordering::Relaxed) || self.left.load(Ordering::Acquire) {
            return None;
        }
        let call = format!("CONSUMER.INFO.{stream}.{}", self.config.durable_name());
        let info = match self.shared.api::<Info>(&call, &Value::Null).await {
            Ok(info) => info,
            // One whose buffer is full pulls nothing, and would not notice.
            Err(e) if e.kind() == ErrorKind::NotFound => {
                self.fail(self.gone(stream, &e));
                return None;
            }
            Err(e) => {
                let denied = e.kind() == ErrorKind::Permission;
                self.uninformed.fetch_or(denied, Ordering::Relaxed);
                return None;
            }
        };
        let (topic, group) = (&self.topic, &self.config.group);
        if info.paused {
            let left = Duration::from_nanos(info.pause_remaining).as_secs();
            return Some(format!(
                "the consumer of {topic:?} for {group:?} receives nothing: its durable is paused for another {left} s; resume it (nats consumer resume {stream} {})",
                self.config.durable_name()
            ));
        }
        let ours = self.redelivered.load(Ordering::Relaxed);
        let now = Look { at: Instant::now(), delivered: info.delivered, ours };
        let before = self.look.lock().replace(now)?;
        let others = given_back_by_others(before, now)?;
        let seconds = now.at.duration_since(before.at).as_secs_f64();
        Some(format!(
            "another client gives the messages of {topic:?} for {group:?} back in a loop: {others} redeliveries in {seconds:.0} s that this consumer did not get; find the client that naks (nats consumer info {stream} {})",
            self.config.durable_name()
        ))
    }
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
