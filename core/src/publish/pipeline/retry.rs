//! What an answer, a deadline or a reconnect means for a message under way: its end, or another attempt.

use super::{
    answer::{Answer, classify, plain_ack},
    keys::{ProducerId, SlotId},
    outbox::Queued,
    producer_state::ProducerState,
    reply::read_reply,
    slot::{Asker, Kind, Phase, Slot},
    state::PipelineState,
};
use crate::{
    error::{Error, ErrorKind},
    host::mailbox::{Body, Post},
    message::{Delivery, PubAck},
};
use std::time::{Duration, Instant};

/// The status that the server answers with when no one subscribes to a topic.
const NO_RESPONDERS: u16 = 503;

impl PipelineState {
    /// Handles an answer in our inbox.
    pub(super) fn answered(&mut self, id: SlotId, m: async_nats::Message, now: Instant, post: &mut Post) {
        let Some(slot) = self.slots.get_mut(id) else { return };
        match slot.kind {
            Kind::Publish { producer, .. } => {
                let stream = self.producers.get(producer).and_then(|p| p.stream_name.as_ref());
                if let (None, Some(stream)) = (m.status, stream)
                    && let Some(sequence) = plain_ack(stream, &m.payload)
                {
                    let ack = PubAck { stream: stream.clone(), sequence, duplicate: false };
                    slot.unanswered = slot.unanswered.saturating_sub(1);
                    return self.settle(id, Body::Sent(Ok(Some(ack))), post);
                }
                self.publish_answered(id, producer, &m, now, post);
            }
            Kind::Request(asker) => {
                let body = Body::Reply(request_answered(slot, asker, m));
                self.settle(id, body, post);
            }
            Kind::Echo => self.settle(id, Body::Done(Ok(())), post),
            Kind::Core { .. } => {}
        }
    }

    /// Handles an answer to a publish that is no plain ack.
    fn publish_answered(
        &mut self,
        id: SlotId,
        producer: ProducerId,
        m: &async_nats::Message,
        now: Instant,
        post: &mut Post,
    ) {
        let status = m.status.map(|s| s.as_u16());
        let Some(slot) = self.slots.get_mut(id) else { return };
        match classify(status, &m.payload) {
            Answer::Stored { stream, sequence, duplicate } => {
                if duplicate {
                    self.metrics.duplicates.add(1);
                }
                let stream = match self.producers.get_mut(producer) {
                    Some(p) => p.shared_name(&stream),
                    None => stream.into(),
                };
                self.settle(id, Body::Sent(Ok(Some(PubAck { stream, sequence, duplicate }))), post);
            }
            Answer::Rejected(e) => {
                let e = e.topic(slot.message.topic.as_str());
                self.settle(id, Body::Sent(Err(e)), post);
            }
            // The stream's own answer is still to come.
            Answer::Foreign(e) => slot.refusal = Some(e),
            Answer::Retry(e) => self.back_off(id, producer, status, e, now),
        }
    }

    /// Schedules another attempt of a message that was answered with "not now".
    fn back_off(&mut self, id: SlotId, producer: ProducerId, status: Option<u16>, e: Error, now: Instant) {
        let Some(slot) = self.slots.get_mut(id) else { return };
        let no_stream = status == Some(NO_RESPONDERS);
        slot.refusal = Some(match self.producers.get(producer) {
            Some(p) if no_stream => p.lookups.explain(e),
            _ => e,
        });
        slot.unanswered = slot.unanswered.saturating_sub(1);
        slot.phase = Phase::Backoff;
        let wait = Duration::from_millis(20 << slot.attempts.min(4)).mul_f64(0.8 + 0.4 * fastrand::f64());
        slot.due = (now + wait).min(slot.deadline);
        let due = slot.due;
        self.sweep_at(due);
        if no_stream {
            self.lost_stream(producer, now);
        }
    }

    /// Ends a message over the limit of the current server. The server did not get it.
    pub(super) fn refuse_too_large(&mut self, id: SlotId, post: &mut Post) {
        let Some(slot) = self.slots.get(id) else { return };
        let text = "the message is over the limit (max_payload) of the server connected to now";
        let error = Error::new(ErrorKind::TooLarge, text).topic(slot.message.topic.as_str());
        let body = match slot.kind {
            Kind::Request(_) => Body::Reply(Err(error)),
            // A server with another limit may have stored an earlier attempt.
            _ if slot.unanswered > 1 => slot.expired(),
            _ => Body::Sent(Err(error)),
        };
        self.settle(id, body, post);
    }

