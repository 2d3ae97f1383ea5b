//! One message under way: what it is, its phase, and its outcome when time runs out.

use super::{keys::ProducerId, outbound::Outbound, reply_subjects::ReplySubject};
use crate::{
    error::{Error, ErrorKind},
    host::mailbox::{Body, Completion},
    message::PubAck,
    testing::planted::{Bug, planted},
};
use std::{sync::Arc, time::Instant};

#[derive(Debug, PartialEq, Eq, Clone, Copy)]
pub(super) enum Phase {
    /// Waits for a place in the window, for its stream to be found, or for an earlier message of its key.
    Waiting,
    /// Waits in the writer's queue.
    Queued,
    /// Was handed to the client on this epoch and has no answer yet.
    Sent(u64),
    /// Was answered with "not now". The next attempt starts when it is due.
    Backoff,
    /// Was denied by the server. It ends when it is due, unless its answer comes first.
    Denied,
}

#[derive(Debug)]
pub(super) enum Kind {
    /// A JetStream message.
    Publish { producer: ProducerId, order: u64, key: Option<Arc<str>>, deduped: bool, admitted: bool },
    /// A core message sent while disconnected. The hand-over to the client ends it.
    Core { producer: ProducerId, order: u64, admitted: bool },
    /// A request. Any answer ends it.
    Request(Asker),
    /// A message to ourselves, which proves that the server has processed everything before it.
    Echo,
}

/// Who made a request. A stream's ack is no reply to a user's request, and may be the reply to one of ours.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Asker {
    User,
    Core,
}

#[derive(Debug)]
pub(super) struct Slot {
    pub(super) kind: Kind,
    pub(super) message: Outbound,
    pub(super) phase: Phase,
    /// When the sweep must handle this slot.
    pub(super) due: Instant,
    pub(super) deadline: Instant,
    pub(super) attempts: u32,
    /// Attempts that may have reached the server and were not answered.
    pub(super) unanswered: u32,
    pub(super) refusal: Option<Error>,
    /// Where its ack arrives, from the first attempt on.
    pub(super) reply_subject: Option<ReplySubject>,
    pub(super) done: Completion,
}

impl Kind {
    pub(super) fn is_of(&self, id: ProducerId) -> bool {
        matches!(self, Self::Publish { producer, .. } | Self::Core { producer, .. } if *producer == id)
    }
}

impl Slot {
    pub(super) fn new(kind: Kind, message: Outbound, deadline: Instant, done: Completion) -> Self {
        Self {
            kind,
            message,
            phase: Phase::Waiting,
            due: deadline,
            deadline,
            attempts: 0,
            unanswered: 0,
            refusal: None,
            reply_subject: None,
            done,
        }
    }

    pub(super) fn order(&self) -> u64 {
        match self.kind {
            Kind::Publish { order, .. } | Kind::Core { order, .. } => order,
            Kind::Request(_) | Kind::Echo => u64::MAX,
        }
    }

    pub(super) fn may_repeat(&self) -> bool {
        matches!(self.kind, Kind::Publish { deduped: true, .. }) && !planted(Bug::SkipRetry)
    }

    /// The outcome when no answer came in time.
    pub(super) fn expired(&self) -> Body {
        let topic = self.message.topic.as_str();
        let error = |kind, text: String| Error::new(kind, text).topic(topic);
        match &self.kind {
            Kind::Request(_) => Body::Reply(Err(error(ErrorKind::Timeout, "no reply came in time".into()))),
            Kind::Echo => {
                Body::Done(Err(error(ErrorKind::Timeout, "the server did not confirm in time".into())))
            }
            Kind::Publish { .. } if planted(Bug::FalseAck) => {
                Body::Sent(Ok(Some(PubAck { stream: "".into(), sequence: 1, duplicate: false })))
            }
            Kind::Publish { .. } if self.unanswered > 0 => Body::Sent(Err(error(
                ErrorKind::PublishUnknown,
                format!(
                    "no ack came for {} attempts{}; the message may be stored: check, or send it again with the same id",
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

    /// The outcome when the server has denied the topic.
    pub(super) fn denied(&self) -> Body {
        match (&self.refusal, &self.kind) {
            // The server let an earlier attempt through, so the message may be stored.
            (_, Kind::Publish { .. }) if self.unanswered > 1 => self.expired(),
            (Some(e), Kind::Request(_)) => Body::Reply(Err(e.clone())),
            (Some(e), Kind::Publish { .. } | Kind::Core { .. }) => Body::Sent(Err(e.clone())),
            (None, _) | (_, Kind::Echo) => self.expired(),
        }
    }

    /// The outcome when reconnecting was given up: the one of an expired slot, with the reason.
    pub(super) fn given_up(&self, why: &Error) -> Body {
        match self.expired() {
            Body::Reply(Err(_)) => Body::Reply(Err(why.clone().topic(self.message.topic.as_str()))),
            Body::Done(Err(_)) => Body::Done(Err(why.clone())),
            Body::Sent(Err(e)) if matches!(e.kind(), ErrorKind::NotSent | ErrorKind::PublishUnknown) => {
                let text = format!("{}; {}", why.message(), e.message());
                Body::Sent(Err(Error::new(e.kind(), text).topic(self.message.topic.as_str())))
            }
            other => other,
        }
    }
}
