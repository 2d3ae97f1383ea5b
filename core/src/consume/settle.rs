//! What becomes of a delivery.

use bytes::Bytes;
use std::time::Duration;

/// What becomes of a delivery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settle {
    /// It is done.
    Ack,
    /// Deliver it again, after a delay or at once.
    Nak(Option<Duration>),
    /// Never deliver it again, for this reason.
    Term(Option<String>),
    /// A handler still works on it: its ack wait starts again.
    InProgress,
}

impl Settle {
    pub(super) fn body(&self) -> Bytes {
        match self {
            Self::Ack => Bytes::from_static(b"+ACK"),
            Self::Nak(None) => Bytes::from_static(b"-NAK"),
            Self::Nak(Some(d)) => format!("-NAK {{\"delay\":{}}}", d.as_nanos()).into(),
            Self::Term(None) => Bytes::from_static(b"+TERM"),
            Self::Term(Some(reason)) => format!("+TERM {reason}").into(),
            Self::InProgress => Bytes::from_static(b"+WPI"),
        }
    }
}
