//! What one consumer knows of the attempt records.

use super::unsettled::Known;
use parking_lot::Mutex;
use std::{collections::HashMap, sync::atomic::AtomicBool};
use tokio::sync::OnceCell;

/// What one consumer knows of the records.
#[derive(Debug, Default)]
pub(super) struct Records {
    pub(super) declared: OnceCell<()>,
    /// Without a right the records are left out; that is said once.
    pub(super) denied: AtomicBool,
    pub(super) returned: Mutex<Counts>,
}

/// Deliveries given back unbegun, by message, and how far they were read.
#[derive(Debug, Default)]
pub(super) struct Counts {
    pub(super) by_message: HashMap<Known, u64>,
    pub(super) read_to: u64,
}
