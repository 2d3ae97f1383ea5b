//! What is under way, and how it changes: slots settle, windows fill, keys wait their turn. No I/O, no waiting.
//!
//! One lock guards it all; every method is called under that lock and does a bounded amount of work per message.

use super::{
    names::{Ids, Names},
    plain::{Filling, LARGEST},
    slot::{Kind, Out, Outgoing, Phase, Slot, SlotId, Wire},
    window::{Flush, Preparation, ProducerId, ProducerState},
};
use crate::{
    error::{Error, ErrorKind},
    host::mailbox::{Body, Completion, Post},
    message::Headers,
    observe::Metrics,
    testing::planted::{Bug, planted},
};
use bytes::{Bytes, BytesMut};
use slotmap::SlotMap;
use std::{collections::VecDeque, sync::Arc, time::Instant};

const ARENA: usize = 1 << 18;

/// A send as its producer hands it over.
pub(crate) struct Submission<'a> {
    pub(crate) body: &'a [u8],
    pub(crate) headers: Option<Headers>,
    pub(crate) key: Option<Arc<str>>,
    pub(crate) has_id: bool,
    pub(crate) done: Completion,
}

/// What became of a submission at once.
pub(crate) enum Submitted {
    /// Its completion will be called; `prepare` asks the caller to have the stream looked up.
    Pending { prepare: bool },
    /// Core mode, connected: done already, the completion unused.
    Done,
}

pub(crate) struct State {
    pub(crate) slots: SlotMap<SlotId, Slot>,
    pub(crate) producers: SlotMap<ProducerId, ProducerState>,
    pub(crate) out: Vec<Out>,
    /// Whether any of it is not to wait for more.
    pub(super) pressing: bool,
    /// The core messages among `out`.
    pub(super) plain: Filling,
    /// Their bytes, and those of other messages that only the writer's pace bounds.
    pub(crate) out_bytes: usize,
    /// Bodies are copied into shared blocks: one allocation for many small ones.
    arena: BytesMut,
    pub(super) ids: Ids,
    pub(super) names: Names,
    last_id: u64,
    /// When the sweeper must look next.
    pub(crate) next_due: Option<Instant>,
    pub(crate) closed: bool,
    /// Why there will be no connection any more, when that is not its owner's wish.
    pub(super) gone: Option<Error>,
    /// Why no answer can come on this connection: our inbox may not be read.
    pub(super) deaf: Option<Error>,
    pub(crate) metrics: Arc<Metrics>,
}

