//! One message under way: what it is, where it stands, and its honest outcome when time runs out.

use super::{
    names::{Ids, Name},
    window::ProducerId,
};
use crate::{
    error::{Error, ErrorKind},
    host::mailbox::{Body, Completion},
    message::{Headers, ID_HEADER, PubAck},
    testing::planted::{Bug, planted},
};
use async_nats::Subject;
use bytes::Bytes;
use slotmap::new_key_type;
use std::{borrow::Cow, sync::Arc, time::Instant};

new_key_type! { pub(crate) struct SlotId; }

/// What goes on the wire, cheap to clone for another attempt.
#[derive(Clone, Debug)]
pub(crate) struct Wire {
    pub(crate) topic: Subject,
    pub(crate) body: Bytes,
    pub(crate) headers: Option<Headers>,
    /// The number of a generated id, sent as a header of its own.
    pub(crate) id: Option<u64>,
}

impl Wire {
    /// The id it carries, generated or given.
    pub(super) fn message_id(&self, ids: &Ids) -> Option<Cow<'_, str>> {
        if let Some(number) = self.id {
            return Some(ids.text(number).into());
        }
        let of_id = |(name, _): &&(_, _)| AsRef::<str>::as_ref(name) == ID_HEADER;
        self.headers.as_ref()?.iter().find(of_id).map(|(_, value)| value.as_str().into())
    }
}

/// What the writer is to hand to the client.
#[derive(Debug)]
pub(crate) enum Out {
    /// Something that is answered, or counted, through its slot.
    Slot(SlotId),
    /// Something nobody waits for: an ack, a pull, a core message sent while connected.
    Plain { wire: Wire, reply: Option<Subject> },
    /// So many of the batch of core messages.
    Run(usize),
}

#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(super) enum Phase {
    /// Held: no place in the window, the stream not yet known, or an earlier message of the key under way.
    Waiting,
    /// In the writer's queue.
    Queued,
    /// Handed to the client on this epoch, unanswered.
    Sent(u64),
    /// Answered with "not now": tried again when due.
    Backoff,
    /// Denied by the server: it ends when due, unless its answer comes before.
    Denied,
}

#[derive(Debug)]
pub(crate) enum Kind {
    /// A `JetStream` message.
    Publish { producer: ProducerId, order: u64, key: Option<Arc<str>>, deduped: bool, admitted: bool },
    /// A core message sent while disconnected: done when handed over.
    Core { producer: ProducerId, order: u64, admitted: bool },
    /// A request; anything answered ends it. Of the user's a stream's ack is no reply; of our own calls it may be.
    Request { own: bool },
    /// A question to ourselves that proves the server has seen all before it.
    Echo,
}

/// A message on its way to the client.
pub(super) struct Outgoing {
    pub(super) wire: Wire,
    pub(super) reply: Option<Subject>,
    /// The slot it comes from, and whether handing it over is its end.
    pub(super) slot: Option<(SlotId, bool)>,
}

#[derive(Debug)]
pub(crate) struct Slot {
    pub(crate) kind: Kind,
    pub(crate) wire: Wire,
    pub(super) phase: Phase,
    /// When to look at it next.
    pub(super) due: Instant,
    pub(super) deadline: Instant,
    pub(super) attempts: u32,
    /// Attempts that may have reached the server and were not answered.
    pub(super) unanswered: u32,
    pub(super) refusal: Option<Error>,
    /// Where its ack comes to, from its first attempt on.
    pub(super) name: Option<Name>,
    pub(super) done: Completion,
}

impl Kind {
    pub(super) fn of(&self, id: ProducerId) -> bool {
        matches!(self, Self::Publish { producer, .. } | Self::Core { producer, .. } if *producer == id)
    }
}

impl Slot {
    pub(super) fn order(&self) -> u64 {
        match self.kind {
            Kind::Publish { order, .. } | Kind::Core { order, .. } => order,
            Kind::Request { .. } | Kind::Echo => u64::MAX,
        }
    }
    pub(super) fn may_repeat(&self) -> bool {
        matches!(self.kind, Kind::Publish { deduped: true, .. }) && !planted(Bug::SkipRetry)
    }
    /// The honest outcome when no answer came in time.
    pub(super) fn expired(&self) -> Body {
        let topic = self.wire.topic.as_str();
        let error = |kind, text: String| Error::new(kind, text).topic(topic);
        match &self.kind {
            Kind::Request { .. } => {
                Body::Reply(Err(error(ErrorKind::Timeout, "no reply came in time".into())))
            }
            Kind::Echo => {
                Body::Done(Err(error(ErrorKind::Timeout, "the server did not confirm in time".into())))
            }
            Kind::Publish { .. } if planted(Bug::FalseAck) => {
                Body::Sent(Ok(Some(PubAck { stream: "".into(), sequence: 1, duplicate: false })))
            }
            Kind::Publish { .. } if self.unanswered > 0 => Body::Sent(Err(error(
                ErrorKind::PublishUnknown,
                format!(
                    "no ack came for {} attempts{}; it may be stored: check, or send again with the same id",
                    self.attempts,
                    self.refusal.as_ref().map_or(String::new(), |e| format!(" ({})", e.message())),
                ),
            ))),
            _ => Body::Sent(Err(match &self.refusal {
                Some(e) => e.clone().topic(topic),
                None => error(
                    ErrorKind::NotSent,
                    "the message was never handed to a live connection: it is not stored".into(),
                ),
            })),
        }
    }
}
