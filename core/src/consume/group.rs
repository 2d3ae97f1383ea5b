//! What an operator should know of a group: its durable is paused, or another client gives its messages back in a loop.

use super::{
    Inner,
    redeliveries::{Delivered, Look, given_back_by_others},
};
use crate::error::ErrorKind;
use serde::Deserialize;
use serde_json::Value;
use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

#[derive(Deserialize)]
struct Info {
    #[serde(default)]
    paused: bool,
    #[serde(default)]
    pause_remaining: u64,
    delivered: Delivered,
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
