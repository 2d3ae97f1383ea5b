//! What the server's denials, and giving up on reconnecting, mean for the messages under way.

use super::{
    Pipeline,
    keys::{ProducerId, SlotId},
    reply_subjects::slot_of,
    slot::{Kind, Phase, Slot},
    state::PipelineState,
};
use crate::{
    connection::{Denied, LinkObserver, Reaction},
    error::{Error, ErrorKind, Result},
    host::mailbox::{Body, Completion, Post},
};
use std::time::{Duration, Instant};

/// How long an answer may still come before a denial counts. A denial does not say which message it is about, and the
/// server may have let an earlier message of the topic through just before the permission was removed.
const GRACE: Duration = Duration::from_millis(100);

impl Pipeline {
    /// The slot of a one-off reply subject.
    fn answers_to(&self, topic: &str) -> Option<SlotId> {
        topic.strip_prefix(&*self.inbox)?.strip_prefix('.').and_then(slot_of)
    }

    /// Fails when the server denies our inbox.
    pub(crate) async fn check_inbox(&self, timeout: Duration) -> Result<()> {
        let (done, rx) = Completion::task();
        self.echo(timeout, done);
        match rx.await {
            Ok(Body::Done(Ok(()))) => self.state().inbox_denied.clone().map_or(Ok(()), Err),
            Ok(Body::Done(failed)) => failed,
            _ => Err(Error::closed("bus")),
        }
    }

    /// The failures of a producer in core mode until now. Call it after a round trip: it first lets the client's events
    /// report what the server denied before that.
    pub(crate) async fn denied_until_now(&self, producer: ProducerId) -> Result<()> {
        for _ in 0..2 {
            tokio::task::yield_now().await;
        }
        self.state().take_failures(producer).map_or(Ok(()), Err)
    }
}

impl LinkObserver for Pipeline {
    fn denied(&self, what: &Denied, e: &Error) -> Reaction {
        let (mut post, now) = (Post::default(), Instant::now());
        let echo = self.answers_to(&what.topic).filter(|_| what.publish);
        self.change(|s| match (what.publish, echo) {
            // The server has seen the message to ourselves, which is all that the echo proves.
            (true, Some(id)) => s.settle(id, Body::Done(Ok(())), &mut post),
            (true, None) => s.denied(&what.topic, e, now, &mut post),
            (false, _) if what.topic.strip_prefix(&*self.inbox) == Some(".*") => s.deny_inbox(e, &mut post),
            (false, _) => {}
        });
        if echo.is_some() { Reaction::Expected } else { Reaction::Unexpected }
    }

    fn gave_up(&self, e: &Error) {
        let mut post = Post::default();
        self.change(|s| {
            s.gave_up = Some(e.clone());
            s.close(&mut post);
        });
    }
}

impl PipelineState {
    /// The server denies publishing to a topic: the messages sent there end, unless their answer is on its way.
    fn denied(&mut self, topic: &str, e: &Error, now: Instant, post: &mut Post) {
        let mut found = false;
        for slot in self.slots.values_mut() {
            if matches!(slot.phase, Phase::Sent(_)) && slot.message.topic.as_str() == topic {
                slot.refusal = Some(e.clone());
                slot.phase = Phase::Denied;
                slot.due = (now + GRACE).min(slot.deadline);
                found = true;
            }
        }
        if found {
            self.sweep_at(now + GRACE);
        }
        // In core mode the hand-over has ended the send, so the denial is a late failure.
        for p in self.producers.values_mut().filter(|p| !p.jetstream && p.topic.as_str() == topic) {
            p.fail(e.clone(), post);
        }
    }

    /// The server denies our inbox: no request can be answered until the next connection.
    fn deny_inbox(&mut self, e: &Error, post: &mut Post) {
        let text = "no answer can arrive: get permission to subscribe to the inbox, or set inbox_prefix";
        let e = &Error::new(ErrorKind::Permission, format!("{text}; {}", e.message()))
            .topic(e.topic_name().unwrap_or_default());
        self.inbox_denied = Some(e.clone());
        let asks = |(id, slot): (SlotId, &Slot)| match slot.kind {
            Kind::Request(_) => Some((id, Body::Reply(Err(e.clone())))),
            Kind::Echo => Some((id, Body::Done(Err(e.clone())))),
            // These may be stored, so their outcome is unknown at their deadline.
            Kind::Publish { .. } | Kind::Core { .. } => None,
        };
        let ended: Vec<_> = self.slots.iter().filter_map(asks).collect();
        ended.into_iter().for_each(|(id, body)| self.settle(id, body, post));
    }
}
