//! How a delivery goes on.

use bytes::Bytes;
use std::time::Duration;

/// How a delivery goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settle {
    /// It is done.
    Ack,
    /// It is to be delivered again, after a delay or at once.
    Nak(Option<Duration>),
    /// It is never to be delivered again, for this reason.
    Term(Option<String>),
    /// It is still being worked on: its ack wait starts anew.
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
