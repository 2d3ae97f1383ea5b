//! A message as it goes to the server.

use super::{keys::SlotId, message_ids::MessageIds};
use crate::message::{Headers, ID_HEADER};
use async_nats::Subject;
use bytes::Bytes;
use std::borrow::Cow;

/// What goes to the server, cheap to clone for another attempt.
#[derive(Clone, Debug)]
pub(super) struct Outbound {
    pub(super) topic: Subject,
    pub(super) body: Bytes,
    pub(super) headers: Option<Headers>,
    /// The number of a generated id, which becomes a header of its own.
    pub(super) id: Option<u64>,
}

impl Outbound {
    /// The message id, generated or given by the caller.
    pub(super) fn message_id(&self, ids: &MessageIds) -> Option<Cow<'_, str>> {
        if let Some(number) = self.id {
            return Some(ids.text(number).into());
        }
        let is_id = |(name, _): &&(_, _)| AsRef::<str>::as_ref(name) == ID_HEADER;
        self.headers.as_ref()?.iter().find(is_id).map(|(_, value)| value.as_str().into())
    }
}

/// A message on its way to the client.
pub(super) struct Outgoing {
    pub(super) message: Outbound,
    pub(super) reply: Option<Subject>,
    /// The slot it belongs to, and whether the slot ends with the hand-over.
    pub(super) slot: Option<(SlotId, EndsWith)>,
}

/// What ends a slot that was handed to the client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum EndsWith {
    /// The hand-over itself: a core message.
    HandOver,
    /// An answer, a deadline or a lost connection.
    Answer,
}
