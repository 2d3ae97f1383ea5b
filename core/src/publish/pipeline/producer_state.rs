//! What the pipeline keeps for one producer: its window, key lanes, flushes and unreported failures.

use super::{
    core_batch::TopicIndex,
    keys::SlotId,
    slot::Slot,
    stream_lookup::{Lookups, ProducerStream},
};
use crate::{
    config::ProducerConfig,
    error::{Error, ErrorKind},
    host::mailbox::{Body, Completion, Listener, Post},
    message::Headers,
};
use async_nats::Subject;
use slotmap::SlotMap;
use std::{
    collections::{HashMap, VecDeque},
    sync::Arc,
};

/// How many failures a flush lists one by one.
pub(super) const FAILURES_KEPT: usize = 100;
/// Bytes of core messages that may always wait for the writer.
const LEAST_QUEUED_BYTES: usize = 4 << 20;
/// Bytes of core messages that may wait for the writer for each place in the window.
const QUEUED_BYTES_A_PLACE: usize = 256;

/// How far the stream's first lookup is.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Preparation {
    Unprepared,
    Running,
    Ready,
}

#[derive(Debug)]
pub(super) struct ProducerState {
    pub(super) topic: Subject,
    pub(super) config: ProducerConfig,
    pub(super) jetstream: bool,
    pub(super) preparation: Preparation,
    pub(super) in_flight: usize,
    pub(super) next_order: u64,
    /// Messages without a place in the window.
    pub(super) waiting: VecDeque<SlotId>,
    /// Messages admitted while the stream is being looked up.
    pub(super) held: Vec<SlotId>,
    /// Keys with a message under way, and the later messages of each.
    pub(super) lanes: HashMap<Arc<str>, VecDeque<SlotId>>,
    pub(super) flushes: Vec<Flush>,
    pub(super) failures: Vec<Error>,
    pub(super) failed: u64,
    /// Receives failures, which otherwise the next flush reports.
    pub(super) listener: Option<Listener>,
    pub(super) stream_name: Option<Arc<str>>,
    pub(super) stream: Option<ProducerStream>,
    pub(super) lookups: Lookups,
    pub(super) closed: bool,
    /// Whether its last handle is gone.
    pub(super) dropped: bool,
    pub(super) topic_index: TopicIndex,
}

/// A flush that waits for the sends before it.
#[derive(Debug)]
pub(super) struct Flush {
    /// It covers the sends with a lower order.
    pub(super) below: u64,
    /// How many of them are unsettled.
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
            stream_name: None,
            stream: None,
            lookups: Lookups::default(),
            closed: false,
            dropped: false,
            topic_index: TopicIndex::default(),
        }
    }

    /// The bytes of core messages that may wait for the writer.
    pub(super) fn max_queued_bytes(&self) -> usize {
        (self.config.max_in_flight * QUEUED_BYTES_A_PLACE).max(LEAST_QUEUED_BYTES)
    }
    /// Whether the window has no place for a further message.
    pub(super) fn is_full(&self) -> bool {
        self.in_flight >= self.config.max_in_flight || !self.waiting.is_empty()
    }
    /// Whether it has no message under way and no flush.
    pub(super) fn is_idle(&self) -> bool {
        self.in_flight == 0 && self.waiting.is_empty() && self.flushes.is_empty()
    }

    pub(super) fn backpressure(&self) -> Error {
        let most = self.config.max_in_flight;
        let text = format!("{most} sends are unsettled, the most allowed: wait, or use send");
        Error::new(ErrorKind::Backpressure, text).topic(self.topic.as_str())
    }

    /// Why the stream does not take a message with these headers, as far as the stream is known.
    pub(super) fn refuses(&self, headers: Option<&Headers>) -> Option<Error> {
        let e = self.stream.as_ref()?.refuses(headers)?;
        Some(e.topic(self.topic.as_str()))
    }

    /// Whether the caller must look the stream up now. True once, until the lookup has ended.
    pub(super) fn start_preparing(&mut self) -> bool {
        let starts = self.preparation == Preparation::Unprepared;
        if starts {
            self.preparation = Preparation::Running;
        }
        starts
    }

    /// Keeps a failure for the next flush, or gives it to the listener.
    pub(super) fn fail(&mut self, e: Error, post: &mut Post) {
        if let Some(listener) = &self.listener {
            return post.tell(listener.clone(), e);
        }
        self.failed += 1;
        if self.failures.len() < FAILURES_KEPT {
            self.failures.push(e);
        }
    }

    /// All failures since the last report, as one error.
    pub(super) fn take_failures(&mut self) -> Option<Error> {
        Error::many(std::mem::take(&mut self.failures), std::mem::take(&mut self.failed))
    }

    pub(super) fn end_flushes(&mut self, post: &mut Post) {
        let ended: Vec<_> = self.flushes.extract_if(.., |f| f.left == 0).collect();
        // A flush whose caller is gone must not take the failures with it.
        for flush in ended.into_iter().filter(|f| !f.done.is_gone()) {
            let failed = self.take_failures();
            post.add(flush.done, Body::Done(failed.map_or(Ok(()), Err)));
        }
    }

    /// Counts a settled send in the flushes that cover it.
    pub(super) fn count_in_flushes(&mut self, order: u64) {
        self.flushes.iter_mut().filter(|f| order < f.below).for_each(|f| f.left -= 1);
    }

    /// The next message of a key after one has ended. Closes the lane when there is none.
    pub(super) fn next_of_key(&mut self, key: &Arc<str>, slots: &SlotMap<SlotId, Slot>) -> Option<SlotId> {
        let next = next_alive(self.lanes.get_mut(key)?, slots);
        if next.is_none() {
            self.lanes.remove(key);
        }
        next
    }

    /// Frees a place in the window and returns the message to admit next.
    pub(super) fn free_place(&mut self, slots: &SlotMap<SlotId, Slot>) -> Option<SlotId> {
        self.in_flight -= 1;
        next_alive(&mut self.waiting, slots)
    }

    /// A stream's name as shared text.
    pub(super) fn shared_name(&mut self, name: &str) -> Arc<str> {
        match &self.stream_name {
            Some(s) if **s == *name => s.clone(),
            _ => self.stream_name.insert(name.into()).clone(),
        }
    }
}

/// The first of a queue that has not ended: expired messages leave the slots and not their queue.
fn next_alive(queue: &mut VecDeque<SlotId>, slots: &SlotMap<SlotId, Slot>) -> Option<SlotId> {
    while let Some(id) = queue.pop_front() {
        if slots.contains_key(id) {
            return Some(id);
        }
    }
    None
}
