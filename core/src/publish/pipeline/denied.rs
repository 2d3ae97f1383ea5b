//! What the server's denials, and the end of all reconnecting, mean for what is under way.

use super::{
    Pipeline,
    names::slot_of,
    slot::{Kind, Phase, Slot, SlotId},
    state::State,
    window::ProducerId,
};
use crate::{
    connection::{Denied, Hear},
    error::{Error, ErrorKind, Result},
    host::mailbox::{Body, Completion, Post},
};
use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

/// How long an answer may still come before a denial counts: an earlier message of the topic may have been let
/// through just before the right was taken away, and the denial does not say which message it is about.
const GRACE: Duration = Duration::from_millis(100);

/// The pipeline as one that hears of denials.
pub(super) fn weak(pipeline: &Arc<Pipeline>) -> Weak<dyn Hear> {
    let weak: Weak<Pipeline> = Arc::downgrade(pipeline);
    weak
}

impl Pipeline {
    /// The slot whose answer would come to this topic.
    pub(super) fn answers_to(&self, topic: &str) -> Option<SlotId> {
        topic.strip_prefix(&*self.inbox)?.strip_prefix('.').and_then(slot_of)
    }

    /// Whether our inbox may be read.
    pub(crate) async fn can_hear(&self, timeout: Duration) -> Result<()> {
        let (done, rx) = Completion::task();
        self.echo(timeout, done);
        match rx.await {
            Ok(Body::Done(Ok(()))) => self.state().deaf.clone().map_or(Ok(()), Err),
            Ok(Body::Done(failed)) => failed,
            _ => Err(Error::closed("bus")),
        }
    }

    /// What failed of a producer in core mode until now. To be asked after a round trip: what the server denied
    /// before it is on its way through the client's events, and is let through first.
    pub(crate) async fn denied_until_now(&self, producer: ProducerId) -> Result<()> {
        for _ in 0..2 {
            tokio::task::yield_now().await;
        }
        self.state().failed(producer).map_or(Ok(()), Err)
    }
}

impl Hear for Pipeline {
    fn denied(&self, what: &Denied, e: &Error) -> bool {
        let (mut post, now) = (Post::default(), Instant::now());
        let echo = self.answers_to(&what.topic).filter(|_| what.publish);
        self.change(|s| match (what.publish, echo) {
            // A question to ourselves was seen by the server: that is all it was to show.
            (true, Some(id)) => s.settle(id, Body::Done(Ok(())), &mut post),
            (true, None) => s.denied(&what.topic, e, now, &mut post),
            (false, _) if what.topic.strip_prefix(&*self.inbox) == Some(".*") => s.deafened(e, &mut post),
            (false, _) => {}
        });
        echo.is_some()
    }

    fn gave_up(&self, e: &Error) {
        let mut post = Post::default();
        self.change(|s| {
            s.gone = Some(e.clone());
            s.close(&mut post);
        });
    }
}

impl State {
    /// Nothing may be published to a topic: what was sent there ends, unless its answer is on its way.
    fn denied(&mut self, topic: &str, e: &Error, now: Instant, post: &mut Post) {
        let mut found = false;
        for slot in self.slots.values_mut() {
            if matches!(slot.phase, Phase::Sent(_)) && slot.wire.topic.as_str() == topic {
                slot.refusal = Some(e.clone());
                slot.phase = Phase::Denied;
                slot.due = (now + GRACE).min(slot.deadline);
                found = true;
            }
        }
        if found {
            self.look_at(now + GRACE);
        }
        // In core mode a send is over once it is handed on; who sent it is told as of any late failure.
        for p in self.producers.values_mut().filter(|p| !p.jetstream && p.topic.as_str() == topic) {
            p.fail(e.clone(), post);
        }
    }

    /// Our inbox may not be read: what needs an answer cannot have one, until the next connection.
    fn deafened(&mut self, e: &Error, post: &mut Post) {
        let text =
            "our answers cannot be heard: ask for the right to subscribe to the inbox, or set inbox_prefix";
        let e = &Error::new(ErrorKind::Permission, format!("{text}; {}", e.message()))
            .topic(e.topic_name().unwrap_or_default());
        self.deaf = Some(e.clone());
        let asks = |(id, slot): (SlotId, &Slot)| match slot.kind {
            Kind::Request { .. } => Some((id, Body::Reply(Err(e.clone())))),
            Kind::Echo => Some((id, Body::Done(Err(e.clone())))),
            // These may be stored: their outcome is unknown when their time is over.
            Kind::Publish { .. } | Kind::Core { .. } => None,
        };
        let ended: Vec<_> = self.slots.iter().filter_map(asks).collect();
        ended.into_iter().for_each(|(id, body)| self.settle(id, body, post));
    }

    /// Why nothing can be asked now.
    pub(super) fn cannot_ask(&self) -> Option<Error> {
        if self.closed { Some(self.why_closed()) } else { self.deaf.clone() }
    }

    pub(crate) fn why_closed(&self) -> Error {
        self.gone.clone().unwrap_or_else(|| Error::closed("bus"))
    }

    fn failed(&mut self, producer: ProducerId) -> Option<Error> {
        let p = self.producers.get_mut(producer)?;
        Error::many(std::mem::take(&mut p.failures), std::mem::take(&mut p.failed))
    }
}

impl Slot {
    /// How it ends when the server has denied it.
    pub(super) fn denied(&self) -> Body {
        match (&self.refusal, &self.kind) {
            // An earlier attempt was let through, and may be stored.
            (_, Kind::Publish { .. }) if self.unanswered > 1 => self.expired(),
            (Some(e), Kind::Request { .. }) => Body::Reply(Err(e.clone())),
            (Some(e), Kind::Publish { .. } | Kind::Core { .. }) => Body::Sent(Err(e.clone())),
            (None, _) | (_, Kind::Echo) => self.expired(),
        }
    }

    /// How it ends when reconnecting is given up: as time running out does, but at once, and saying so.
    pub(super) fn given_up(&self, why: &Error) -> Body {
        match self.expired() {
            Body::Reply(Err(_)) => Body::Reply(Err(why.clone().topic(self.wire.topic.as_str()))),
            Body::Done(Err(_)) => Body::Done(Err(why.clone())),
            Body::Sent(Err(e)) if matches!(e.kind(), ErrorKind::NotSent | ErrorKind::PublishUnknown) => {
                let text = format!("{}; {}", why.message(), e.message());
                Body::Sent(Err(Error::new(e.kind(), text).topic(self.wire.topic.as_str())))
            }
            other => other,
        }
    }
}