    /// Handles every slot that is due: deadlines, lost acks, retries after a backoff.
    pub(super) fn sweep(&mut self, now: Instant, post: &mut Post) {
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
                    explain_silence(self.producers.get(producer), slot);
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
        // In the order sent, so that the messages of a key stay in order.
        let over = !ended.is_empty();
        ended.sort_unstable_by_key(|(order, ..)| *order);
        ended.into_iter().for_each(|(_, id, body)| self.settle(id, body, post));
        self.repeat(again);
        if over {
            // The writer does not empty its queue while there is no connection.
            let slots = &self.slots;
            self.outbox.retain(|q| !matches!(q, Queued::Slot(id) if !slots.contains_key(*id)));
        }
        self.next_due = self.slots.values().map(|s| s.due).min();
    }

    /// Repeats what was sent before a reconnect, in order. What must not be repeated has an unknown outcome.
    pub(super) fn reconnected(&mut self, epoch: u64, post: &mut Post) {
        let (mut again, mut unknown) = (Vec::new(), Vec::new());
        // The client has subscribed to the inbox again: the server allows it now, or denies it again.
        self.inbox_denied = None;
        for (id, slot) in &self.slots {
            if matches!(slot.phase, Phase::Sent(e) if e < epoch) {
                match slot.kind {
                    Kind::Publish { .. } if slot.may_repeat() => again.push((slot.order(), id)),
                    Kind::Publish { .. } => unknown.push((id, slot.expired())),
                    Kind::Echo => again.push((slot.order(), id)),
                    Kind::Request(_) | Kind::Core { .. } => {}
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

/// What the answer to a request says.
fn request_answered(slot: &Slot, asker: Asker, m: async_nats::Message) -> Result<Box<Delivery>, Error> {
    let topic = slot.message.topic.as_str();
    if m.status.is_some_and(|s| s.as_u16() == NO_RESPONDERS) {
        let text = "no responder subscribes to this topic: start one";
        return Err(Error::new(ErrorKind::NoResponders, text).topic(topic));
    }
    read_reply(Delivery::new(m), asker).map(Box::new).map_err(|e| e.topic(topic))
}

/// Adds to a message that ends without an ack that its stream never acks.
fn explain_silence(p: Option<&ProducerState>, slot: &mut Slot) {
    if p.and_then(|p| p.stream.as_ref()).is_some_and(|s| s.no_ack) && slot.refusal.is_none() {
        let text = "the stream has no_ack: it stores and never confirms";
        slot.refusal = Some(Error::new(ErrorKind::PublishUnknown, text));
    }
}

#[cfg(test)]
mod tests {
    use super::{super::submission::Submission, *};
    use crate::{
        config::ProducerConfig, host::mailbox::Completion, observe::Metrics,
        publish::pipeline::stream_lookup::ProducerStream,
    };
    use std::sync::Arc;

    /// Sends this many messages, which the writer takes, and says whether one more must be written at once.
    fn one_more_is_urgent(before: usize, key: Option<&str>) -> bool {
        let mut state = PipelineState::new("_INBOX.x", Arc::new(Metrics::default()));
        let producer = state.add_producer("t".into(), ProducerConfig::default(), true);
        let found = ProducerStream { name: "S".into(), no_ack: false, ttl: Ok(Duration::ZERO) };
        state.prepared(producer, Ok(found), &mut Post::default());
        let send = |state: &mut PipelineState| {
            let key = key.map(Arc::from);
            let send = Submission {
                topic: None,
                body: b"x",
                headers: None,
                key,
                has_id: false,
                done: Completion::Nobody,
            };
            assert!(state.submit(producer, send, true, Instant::now()).is_ok());
        };
        (0..before).for_each(|_| send(&mut state));
        let (mut queued, now) = (Vec::new(), Instant::now() + Duration::from_millis(1));
        let _ = state.outbox.take(&mut queued);
        for entry in queued {
            let Queued::Slot(id) = entry else { continue };
            assert!(state.hand_over(id, 1, now).is_some());
        }
        if key.is_some() {
            // The answer to the first message starts the next of its key.
            let first = state.slots.keys().next().unwrap();
            state.settle(first, Body::Sent(Ok(None)), &mut Post::default());
        } else {
            send(&mut state);
        }
        assert_eq!(state.outbox.len(), 1);
        state.outbox.must_write_now()
    }

    #[test]
    fn a_message_waits_when_many_are_in_flight() {
        assert!(one_more_is_urgent(1, None) && one_more_is_urgent(255, None));
        assert!(!one_more_is_urgent(256, None));
    }

    #[test]
    fn a_message_with_a_key_never_waits() {
        assert!(one_more_is_urgent(512, Some("k")));
    }
}
