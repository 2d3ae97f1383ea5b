//! What a producer's stream was found to be, what it does not take, and looking again when it is gone.

use super::{
    slot::{Slot, SlotId},
    state::State,
    window::{Preparation, ProducerId, ProducerState},
};
use crate::{
    error::{Error, ErrorKind, Result},
    host::mailbox::{Body, Post},
    message::{Headers, ttl_of},
};
use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

/// How soon the stream of a producer is looked up again that refuses nothing and answers nothing.
const LOOK_AGAIN: Duration = Duration::from_secs(1);

/// A producer's stream.
#[derive(Clone, Debug)]
pub(crate) struct Found {
    pub(crate) stream: Arc<str>,
    /// Whether it stores and never acks.
    pub(crate) no_ack: bool,
    /// The least time to live that it keeps as it is, or why it takes none.
    pub(crate) ttl: Result<Duration>,
}

impl Found {
    /// Why a message with these headers may not be sent to it.
    fn refuses(&self, headers: Option<&Headers>) -> Option<Error> {
        let ttl = ttl_of(headers?)?;
        match &self.ttl {
            Err(e) => Some(e.clone()),
            Ok(least) if ttl < *least => {
                let text = format!(
                    "ttl is {ttl:?} and the stream keeps every message for {least:?} at least (subject_delete_marker_ttl): give that, or more"
                );
                Some(Error::new(ErrorKind::NotSupported, text).stream(&*self.stream))
            }
            Ok(_) => None,
        }
    }
}

/// Looks a producer's stream up again, by a task of its own.
#[derive(Clone)]
pub(crate) struct Look(Arc<dyn Fn() + Send + Sync>);

impl Look {
    pub(crate) fn new(f: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(f))
    }
}

impl fmt::Debug for Look {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Look")
    }
}

/// When a producer's stream is looked up again, and how.
#[derive(Debug, Default)]
pub(super) struct Looking {
    pub(super) look: Option<Look>,
    running: bool,
    /// Why it was not found the last time.
    failure: Option<Error>,
    not_before: Option<Instant>,
}

impl ProducerState {
    /// Why no stream took a message, as far as is known.
    pub(super) fn no_stream(&self, e: Error) -> Error {
        match &self.looking.failure {
            Some(found) => {
                let text = format!("{}; {}", e.message(), found.message());
                Error::new(e.kind(), text).in_the_words_of(found)
            }
            None => e,
        }
    }

    pub(super) fn refuses(&self, headers: Option<&Headers>) -> Option<Error> {
        let e = self.found.as_ref()?.refuses(headers)?;
        Some(e.topic(self.topic.as_str()))
    }
}

impl State {
    /// How to look a producer's stream up again.
    pub(crate) fn looks_by(&mut self, producer: ProducerId, look: Look) {
        if let Some(p) = self.producers.get_mut(producer) {
            p.looking.look = Some(look);
        }
    }

    /// No stream took a message: it is looked up, once at a time, as a new producer would.
    pub(super) fn lost_stream(&mut self, producer: ProducerId, now: Instant) {
        let Some(p) = self.producers.get_mut(producer) else { return };
        let ready = matches!(p.preparation, Preparation::Ready) && !p.looking.running;
        if let (true, Some(look)) =
            (ready && p.looking.not_before.is_none_or(|at| at <= now), &p.looking.look)
        {
            (look.0)();
            p.looking.running = true;
            p.looking.not_before = Some(now + LOOK_AGAIN);
        }
    }

    /// The stream was looked up again. What waits for another try is tried again, unless trying cannot help.
    pub(crate) fn looked_again(&mut self, producer: ProducerId, result: Result<Found>, post: &mut Post) {
        let Some(p) = self.producers.get_mut(producer) else { return };
        p.looking.running = false;
        let e = match result {
            Ok(found) => {
                p.looking.failure = None;
                p.found = Some(found);
                return;
            }
            // An outage is no answer.
            Err(e) if matches!(e.kind(), ErrorKind::Timeout | ErrorKind::Connection) => return,
            Err(e) => e,
        };
        if e.kind() != ErrorKind::Config {
            // Another may still declare the stream: this is why, if none does in time.
            p.looking.failure = Some(e);
            return;
        }
        // The next send looks the stream up first.
        p.preparation = Preparation::Unprepared;
        p.waiting.clear();
        let not_stored =
            |(id, s): (SlotId, &Slot)| (s.kind.of(producer) && s.unanswered == 0).then_some((s.order(), id));
        let mut ended: Vec<_> = self.slots.iter().filter_map(not_stored).collect();
        ended.sort_unstable();
        for (_, id) in ended {
            self.settle(id, Body::Sent(Err(e.clone())), post);
        }
    }

    /// Says of what ends without an ack that its stream never acks.
    pub(super) fn explain_silence(p: Option<&ProducerState>, slot: &mut Slot) {
        if p.and_then(|p| p.found.as_ref()).is_some_and(|f| f.no_ack) && slot.refusal.is_none() {
            let text = "the stream has no_ack: it stores and never confirms";
            slot.refusal = Some(Error::new(ErrorKind::PublishUnknown, text));
        }
    }

    /// What may not be sent to the stream that was found.
    pub(super) fn refused(&self, producer: ProducerId) -> Vec<(SlotId, Error)> {
        let Some(p) = self.producers.get(producer) else { return Vec::new() };
        let refused = |(id, s): (SlotId, &Slot)| {
            Some((id, p.refuses(s.wire.headers.as_ref()).filter(|_| s.kind.of(producer))?))
        };
        self.slots.iter().filter_map(refused).collect()
    }
}
