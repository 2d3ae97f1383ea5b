//! Bugs on purpose, which the fault rig must find: the checker is checked.
//!
//! Only with the feature `planted-bugs`, with which no package is built; then the environment variable
//! `NATS_EVENTBUS_PLANTED_BUG` names the one to have. Without the feature all of it is gone at compile time.

/// What can be broken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// Lost acks and reconnects are not followed by another attempt.
    SkipRetry,
    /// A message is acked when its handler begins.
    AckFirst,
    /// Now and then a message carries the id of the one before it.
    ReuseId,
    /// The original is terminated before its dead letter is stored.
    TermFirst,
    /// `order="key"` orders nothing.
    NoLanes,
    /// An unanswered send counts as stored.
    FalseAck,
    /// Each delivery counts as a failed attempt.
    CountDeliveries,
}

#[cfg(not(feature = "planted-bugs"))]
pub(crate) const fn planted(_: Bug) -> bool {
    false
}

#[cfg(feature = "planted-bugs")]
pub(crate) fn planted(bug: Bug) -> bool {
    use std::sync::LazyLock;
    static CHOSEN: LazyLock<Option<Bug>> = LazyLock::new(|| {
        Some(match std::env::var("NATS_EVENTBUS_PLANTED_BUG").ok()?.as_str() {
            "skip-retry" => Bug::SkipRetry,
            "ack-first" => Bug::AckFirst,
            "reuse-id" => Bug::ReuseId,
            "term-first" => Bug::TermFirst,
            "no-lanes" => Bug::NoLanes,
            "false-ack" => Bug::FalseAck,
            "count-deliveries" => Bug::CountDeliveries,
            _ => return None,
        })
    });
    *CHOSEN == Some(bug)
}
