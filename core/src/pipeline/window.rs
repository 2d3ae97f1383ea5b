//! One producer's window: its places, key lanes, flushes and the failures nobody was told.

use super::{plain::Place, slot::SlotId};
use crate::{
    config::ProducerConfig,
    error::Error,
    mailbox::{Body, Completion, Listener, Post},
};
use async_nats::Subject;
use slotmap::new_key_type;
use std::{
    collections::{HashMap, VecDeque},
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
