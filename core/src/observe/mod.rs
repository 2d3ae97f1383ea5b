//! What a bus reports: events, notices, health, metrics.

mod feed;
mod health;
mod metrics;
mod notices;

#[cfg(test)]
pub(crate) use feed::CAPACITY;
pub use feed::{Feed, HostFeed};
pub(crate) use feed::{Hub, Item};
pub use health::{ConsumerHealth, Health, JetStreamHealth};
pub(crate) use health::{Facts, without_replaced};
pub(crate) use metrics::Metrics;
pub use metrics::MetricsSnapshot;
pub use notices::{Level, Notice, NoticeKind};
