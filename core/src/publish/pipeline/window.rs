//! A producer's window: its places, key lanes, flushes and the failures nobody was told; how producers come and go.

use super::{
    found::{Found, Looking},
    plain::Place,
    slot::SlotId,
    state::State,
};
use crate::{
    config::ProducerConfig,
    error::Error,
    host::mailbox::{Body, Completion, Listener, Mailbox, Post},
};
use async_nats::Subject;
use slotmap::new_key_type;
use std::{
    collections::{HashMap, HashSet, VecDeque},
    sync::Arc,
};

new_key_type! { pub(crate) struct ProducerId; }

/// How many failures a flush names one by one.
const FAILURES_KEPT: usize = 100;

#[derive(Debug)]
pub(super) enum Preparation {
    Unprepared,
    Running,
    Ready,
}

#[derive(Debug)]
pub(crate) struct ProducerState {
    pub(crate) topic: Subject,
    pub(crate) config: ProducerConfig,
    pub(crate) jetstream: bool,
    pub(super) preparation: Preparation,
    pub(super) in_flight: usize,
    pub(super) next_order: u64,
    pub(super) waiting: VecDeque<SlotId>,
    /// Messages admitted while the stream is being looked up.
    pub(super) held: Vec<SlotId>,
    /// Keys with a message under way, and the later messages of each.
    pub(super) lanes: HashMap<Arc<str>, VecDeque<SlotId>>,
    pub(super) flushes: Vec<Flush>,
    pub(super) failures: Vec<Error>,
    pub(super) failed: u64,
    /// Told of failures instead of the next flush.
    pub(super) listener: Option<Listener>,
    pub(super) stream: Option<Arc<str>>,
    pub(super) found: Option<Found>,
    pub(super) looking: Looking,
    pub(super) closed: bool,
    /// Whether its last handle is gone.
    pub(super) dropped: bool,
    pub(super) place: Place,
}

#[derive(Debug)]
pub(super) struct Flush {
    pub(super) below: u64,
    pub(super) left: usize,
    pub(super) done: Completion,
}

impl ProducerState {
    pub(super) fn new(topic: Subject, config: ProducerConfig, jetstream: bool) -> Self {
        Self {
            topic,
            config,
            jetstream,
            preparation: if jetstream { Preparation::Unprepared } else { Preparation::Ready },
            in_flight: 0,
            next_order: 0,
            waiting: VecDeque::new(),
            held: Vec::new(),
            lanes: HashMap::new(),
            flushes: Vec::new(),
            failures: Vec::new(),
            failed: 0,
            listener: None,
            stream: None,
            found: None,
            looking: Looking::default(),
            closed: false,
            dropped: false,
            place: Place::default(),
        }
    }
    /// The bytes of core messages that may wait for the writer.
    pub(super) fn most_bytes(&self) -> usize {
        (self.config.max_in_flight * 256).max(4 << 20)
    }
    /// Whether nothing of it is under way.
    pub(super) fn is_idle(&self) -> bool {
        self.in_flight == 0 && self.waiting.is_empty() && self.flushes.is_empty()
    }
    /// A failure that nobody waits for.
    pub(super) fn fail(&mut self, e: Error, post: &mut Post) {
        if let Some(listener) = &self.listener {
            return post.tell(listener.clone(), e);
        }
        self.failed += 1;
        if self.failures.len() < FAILURES_KEPT {
            self.failures.push(e);
        }
    }
    pub(super) fn end_flushes(&mut self, post: &mut Post) {
        let ended: Vec<_> = self.flushes.extract_if(.., |f| f.left == 0).collect();
        // One that nobody waits for any more tells nobody.
        for flush in ended.into_iter().filter(|f| !f.done.is_gone()) {
            let failed = Error::many(std::mem::take(&mut self.failures), std::mem::take(&mut self.failed));
            post.add(flush.done, Body::Done(failed.map_or(Ok(()), Err)));
        }
    }
    /// The name as an already shared text.
    pub(super) fn stream_named(&mut self, name: &str) -> Arc<str> {
        match &self.stream {
            Some(s) if **s == *name => s.clone(),
            _ => self.stream.insert(name.into()).clone(),
        }
    }
}

impl State {
    pub(crate) fn add_producer(
        &mut self,
        topic: Subject,
        config: ProducerConfig,
        jetstream: bool,
    ) -> ProducerId {
        self.producers.insert(ProducerState::new(topic, config, jetstream))
    }

    /// Whether this producer's stream must be looked up now; true once until it is prepared or fails.
    pub(super) fn start_preparing(&mut self, producer: ProducerId) -> bool {
        match self.producers.get_mut(producer) {
            Some(p) if matches!(p.preparation, Preparation::Unprepared) => {
                p.preparation = Preparation::Running;
                true
            }
            _ => false,
        }
    }

    /// The producer's stream was found, or not.
    pub(crate) fn prepared(&mut self, producer: ProducerId, result: Result<Found, Error>, post: &mut Post) {
        let Some(p) = self.producers.get_mut(producer) else { return };
        let held = std::mem::take(&mut p.held);
        match result {
            Ok(found) => {
                p.preparation = Preparation::Ready;
                p.stream = Some(found.stream.clone());
                p.found = Some(found);
                let refused = self.refused(producer);
                let taken = |id: &SlotId| refused.iter().all(|(other, _)| other != id);
                held.into_iter().filter(taken).for_each(|id| self.dispatch(id));
                // Only now: their places are taken by later messages.
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

    /// Nobody waits for these sends any more: their failures are the next flush's.
    /// Which of them were still under way.
    pub(crate) fn abandon(
        &mut self,
        producer: ProducerId,
        mailbox: &Arc<Mailbox>,
        tokens: &HashSet<u64>,
    ) -> Vec<u64> {
        let mut found = Vec::new();
        for slot in self.slots.values_mut().filter(|s| s.kind.of(producer)) {
            if let Some(token) = slot.done.token_of(mailbox).filter(|t| tokens.contains(t)) {
                slot.done = Completion::Nobody;
                found.push(token);
            }
        }
        found
    }

    /// Keeps a failure that nobody was told, for the next flush or the listener.
    pub(crate) fn unreported(&mut self, producer: ProducerId, e: Error, post: &mut Post) {
        if let Some(p) = self.producers.get_mut(producer) {
            p.fail(e, post);
        }
    }

    /// The failures that no flush has reported yet, as one.
    pub(crate) fn failures_unseen(&self) -> Option<Error> {
        let total = self.producers.values().map(|p| p.failed).sum();
        let all = self.producers.values().flat_map(|p| p.failures.iter().cloned()).take(FAILURES_KEPT);
        Error::many(all.collect(), total)
    }

    /// From now on failures that nobody waits for are told to it, not to the next flush.
    pub(crate) fn listen(&mut self, producer: ProducerId, listener: Listener) {
        if let Some(p) = self.producers.get_mut(producer) {
            p.listener = Some(listener);
        }
    }

    /// Nobody can send by it any more: it is forgotten once its last message has ended.
    pub(crate) fn drop_producer(&mut self, producer: ProducerId) {
        if let Some(p) = self.producers.get_mut(producer) {
            p.dropped = true;
            if p.is_idle() {
                self.producers.remove(producer);
            }
        }
    }

    /// Refuses new sends of one producer; those under way go on.
    pub(crate) fn close_producer(&mut self, producer: ProducerId) {
        if let Some(p) = self.producers.get_mut(producer) {
            p.closed = true;
        }
    }
}