impl State {
    pub(crate) fn new(inbox: &str, metrics: Arc<Metrics>) -> Self {
        Self {
            slots: SlotMap::with_key(),
            producers: SlotMap::with_key(),
            out: Vec::new(),
            pressing: false,
            plain: Filling::new(),
            out_bytes: 0,
            arena: BytesMut::new(),
            ids: Ids::new(),
            names: Names::new(inbox),
            last_id: 0,
            next_due: None,
            closed: false,
            gone: None,
            deaf: None,
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

    pub(super) fn look_at(&mut self, due: Instant) {
        if self.next_due.is_none_or(|d| due < d) {
            self.next_due = Some(due);
        }
    }

    /// The sends that have no outcome yet.
    pub(crate) fn unsettled(&self) -> u64 {
        let sends = |s: &&Slot| matches!(s.kind, Kind::Publish { .. } | Kind::Core { .. });
        self.slots.values().filter(sends).count() as u64
    }

    /// Adds a slot that waits to be queued.
    pub(crate) fn put(&mut self, kind: Kind, wire: Wire, deadline: Instant, done: Completion) -> SlotId {
        self.look_at(deadline);
        let phase = Phase::Waiting;
        self.slots.insert(Slot {
            kind,
            wire,
            phase,
            due: deadline,
            deadline,
            attempts: 0,
            unanswered: 0,
            refusal: None,
            name: None,
            done,
        })
    }

    pub(crate) fn queue(&mut self, id: SlotId) {
        if let Some(slot) = self.slots.get_mut(id) {
            slot.phase = Phase::Queued;
            slot.due = slot.deadline;
            self.push(Out::Slot(id), self.is_patient(id));
        }
    }

    /// Takes a core message that needs nothing but its body, while the connection is there; false when it has to go the
    /// longer way.
    pub(crate) fn submit_plain(&mut self, producer: ProducerId, body: &[u8]) -> bool {
        let Some(p) = self.producers.get_mut(producer) else { return false };
        let backlogged = self.out_bytes >= p.most_bytes();
        if self.closed || p.closed || p.jetstream || p.in_flight > 0 || backlogged || body.len() > LARGEST {
            return false;
        }
        p.next_order += 1;
        self.plain.push(&p.topic, &mut p.place, body);
        self.out_bytes += body.len() + 64;
        match self.out.last_mut() {
            Some(Out::Run(n)) => *n += 1,
            _ => self.push(Out::Run(1), false),
        }
        self.metrics.sent.add(1);
        self.metrics.acked.add(1);
        true
    }

    /// Takes a send. The caller has checked topic, headers and size.
    pub(crate) fn submit(
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
        let (topic, jetstream, deduped) = (p.topic.clone(), p.jetstream, p.config.dedupe);
        let deadline = now + p.config.delivery_timeout;
        let full = p.in_flight >= p.config.max_in_flight || !p.waiting.is_empty();
        let backlogged = self.out_bytes >= p.most_bytes();
        if s.done.is_nobody() && (full || (!jetstream && backlogged)) {
            return Err(Error::new(
                ErrorKind::Backpressure,
                format!(
                    "{} sends are unsettled, the most allowed: wait, or use send",
                    p.config.max_in_flight
                ),
            )
            .topic(topic.as_str()));
        }
        let immediate = !jetstream && connected && !full && !backlogged;
        let order = p.next_order;
        p.next_order += 1;
        self.metrics.sent.add(1);
        let body = self.copy(s.body);
        if immediate {
            self.metrics.acked.add(1);
            self.out_bytes += body.len() + 64;
            let wire = Wire { topic, body, headers: s.headers, id: None };
            self.push(Out::Plain { wire, reply: None }, false);
            return Ok(Submitted::Done);
        }
        let id = (jetstream && deduped && !s.has_id).then(|| {
            self.last_id += u64::from(!(planted(Bug::ReuseId) && order % 50 == 49));
            self.last_id
        });
        let wire = Wire { topic, body, headers: s.headers, id };
        let kind = if jetstream {
            Kind::Publish { producer, order, key: s.key, deduped, admitted: false }
        } else {
            Kind::Core { producer, order, admitted: false }
        };
        let slot = self.put(kind, wire, deadline, s.done);
        if let (true, Some(p)) = (full, self.producers.get_mut(producer)) {
            p.waiting.push_back(slot);
        } else {
            self.admit(slot);
        }
        Ok(Submitted::Pending { prepare: jetstream && self.start_preparing(producer) })
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

    /// Sends it on, unless an earlier message of its key is under way.
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

    /// Names the message and its stream in the error of its send.
    fn name(&self, slot: &Slot, e: &mut Error) {
        if let Some(id) = slot.wire.message_id(&self.ids) {
            *e = e.clone().id(&*id);
        }
        if let (Kind::Publish { producer, .. }, None) = (&slot.kind, e.stream_name())
            && let Some(stream) = self.producers.get(*producer).and_then(|p| p.stream.as_deref())
        {
            *e = e.clone().stream(stream);
        }
    }

    /// Ends a slot with its one outcome, and lets on what waited for it.
    pub(crate) fn settle(&mut self, id: SlotId, mut body: Body, post: &mut Post) {
        let Some(slot) = self.slots.remove(id) else { return };
        if let Body::Sent(Err(e)) = &mut body {
            self.name(&slot, e);
        }
        if let Some(name) = slot.name {
            self.names.give_back(name, slot.unanswered == 0 && matches!(body, Body::Sent(Ok(_))));
        }
        // Only what has left its lane may let the next of its key go.
        let head = slot.phase != Phase::Waiting;
        let (producer, order, key, admitted) = match slot.kind {
            Kind::Publish { producer, order, key, admitted, .. } => (producer, order, key, admitted),
            Kind::Core { producer, order, admitted } => (producer, order, None, admitted),
            Kind::Request { .. } | Kind::Echo => return post.add(slot.done, body),
        };
        let failure = if let Body::Sent(Err(e)) = &body {
            let m = &self.metrics;
            if e.kind() == ErrorKind::PublishUnknown {
                m.unknown.add(1);
            } else {
                m.rejected.add(1);
            }
            slot.done.is_gone().then(|| e.clone())
        } else {
            self.metrics.acked.add(1);
            None
        };
        post.add(slot.done, body);
        let Some(p) = self.producers.get_mut(producer) else { return };
        if let Some(e) = failure {
            p.fail(e, post);
        }
        p.flushes.iter_mut().filter(|f| order < f.below).for_each(|f| f.left -= 1);
        let mut next = None;
        if let Some(key) = key.filter(|_| admitted && head)
            && let Some(lane) = p.lanes.get_mut(&key)
        {
            // Expired messages have left their lane already: skip to one that is still there.
            while let Some(id) = lane.pop_front() {
                if self.slots.contains_key(id) {
                    next = Some(id);
                    break;
                }
            }
            if next.is_none() {
                p.lanes.remove(&key);
            }
        }
        let mut admitted_next = None;
        if admitted {
            p.in_flight -= 1;
            while let Some(id) = p.waiting.pop_front() {
                if self.slots.contains_key(id) {
                    admitted_next = Some(id);
                    break;
                }
            }
        }
        if p.flushes.iter().any(|f| f.left == 0) {
            p.end_flushes(post);
        }
        if p.dropped && p.is_idle() && admitted_next.is_none() {
            self.producers.remove(producer);
        }
        if let Some(id) = next {
            self.queue(id);
        }
        if let Some(id) = admitted_next {
            self.admit(id);
        }
    }

    /// Ends when every send before it is settled.
    pub(crate) fn flush(&mut self, producer: ProducerId, done: Completion, post: &mut Post) {
        let Some(p) = self.producers.get_mut(producer) else {
            return post.add(done, Body::Done(Err(Error::closed("producer"))));
        };
        let left = self.slots.values().filter(|s| s.kind.of(producer)).count();
        p.flushes.push(Flush { below: p.next_order, left, done });
        if left == 0 {
            p.end_flushes(post);
        }
    }

    /// Marks a slot as handed to the client and tells what to write; `None` when it has ended meanwhile.
    pub(super) fn hand_over(&mut self, id: SlotId, epoch: u64, now: Instant) -> Option<Outgoing> {
        let slot = self.slots.get_mut(id)?;
        if slot.phase != Phase::Queued {
            return None;
        }
        slot.phase = Phase::Sent(epoch);
        slot.attempts += 1;
        slot.unanswered += 1;
        let mut wire = slot.wire.clone();
        let reply = match slot.kind {
            Kind::Publish { producer, .. } => {
                if let Some(p) = self.producers.get(producer) {
                    slot.due = (now + p.config.ack_timeout).min(slot.deadline);
                }
                let name = *slot.name.get_or_insert_with(|| self.names.lend(id));
                self.names.topic_of(name)
            }
            Kind::Request { .. } => Some(self.names.of(id)),
            Kind::Core { .. } => None,
            Kind::Echo => {
                wire.topic = self.names.of(id);
                None
            }
        };
        let core = matches!(slot.kind, Kind::Core { .. });
        let due = slot.due;
        self.look_at(due);
        Some(Outgoing { wire, reply, slot: Some((id, core)) })
    }

    /// Takes back what was marked but not handed over, because the connection was lost first.
    pub(crate) fn take_back(&mut self, id: SlotId) {
        if let Some(slot) = self.slots.get_mut(id) {
            slot.phase = Phase::Queued;
            slot.attempts -= 1;
            slot.unanswered = slot.unanswered.saturating_sub(1);
        }
    }

    /// Ends everything: what may have been stored is unknown, the rest was not sent.
    pub(crate) fn close(&mut self, post: &mut Post) {
        self.closed = true;
        // Settling admits waiters, so go on until none is left.
        while let Some(id) = self.slots.keys().next() {
            let ids: Vec<_> = std::iter::once(id).chain(self.slots.keys()).collect();
            for id in ids {
                let end =
                    |slot: &Slot| self.gone.as_ref().map_or_else(|| slot.expired(), |e| slot.given_up(e));
                if let Some(body) = self.slots.get(id).map(end) {
                    self.settle(id, body, post);
                }
            }
        }
        self.out.clear();
    }
}
