//! A send on its way into the pipeline, and what it comes to at once.

use crate::{host::mailbox::Completion, message::Headers};
use async_nats::Subject;
use std::sync::Arc;

/// A send as its producer hands it over.
pub(crate) struct Submission<'a> {
    /// Where to, below the producer's stream; its topic when absent.
    pub(crate) topic: Option<Subject>,
    pub(crate) body: &'a [u8],
    pub(crate) headers: Option<Headers>,
    pub(crate) key: Option<Arc<str>>,
    pub(crate) has_id: bool,
    pub(crate) done: Completion,
}

/// What a submission came to at once.
pub(crate) enum Submitted {
    /// Its completion reports the outcome. `prepare`: the caller must look the stream up.
    Pending { prepare: bool },
    /// It is done and its completion unused: core mode, while connected.
    Done,
}
