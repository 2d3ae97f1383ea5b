//! What a bus tells of itself: events, notices.

mod feed;
mod notices;

#[cfg(test)]
pub(crate) use feed::KEPT;
pub use feed::{Feed, HostFeed};
pub(crate) use feed::{Hub, Item};
pub use notices::{Level, Notice, NoticeKind};
