//! The messages under way and how they move: slots settle, windows fill, keys take turns. No I/O, no waiting.
//!
//! One lock guards all of it. Every method runs under that lock and does a bounded amount of work per message.

use super::{
    core_batch::LARGEST,
    keys::{ProducerId, SlotId},
    message_ids::MessageIds,
    outbound::{EndsWith, Outbound, Outgoing},
    outbox::{Outbox, Queued, Urgency},
    producer_state::{Flush, Preparation, ProducerState},
    reply_subjects::{LateAnswer, ReplySubjects},
    slot::{Kind, Phase, Slot},
    submission::{Submission, Submitted},
};
use crate::{
    error::{Error, ErrorKind},
    host::mailbox::{Body, Completion, Post},
    observe::Metrics,
    testing::planted::{Bug, planted},
};
use bytes::{Bytes, BytesMut};
use slotmap::SlotMap;
use std::{collections::VecDeque, sync::Arc, time::Instant};

const ARENA: usize = 1 << 18;
/// A producer with more messages in flight defers its next message: the answers to the others have it written.
const BUSY: usize = 256;

/// Whether a core message that is only a body takes the fast path.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum FastPath {
    Taken,
    /// It needs a slot, or an error: use `submit`.
    Unfit,
}

pub(crate) struct PipelineState {
    pub(super) slots: SlotMap<SlotId, Slot>,
    pub(super) producers: SlotMap<ProducerId, ProducerState>,
    pub(super) outbox: Outbox,
    /// Bodies are copied into shared blocks: one allocation for many small ones.
    arena: BytesMut,
    pub(super) ids: MessageIds,
    pub(super) reply_subjects: ReplySubjects,
    last_id: u64,
    /// When the next sweep is due.
    pub(super) next_due: Option<Instant>,
    pub(super) closed: bool,
    /// Why reconnecting was given up.
    pub(super) gave_up: Option<Error>,
    /// Why no answer can arrive on this connection: the server denies our inbox.
    pub(super) inbox_denied: Option<Error>,
    pub(super) metrics: Arc<Metrics>,
}

impl PipelineState {
    pub(super) fn new(inbox: &str, metrics: Arc<Metrics>) -> Self {
        Self {
            slots: SlotMap::with_key(),
            producers: SlotMap::with_key(),
            outbox: Outbox::new(),
            arena: BytesMut::new(),
            ids: MessageIds::new(),
            reply_subjects: ReplySubjects::new(inbox),
            last_id: 0,
            next_due: None,
            closed: false,
            gave_up: None,
            inbox_denied: None,
            metrics,
        }
    }

    pub(crate) fn copy(&mut self, body: &[u8]) -> Bytes {
        if body.len() >= ARENA / 4 {
            return Bytes::copy_from_slice(body);
        }
        if self.arena.capacity() < body.len() {
            self.arena.reserve(ARENA);
        }
        self.arena.extend_from_slice(body);
        self.arena.split().freeze()
    }

    /// Makes sure that a sweep runs at this time.
    pub(super) fn sweep_at(&mut self, due: Instant) {
        if self.next_due.is_none_or(|d| due < d) {
            self.next_due = Some(due);
        }
    }

    /// Whether nothing is under way.
    pub(crate) fn is_idle(&self) -> bool {
        self.slots.is_empty()
    }
    /// The number of sends without an outcome.
    pub(crate) fn unsettled(&self) -> u64 {
        let sends = |s: &&Slot| matches!(s.kind, Kind::Publish { .. } | Kind::Core { .. });
        self.slots.values().filter(sends).count() as u64
    }

    /// Why no request can be made now.
    pub(super) fn cannot_ask(&self) -> Option<Error> {
        if self.closed { Some(self.why_closed()) } else { self.inbox_denied.clone() }
    }
    fn why_closed(&self) -> Error {
        self.gave_up.clone().unwrap_or_else(|| Error::closed("bus"))
    }

    /// Adds a slot that waits to be queued.
    pub(super) fn insert(
        &mut self,
        kind: Kind,
        message: Outbound,
        deadline: Instant,
        done: Completion,
    ) -> SlotId {
        self.sweep_at(deadline);
        self.slots.insert(Slot::new(kind, message, deadline, done))
    }

    pub(super) fn queue(&mut self, id: SlotId) {
        if let Some(slot) = self.slots.get_mut(id) {
            slot.phase = Phase::Queued;
            slot.due = slot.deadline;
            self.outbox.push(Queued::Slot(id), self.urgency(id));
        }
    }

    /// A message may wait when its producer has many others in flight. A message with a key may be the only one on the
    /// wire however many its producer has in flight, because the others may wait for its answer.
    fn urgency(&self, id: SlotId) -> Urgency {
        let Some(Slot { kind: Kind::Publish { producer, key: None, .. }, .. }) = self.slots.get(id) else {
            return Urgency::Now;
        };
        match self.producers.get(*producer) {
            Some(p) if p.in_flight > BUSY => Urgency::Deferrable,
            _ => Urgency::Now,
        }
    }

