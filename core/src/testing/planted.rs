//! Bugs planted on purpose. The fault rig must find each of them, which tests the rig.
//!
//! They exist only with the feature `planted-bugs`, which no package is built with. The environment variable
//! `NATS_EVENTBUS_PLANTED_BUG` then selects one. Without the feature the compiler removes them.

/// A bug.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Bug {
    /// A lost ack or a reconnect starts no further attempt.
    SkipRetry,
    /// A message is acked when its handler starts.
    AckFirst,
    /// Some messages carry the id of the message before them.
    ReuseId,
    /// The original is terminated before its dead letter is stored.
    TermFirst,
    /// `order="key"` has no effect.
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
