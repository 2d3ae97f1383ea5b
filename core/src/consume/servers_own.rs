//! What a server puts on a topic by itself: delete markers and schedules. No handler sees them. Pure.
//!
//! A delete marker (`Nats-Marker-Reason`) says that the last message of a subject has expired. A schedule
//! (`Nats-Schedule`) is kept until its time has come, and only then the server sends the event to its target.

use super::Settle;
use async_nats::Message;
use std::time::Duration;

const MARKER: &str = "Nats-Marker-Reason";
const SCHEDULE: &str = "Nats-Schedule";
/// How long a schedule is left alone on a stream that would delete it with its ack.
const LATER: Duration = Duration::from_secs(3600);

/// How such a message is settled; none for an event. `deletes` says that the stream deletes what is settled.
pub(super) fn end(m: &Message, deletes: bool) -> Option<Settle> {
    let headers = m.headers.as_ref()?;
    if headers.get(MARKER).is_some() {
        return Some(Settle::Ack);
    }
    headers.get(SCHEDULE)?;
    // Settled there, it would never fire (2.12 to 2.15).
    Some(if deletes { Settle::Nak(Some(LATER)) } else { Settle::Ack })
}

#[cfg(test)]
mod tests {
    use super::*;
    use async_nats::{HeaderMap, Subject};
    use bytes::Bytes;

    #[test]
    fn only_what_the_server_made_is_kept_from_handlers() {
        let with = |name: &str| {
            let mut headers = HeaderMap::new();
            headers.insert(name, "x");
            let (subject, payload) = (Subject::from_static("t"), Bytes::new());
            let headers = Some(headers);
            Message { subject, reply: None, payload, headers, status: None, description: None, length: 0 }
        };
        for (name, deletes, want) in [
            (MARKER, false, Some(Settle::Ack)),
            (MARKER, true, Some(Settle::Ack)),
            (SCHEDULE, false, Some(Settle::Ack)),
            (SCHEDULE, true, Some(Settle::Nak(Some(LATER)))),
            ("Nats-Scheduler", false, None),
            ("Nats-Batch-Id", false, None),
        ] {
            assert_eq!(end(&with(name), deletes), want, "{name}");
        }
    }
}