    /// Takes a core message that is only a body, while connected.
    pub(super) fn submit_core_body(&mut self, producer: ProducerId, body: &[u8]) -> FastPath {
        let Some(p) = self.producers.get_mut(producer) else { return FastPath::Unfit };
        let backlogged = self.outbox.core_bytes() >= p.max_queued_bytes();
        if self.closed || p.closed || p.jetstream || p.in_flight > 0 || backlogged || body.len() > LARGEST {
            return FastPath::Unfit;
        }
        p.next_order += 1;
        self.outbox.push_core_body(&p.topic, &mut p.topic_index, body);
        self.metrics.sent.add(1);
        self.metrics.acked.add(1);
        FastPath::Taken
    }

    /// Takes a send. The caller has checked topic, headers and size.
    pub(super) fn submit(
        &mut self,
        producer: ProducerId,
        s: Submission<'_>,
        connected: bool,
        now: Instant,
    ) -> Result<Submitted, Error> {
        if self.closed {
            return Err(self.why_closed());
        }
        let Some(p) = self.producers.get_mut(producer) else { return Err(Error::closed("producer")) };
        if p.closed {
            return Err(Error::closed("producer").topic(p.topic.as_str()));
        }
        if let Some(e) = p.refuses(s.headers.as_ref()) {
            return Err(e);
        }
        let (jetstream, full) = (p.jetstream, p.is_full());
        let backlogged = self.outbox.core_bytes() >= p.max_queued_bytes();
        if s.done.is_nobody() && (full || (!jetstream && backlogged)) {
            return Err(p.backpressure());
        }
        let topic = s.topic.unwrap_or_else(|| p.topic.clone());
        let (deadline, order) = (now + p.config.delivery_timeout, p.next_order);
        let deduped = p.config.dedupe;
        p.next_order += 1;
        self.metrics.sent.add(1);
        let body = self.copy(s.body);
        if !jetstream && connected && !full && !backlogged {
            self.metrics.acked.add(1);
            self.outbox.push_core(Outbound { topic, body, headers: s.headers, id: None });
            return Ok(Submitted::Done);
        }
        let id = (jetstream && deduped && !s.has_id).then(|| self.next_id(order));
        let kind = if jetstream {
            Kind::Publish { producer, order, key: s.key, deduped, admitted: false }
        } else {
            Kind::Core { producer, order, admitted: false }
        };
        let slot = self.insert(kind, Outbound { topic, body, headers: s.headers, id }, deadline, s.done);
        if let (true, Some(p)) = (full, self.producers.get_mut(producer)) {
            p.waiting.push_back(slot);
        } else {
            self.admit(slot);
        }
        let prepare =
            jetstream && self.producers.get_mut(producer).is_some_and(ProducerState::start_preparing);
        Ok(Submitted::Pending { prepare })
    }

    fn next_id(&mut self, order: u64) -> u64 {
        self.last_id += u64::from(!(planted(Bug::ReuseId) && order % 50 == 49));
        self.last_id
    }

    /// Gives a waiting slot its place in the window.
    fn admit(&mut self, id: SlotId) {
        let Some(slot) = self.slots.get_mut(id) else { return };
        let (Kind::Publish { producer, admitted, .. } | Kind::Core { producer, admitted, .. }) =
            &mut slot.kind
        else {
            return;
        };
        *admitted = true;
        let Some(p) = self.producers.get_mut(*producer) else { return };
        p.in_flight += 1;
        match p.preparation {
            Preparation::Ready => self.dispatch(id),
            _ => p.held.push(id),
        }
    }

    /// Queues a slot, unless an earlier message of its key is under way.
    pub(super) fn dispatch(&mut self, id: SlotId) {
        if let Some(Slot { kind: Kind::Publish { producer, key: Some(key), .. }, .. }) = self.slots.get(id)
            && let Some(p) = self.producers.get_mut(*producer)
        {
            if let Some(lane) = p.lanes.get_mut(key) {
                lane.push_back(id);
                return;
            }
            p.lanes.insert(key.clone(), VecDeque::new());
        }
        self.queue(id);
    }

    /// Adds the message id and the stream to the error of a send.
    fn add_context(&self, slot: &Slot, e: &mut Error) {
        if let Some(id) = slot.message.message_id(&self.ids) {
            *e = e.clone().id(&*id);
        }
        if let (Kind::Publish { producer, .. }, None) = (&slot.kind, e.stream_name())
            && let Some(stream) = self.producers.get(*producer).and_then(|p| p.stream_name.as_deref())
        {
            *e = e.clone().stream(stream);
        }
    }

    /// Counts the outcome of a send.
    fn count(&self, body: &Body) {
        match body {
            Body::Sent(Err(e)) if e.kind() == ErrorKind::PublishUnknown => self.metrics.unknown.add(1),
            Body::Sent(Err(_)) => self.metrics.rejected.add(1),
            _ => self.metrics.acked.add(1),
        }
    }

