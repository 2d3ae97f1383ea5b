//! What an answer, a deadline or a reconnect means for what is under way: its end, or another attempt.

use super::{
    outcome::{Answer, classify, plain_ack},
    slot::{Kind, Out, Phase, SlotId},
    state::State,
};
use crate::{
    error::{Error, ErrorKind},
    host::mailbox::{Body, Post},
    message::{Delivery, PubAck},
    request::read_reply,
};
use std::time::{Duration, Instant};

impl State {
    /// What an answer in our inbox says about its slot.
    pub(crate) fn answered(&mut self, id: SlotId, m: async_nats::Message, now: Instant, post: &mut Post) {
        let status = m.status.map(|s| s.as_u16());
        let Some(slot) = self.slots.get_mut(id) else { return };
        let producer = match slot.kind {
            Kind::Publish { producer, .. } => producer,
            Kind::Request { own } => {
                let topic = slot.wire.topic.clone();
                let result = if status == Some(503) {
                    Err(Error::new(ErrorKind::NoResponders, "nobody answers this topic: start a responder")
                        .topic(topic.as_str()))
                } else {
                    read_reply(Delivery::new(m), own).map(Box::new).map_err(|e| e.topic(topic.as_str()))
                };
                return self.settle(id, Body::Reply(result), post);
            }
            Kind::Echo => return self.settle(id, Body::Done(Ok(())), post),
            Kind::Core { .. } => return,
        };
        if let (None, Some(stream)) = (status, self.producers.get(producer).and_then(|p| p.stream.as_ref()))
            && let Some(sequence) = plain_ack(stream, &m.payload)
        {
            let ack = PubAck { stream: stream.clone(), sequence, duplicate: false };
            slot.unanswered = slot.unanswered.saturating_sub(1);
            return self.settle(id, Body::Sent(Ok(Some(ack))), post);
        }
        match classify(status, &m.payload) {
            Answer::Stored { stream, sequence, duplicate } => {
                if duplicate {
                    self.metrics.duplicates.add(1);
                }
                let stream = match self.producers.get_mut(producer) {
                    Some(p) => p.stream_named(&stream),
                    None => stream.into(),
                };
                self.settle(id, Body::Sent(Ok(Some(PubAck { stream, sequence, duplicate }))), post);
            }
            Answer::Rejected(e) => {
                let e = e.topic(slot.wire.topic.as_str());
                self.settle(id, Body::Sent(Err(e)), post);
            }
            // The stream's own word is still to come.
            Answer::Foreign(e) => slot.refusal = Some(e),
            Answer::Retry(e) => {
                let e = match self.producers.get(producer) {
                    Some(p) if status == Some(503) => p.no_stream(e),
                    _ => e,
                };
                slot.refusal = Some(e);
                slot.unanswered = slot.unanswered.saturating_sub(1);
                slot.phase = Phase::Backoff;
                let wait =
                    Duration::from_millis(20 << slot.attempts.min(4)).mul_f64(0.8 + 0.4 * fastrand::f64());
                slot.due = (now + wait).min(slot.deadline);
                let due = slot.due;
                self.look_at(due);
                if status == Some(503) {
                    self.lost_stream(producer, now);
                }
            }
        }
    }

    /// Ends what is over the limit of the server connected to now; it was not sent there.
    pub(crate) fn refuse(&mut self, id: SlotId, post: &mut Post) {
        let Some(slot) = self.slots.get(id) else { return };
        let text = "the message is over the limit (max_payload) of the server connected to now";
        let error = Error::new(ErrorKind::TooLarge, text).topic(slot.wire.topic.as_str());
        let body = match slot.kind {
            Kind::Request { .. } => Body::Reply(Err(error)),
            // An earlier attempt, on a server with another limit, may have been stored.
            _ if slot.unanswered > 1 => slot.expired(),
            _ => Body::Sent(Err(error)),
        };
        self.settle(id, body, post);
    }

    /// Everything whose time has come: deadlines, lost acks, retries that waited.
    pub(crate) fn sweep(&mut self, now: Instant, post: &mut Post) {
        let (mut ended, mut again) = (Vec::new(), Vec::new());
        for (id, slot) in &mut self.slots {
            if slot.due > now {
                continue;
            }
            if slot.phase == Phase::Denied {
                ended.push((slot.order(), id, slot.denied()));
                continue;
            }
            if slot.deadline <= now {
                if let Kind::Publish { producer, .. } = slot.kind {
                    Self::explain_silence(self.producers.get(producer), slot);
                }
                ended.push((slot.order(), id, slot.expired()));
                continue;
            }
            match slot.phase {
                Phase::Backoff => again.push((slot.order(), id)),
                Phase::Sent(_) if slot.may_repeat() => again.push((slot.order(), id)),
                _ => slot.due = slot.deadline,
            }
        }
        // In the order sent, so that keys keep theirs.
        let over = !ended.is_empty();
        ended.sort_unstable_by_key(|(order, ..)| *order);
        ended.into_iter().for_each(|(_, id, body)| self.settle(id, body, post));
        self.repeat(again);
        if over {
            // While there is no connection the writer does not empty its queue.
            let slots = &self.slots;
            self.out.retain(|o| !matches!(o, Out::Slot(id) if !slots.contains_key(*id)));
        }
        self.next_due = self.slots.values().map(|s| s.due).min();
    }

    /// After a reconnect: what was sent before it is sent again, in order, or is unknown where it may not be.
    pub(crate) fn reconnected(&mut self, epoch: u64, post: &mut Post) {
        let (mut again, mut unknown) = (Vec::new(), Vec::new());
        // Subscribed anew: it is allowed now, or denied again.
        self.deaf = None;
        for (id, slot) in &self.slots {
            if matches!(slot.phase, Phase::Sent(e) if e < epoch) {
                match slot.kind {
                    Kind::Publish { .. } if slot.may_repeat() => again.push((slot.order(), id)),
                    Kind::Publish { .. } => unknown.push((id, slot.expired())),
                    Kind::Echo => again.push((slot.order(), id)),
                    Kind::Request { .. } | Kind::Core { .. } => {}
                }
            }
        }
        unknown.into_iter().for_each(|(id, body)| self.settle(id, body, post));
        self.repeat(again);
    }

    fn repeat(&mut self, mut again: Vec<(u64, SlotId)>) {
        again.sort_unstable_by_key(|(order, _)| *order);
        self.metrics.retried.add(again.len() as u64);
        again.into_iter().for_each(|(_, id)| self.queue(id));
    }
}
