//! What stands first, and what must run alone.

use crate::consume::unsettled::Known;

/// A message that must run alone. Its start is stored first.
pub(in crate::consume) struct Start {
    pub(in crate::consume) token: u64,
    pub(in crate::consume) known: Known,
    pub(in crate::consume) attempt: u64,
}

/// What stands first in the queue.
pub(super) enum Front {
    /// Nothing, or what may not be handed out yet.
    Held,
    Free,
    /// No handler may have it.
    Over,
}
