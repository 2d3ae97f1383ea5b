//! What may wait a little for more of its like, so that many messages are one write and not many.

use super::{
    slot::{Kind, Out, Slot, SlotId},
    state::State,
};

/// So many patient messages are worth a write.
const FEW: usize = 64;
/// With more of its messages under way than these a producer's next one is patient.
const MANY: usize = 256;

impl State {
    /// Queues something for the writer; where it is patient, a few of its like are worth waiting for.
    pub(super) fn push(&mut self, out: Out, patient: bool) {
        self.out.push(out);
        self.pressing |= !patient;
    }

    /// Whether the writer is not to wait for more.
    pub(super) fn in_a_hurry(&self) -> bool {
        self.pressing || self.out.len() >= FEW
    }

    /// Whether a message may wait for the answers to many others, which have it written. One with a key may be all that
    /// is on the wire, whatever its producer has under way: the rest may wait for its answer.
    pub(super) fn is_patient(&self, id: SlotId) -> bool {
        let Some(Slot { kind: Kind::Publish { producer, key: None, .. }, .. }) = self.slots.get(id) else {
            return false;
        };
        self.producers.get(*producer).is_some_and(|p| p.in_flight > MANY)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        config::ProducerConfig,
        host::mailbox::{Completion, Post},
        observe::Metrics,
        publish::pipeline::{Found, Submission},
    };
    use std::{
        sync::Arc,
        time::{Duration, Instant},
    };

    /// Sends so many, all taken by the writer; is it in a hurry over one more?
    fn over_one_more(before: usize, key: Option<&str>) -> bool {
        let mut state = State::new("_INBOX.x", Arc::new(Metrics::default()));
        let producer = state.add_producer("t".into(), ProducerConfig::default(), true);
        let found = Found { stream: "S".into(), no_ack: false, ttl: Ok(Duration::ZERO) };
        state.prepared(producer, Ok(found), &mut Post::default());
        let send = |state: &mut State| {
            let key = key.map(Arc::from);
            let send = Submission { body: b"x", headers: None, key, has_id: false, done: Completion::Nobody };
            assert!(state.submit(producer, send, true, Instant::now()).is_ok());
        };
        (0..before).for_each(|_| send(&mut state));
        let (queued, now) = (std::mem::take(&mut state.out), Instant::now() + Duration::from_millis(1));
        for out in queued {
            let Out::Slot(id) = out else { continue };
            assert!(state.hand_over(id, 1, now).is_some());
        }
        state.pressing = false;
        if key.is_some() {
            // Its answer lets the next of its key go.
            let first = state.slots.keys().next().unwrap();
            state.settle(first, crate::host::mailbox::Body::Sent(Ok(None)), &mut Post::default());
        } else {
            send(&mut state);
        }
        assert_eq!(state.out.len(), 1);
        state.in_a_hurry()
    }

    #[test]
    fn a_message_waits_where_many_are_under_way() {
        assert!(over_one_more(1, None) && over_one_more(MANY - 1, None));
        assert!(!over_one_more(MANY, None));
    }

    #[test]
    fn a_message_with_a_key_never_waits() {
        assert!(over_one_more(MANY * 2, Some("k")));
    }

    #[test]
    fn enough_of_them_are_written() {
        let mut state = State::new("_INBOX.x", Arc::new(Metrics::default()));
        (1..FEW).for_each(|n| state.push(Out::Run(n), true));
        assert!(!state.in_a_hurry());
        state.push(Out::Run(FEW), true);
        assert!(state.in_a_hurry());
    }
}
