//! What a status of the pull protocol asks for. Pure.

/// What to do about a status.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Action {
    /// A sign of life.
    Alive,
    /// The pull has ended: this much of its credit comes back; `None` means all of it.
    Release(Option<usize>),
    /// The next message is larger than what the pull allows in bytes: this much of its credit comes back.
    Oversize(usize),
    /// The server cannot serve the pull now: wait a little, then pull again.
    Again,
    /// The durable may be gone: ask, before going on.
    Check,
    /// The pull itself is wrong and would be again.
    Fail,
}

/// `pending` is `Nats-Pending-Messages`: what the pull had still to deliver.
pub(crate) fn action(status: u16, text: &str, pending: Option<usize>) -> Action {
    let has = |needle: &str| text.to_ascii_lowercase().contains(needle);
    match status {
        100 => Action::Alive,
        404 | 408 => Action::Release(pending),
        409 if has("message size exceeds") => pending.map_or(Action::Release(None), Action::Oversize),
        409 if has("consumer deleted") || has("push based") || has("consumer is") => Action::Check,
        400 => Action::Fail,
        409 if has("exceeded maxrequest") => Action::Fail,
        409 if has("leadership change") || has("server shutdown") => Action::Again,
        409 => Action::Release(pending),
        503 => Action::Check,
        _ => Action::Again,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        /// The loop survives every status, except where the pull itself is wrong.
        #[test]
        fn any_status(status in 0u16..1000, text in ".{0,80}", pending in proptest::option::of(0usize..1000)) {
            let what = action(status, &text, pending);
            prop_assert_eq!(what == Action::Alive, status == 100);
            if what == Action::Fail {
                prop_assert!(status == 400 || (status == 409 && text.to_lowercase().contains("exceeded maxrequest")));
            }
        }
    }

    #[test]
    fn statuses() {
        for (status, text, pending, want) in [
            (100, "Idle Heartbeat", None, Action::Alive),
            (404, "No Messages", None, Action::Release(None)),
            (408, "Request Timeout", Some(7), Action::Release(Some(7))),
            (409, "Leadership Change", None, Action::Again),
            (409, "Server Shutdown", None, Action::Again),
            (409, "Consumer Deleted", None, Action::Check),
            (409, "Consumer is push based", None, Action::Check),
            (409, "Batch Completed", Some(0), Action::Release(Some(0))),
            (409, "Exceeded MaxWaiting", None, Action::Release(None)),
            (409, "Message Size Exceeds MaxBytes", Some(3), Action::Oversize(3)),
            (409, "Exceeded MaxRequestBatch of 10", None, Action::Fail),
            (400, "Bad Request", None, Action::Fail),
            (503, "", None, Action::Check),
            (599, "?", None, Action::Again),
        ] {
            assert_eq!(action(status, text, pending), want, "{status} {text}");
        }
    }
}
