//! What was asked of the server, in messages and in bytes, and what the next pull may ask for.

use crate::{consume::prefetch::Prefetch, message::Delivery};
use std::time::Instant;

/// What to ask the server for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub(in crate::consume) struct Ask {
    pub(in crate::consume) messages: usize,
    /// The most bytes; none: one message of any size.
    pub(in crate::consume) bytes: Option<usize>,
    /// Whether it is more than can begin soon: the server must not keep such a request for long.
    pub(in crate::consume) ahead: bool,
}

/// The credit, and what it depends on.
#[derive(Default)]
pub(super) struct Credit {
    pub(super) prefetch: Prefetch,
    pub(super) most_bytes: usize,
    /// Messages asked for and not yet received, and their bytes.
    pub(super) requested: usize,
    pub(super) requested_bytes: usize,
    /// Whether the next message alone is over the limit of bytes: it is asked for once nothing else is here.
    pub(super) oversize: bool,
    /// Messages that a caller waits for beyond the prefetch.
    pub(super) want: usize,
    /// Since when a caller has waited with nothing to take.
    pub(super) waiting_since: Option<Instant>,
    /// When something was last taken, or waited for.
    pub(super) looked: Option<Instant>,
    /// Whether nothing is pulled, for nothing is taken.
    pub(super) asleep: bool,
    /// Whether the pull loop has an unread wake-up.
    pub(super) room_told: bool,
}

impl Credit {
    pub(super) fn new(prefetch: Prefetch, most_bytes: usize) -> Self {
        Self { prefetch, most_bytes, ..Self::default() }
    }
}

pub(super) fn size_of(d: &Delivery) -> usize {
    let head = |n: &async_nats::HeaderName, v: &[async_nats::HeaderValue]| {
        v.iter().map(|v| AsRef::<str>::as_ref(n).len() + v.as_str().len() + 4).sum::<usize>()
    };
    d.body.len() + d.headers.iter().flat_map(|h| h.iter()).map(|(n, v)| head(n, v)).sum::<usize>()
}