    /// Ends a slot with its one outcome, and starts the messages that waited for it.
    pub(super) fn settle(&mut self, id: SlotId, mut body: Body, post: &mut Post) {
        let Some(slot) = self.slots.remove(id) else { return };
        if let Body::Sent(Err(e)) = &mut body {
            self.add_context(&slot, e);
        }
        if let Some(subject) = slot.reply_subject {
            let all_answered = slot.unanswered == 0 && matches!(body, Body::Sent(Ok(_)));
            let late = if all_answered { LateAnswer::Impossible } else { LateAnswer::Possible };
            self.reply_subjects.release(subject, late);
        }
        // A message that still waits in its lane must not start the next of its key.
        let left_lane = slot.phase != Phase::Waiting;
        let (producer, order, key, admitted) = match slot.kind {
            Kind::Publish { producer, order, key, admitted, .. } => (producer, order, key, admitted),
            Kind::Core { producer, order, admitted } => (producer, order, None, admitted),
            Kind::Request(_) | Kind::Echo => return post.add(slot.done, body),
        };
        self.count(&body);
        let unreported = match &body {
            Body::Sent(Err(e)) if slot.done.is_gone() => Some(e.clone()),
            _ => None,
        };
        post.add(slot.done, body);
        let Some(p) = self.producers.get_mut(producer) else { return };
        if let Some(e) = unreported {
            p.fail(e, post);
        }
        p.count_in_flushes(order);
        let next_of_key =
            key.filter(|_| admitted && left_lane).and_then(|key| p.next_of_key(&key, &self.slots));
        let next_admitted = if admitted { p.free_place(&self.slots) } else { None };
        if p.flushes.iter().any(|f| f.left == 0) {
            p.end_flushes(post);
        }
        if p.dropped && p.is_idle() && next_admitted.is_none() {
            self.producers.remove(producer);
        }
        if let Some(id) = next_of_key {
            self.queue(id);
        }
        if let Some(id) = next_admitted {
            self.admit(id);
        }
    }

    /// Ends when every send before it is settled.
    pub(crate) fn flush(&mut self, producer: ProducerId, done: Completion, post: &mut Post) {
        let Some(p) = self.producers.get_mut(producer) else {
            return post.add(done, Body::Done(Err(Error::closed("producer"))));
        };
        let left = self.slots.values().filter(|s| s.kind.is_of(producer)).count();
        p.flushes.push(Flush { below: p.next_order, left, done });
        if left == 0 {
            p.end_flushes(post);
        }
    }

    /// Marks a slot as handed to the client and returns what to write. `None` when the slot has ended meanwhile.
    pub(super) fn hand_over(&mut self, id: SlotId, epoch: u64, now: Instant) -> Option<Outgoing> {
        let slot = self.slots.get_mut(id)?;
        if slot.phase != Phase::Queued {
            return None;
        }
        slot.phase = Phase::Sent(epoch);
        slot.attempts += 1;
        slot.unanswered += 1;
        let mut message = slot.message.clone();
        let mut ends_with = EndsWith::Answer;
        let reply = match slot.kind {
            Kind::Publish { producer, .. } => {
                if let Some(p) = self.producers.get(producer) {
                    slot.due = (now + p.config.ack_timeout).min(slot.deadline);
                }
                let subject = *slot.reply_subject.get_or_insert_with(|| self.reply_subjects.assign(id));
                self.reply_subjects.subject(subject)
            }
            Kind::Request(_) => Some(self.reply_subjects.one_off(id)),
            Kind::Core { .. } => {
                ends_with = EndsWith::HandOver;
                None
            }
            Kind::Echo => {
                message.topic = self.reply_subjects.one_off(id);
                None
            }
        };
        let due = slot.due;
        self.sweep_at(due);
        Some(Outgoing { message, reply, slot: Some((id, ends_with)) })
    }

    /// Undoes [`hand_over`](Self::hand_over) for a message that the client did not get, because the connection was lost.
    pub(super) fn undo_hand_over(&mut self, id: SlotId) {
        if let Some(slot) = self.slots.get_mut(id) {
            slot.phase = Phase::Queued;
            slot.attempts -= 1;
            slot.unanswered = slot.unanswered.saturating_sub(1);
        }
    }

    /// Ends everything. The outcome of what may be stored is unknown; the rest was not sent.
    pub(crate) fn close(&mut self, post: &mut Post) {
        self.closed = true;
        // Settling admits waiting messages, so repeat until none is left.
        while let Some(id) = self.slots.keys().next() {
            let ids: Vec<_> = std::iter::once(id).chain(self.slots.keys()).collect();
            for id in ids {
                let end =
                    |slot: &Slot| self.gave_up.as_ref().map_or_else(|| slot.expired(), |e| slot.given_up(e));
                if let Some(body) = self.slots.get(id).map(end) {
                    self.settle(id, body, post);
                }
            }
        }
        self.outbox.clear();
    }
}
