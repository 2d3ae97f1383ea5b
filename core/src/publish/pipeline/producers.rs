//! How producers come and go, and what the lookups of their streams mean for their messages.

use super::{
    keys::{ProducerId, SlotId},
    producer_state::{FAILURES_KEPT, Preparation, ProducerState},
    slot::Slot,
    state::PipelineState,
    stream_lookup::{ProducerStream, StartLookup},
};
use crate::{
    config::ProducerConfig,
    error::{Error, ErrorKind, Result},
    host::mailbox::{Body, Completion, Listener, Mailbox, Post},
};
use async_nats::Subject;
use std::{collections::HashSet, sync::Arc, time::Instant};

impl PipelineState {
    pub(crate) fn add_producer(
        &mut self,
        topic: Subject,
        config: ProducerConfig,
        jetstream: bool,
    ) -> ProducerId {
        self.producers.insert(ProducerState::new(topic, config, jetstream))
    }

    /// Sets how to look a producer's stream up again.
    pub(crate) fn set_lookup(&mut self, producer: ProducerId, start: StartLookup) {
        if let Some(p) = self.producers.get_mut(producer) {
            p.lookups.start = Some(start);
        }
    }

    /// The producer's first lookup has ended: its held messages go, or fail.
    pub(crate) fn prepared(&mut self, producer: ProducerId, result: Result<ProducerStream>, post: &mut Post) {
        let Some(p) = self.producers.get_mut(producer) else { return };
        let held = std::mem::take(&mut p.held);
        match result {
            Ok(found) => {
                p.preparation = Preparation::Ready;
                p.stream_name = Some(found.name.clone());
                p.stream = Some(found);
                let refused = self.refused(producer);
                let taken = |id: &SlotId| refused.iter().all(|(other, _)| other != id);
                held.into_iter().filter(taken).for_each(|id| self.dispatch(id));
                // After the others, because settling admits later messages.
                refused.into_iter().for_each(|(id, e)| self.settle(id, Body::Sent(Err(e)), post));
            }
            Err(e) => {
                // The next send looks the stream up again: an operator may have declared it.
                p.preparation = Preparation::Unprepared;
                let waiting = std::mem::take(&mut p.waiting);
                for id in held.into_iter().chain(waiting) {
                    self.settle(id, Body::Sent(Err(e.clone())), post);
                }
            }
        }
    }

    /// The messages of a producer that its stream does not take, and why.
    fn refused(&self, producer: ProducerId) -> Vec<(SlotId, Error)> {
        let Some(p) = self.producers.get(producer) else { return Vec::new() };
        let refused = |(id, s): (SlotId, &Slot)| {
            Some((id, p.refuses(s.message.headers.as_ref()).filter(|_| s.kind.is_of(producer))?))
        };
        self.slots.iter().filter_map(refused).collect()
    }

    /// Looks a producer's stream up again, as a new producer would: no stream took a message.
    pub(super) fn lost_stream(&mut self, producer: ProducerId, now: Instant) {
        if let Some(p) = self.producers.get_mut(producer)
            && p.preparation == Preparation::Ready
        {
            p.lookups.start(now);
        }
    }

    /// A later lookup has ended. Waiting messages are tried again, unless a retry cannot help.
    pub(crate) fn looked_up_again(
        &mut self,
        producer: ProducerId,
        result: Result<ProducerStream>,
        post: &mut Post,
    ) {
        let Some(p) = self.producers.get_mut(producer) else { return };
        p.lookups.ended();
        let e = match result {
            Ok(found) => {
                p.lookups.set_failure(None);
                p.stream = Some(found);
                return;
            }
            // An outage says nothing about the stream.
            Err(e) if matches!(e.kind(), ErrorKind::Timeout | ErrorKind::Connection) => return,
            Err(e) => e,
        };
        if e.kind() != ErrorKind::Config {
            // Another service may still declare the stream. If none does in time, this is the reason.
            p.lookups.set_failure(Some(e));
            return;
        }
        // The next send looks the stream up first.
        p.preparation = Preparation::Unprepared;
        p.waiting.clear();
        let not_stored = |(id, s): (SlotId, &Slot)| {
            (s.kind.is_of(producer) && s.unanswered == 0).then_some((s.order(), id))
        };
        let mut ended: Vec<_> = self.slots.iter().filter_map(not_stored).collect();
        ended.sort_unstable();
        for (_, id) in ended {
            self.settle(id, Body::Sent(Err(e.clone())), post);
        }
    }

    /// The caller has cancelled the wait for these sends, so the next flush reports their failures.
    /// Returns the sends that are still under way.
    pub(crate) fn abandon(
        &mut self,
        producer: ProducerId,
        mailbox: &Arc<Mailbox>,
        tokens: &HashSet<u64>,
    ) -> Vec<u64> {
        let mut found = Vec::new();
        for slot in self.slots.values_mut().filter(|s| s.kind.is_of(producer)) {
            if let Some(token) = slot.done.token_of(mailbox).filter(|t| tokens.contains(t)) {
                slot.done = Completion::Nobody;
                found.push(token);
            }
        }
        found
    }

    /// Keeps an unreported failure for the next flush or the listener.
    pub(crate) fn unreported(&mut self, producer: ProducerId, e: Error, post: &mut Post) {
        if let Some(p) = self.producers.get_mut(producer) {
            p.fail(e, post);
        }
    }

    /// The failures that no flush has reported yet, as one error.
    pub(crate) fn all_unreported(&self) -> Option<Error> {
        let total = self.producers.values().map(|p| p.failed).sum();
        let all = self.producers.values().flat_map(|p| p.failures.iter().cloned()).take(FAILURES_KEPT);
        Error::many(all.collect(), total)
    }

    /// Reports later failures without a waiting caller to this listener, not to the next flush.
    pub(crate) fn listen(&mut self, producer: ProducerId, listener: Listener) {
        if let Some(p) = self.producers.get_mut(producer) {
            p.listener = Some(listener);
        }
    }

    /// Removes a producer after its last handle is gone and its last message has ended.
    pub(crate) fn drop_producer(&mut self, producer: ProducerId) {
        if let Some(p) = self.producers.get_mut(producer) {
            p.dropped = true;
            if p.is_idle() {
                self.producers.remove(producer);
            }
        }
    }

    /// Refuses new sends of one producer. Its messages under way keep their outcome.
    pub(crate) fn close_producer(&mut self, producer: ProducerId) {
        if let Some(p) = self.producers.get_mut(producer) {
            p.closed = true;
        }
    }

    /// The failures of a producer since the last report, as one error.
    pub(super) fn take_failures(&mut self, producer: ProducerId) -> Option<Error> {
        self.producers.get_mut(producer)?.take_failures()
    }
}
