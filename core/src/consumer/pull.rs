//! The pull loop: asks for as much as there is room for, reacts to every status, and never stalls.
//!
//! Owns the credit (`requested`), heartbeats, re-pulling after a loss, and keeping deliveries from redelivery while they
//! are buffered or handled.

use super::{
    Inner, Settle,
    buffer::Ended,
    status::{Action, action},
};
use crate::{
    error::{Error, ErrorKind, Result},
    mailbox::Post,
    message::{Delivery, Meta},
    stream::Durable,
};
use async_nats::{Message, Subject, Subscriber};
use futures_util::{FutureExt, StreamExt};
use std::{
    sync::{Arc, Weak},
    time::{Duration, Instant},
};
use tokio::sync::watch;

const BATCH: usize = 1024;
const EXPIRES: Duration = Duration::from_secs(30);
const HEARTBEAT: Duration = Duration::from_secs(5);
/// Round trips without a delivery after which a pull is taken to have nothing more to deliver.
const QUIET_ROUNDS: usize = 5;
/// The longest leaving may wait for deliveries on their way.
const LEAVING: Duration = Duration::from_millis(500);
/// The wait before pulling again after the server could not serve a pull.
const AGAIN: Duration = Duration::from_millis(100);

struct Loop {
    inner: Weak<Inner>,
    stream: String,
    durable: Durable,
    /// Where pulls are answered; each generation of pulls has a number of its own below it.
    inbox: String,
    generation: u64,
    next: Subject,
    /// The last sign of life while something is requested.
    alive: Instant,
    /// Not before this time is pulled again.
    not_before: Option<Instant>,
}

enum Event {
    Message(Message),
    Epoch,
    Tick,
    Stop,
    Lost,
}

enum Flow {
    Go,
    Stop(Ended),
}

pub(super) async fn start(inner: &Arc<Inner>, stream: &str, durable: Durable) -> Result<()> {
    let inbox = inner.shared.client.new_inbox();
    let sub = inner.shared.client.subscribe(format!("{inbox}.*")).await.map_err(|e| {
        Error::new(ErrorKind::Connection, "the inbox could not be subscribed")
            .topic(&*inner.topic)
            .server(e.to_string())
    })?;
    let state = Loop {
        inner: Arc::downgrade(inner),
        next: format!("$JS.API.CONSUMER.MSG.NEXT.{stream}.{}", inner.config.group).into(),
        stream: stream.to_owned(),
        durable,
        inbox,
        generation: 0,
        alive: Instant::now(),
        not_before: None,
    };
    let (stop, epoch) = (inner.stop.subscribe(), inner.shared.link.watch());
    inner.shared.spawn(tokio::task::unconstrained(state.run(sub, stop, epoch)));
    Ok(())
}

impl Loop {
    async fn run(
        mut self,
        mut sub: Subscriber,
        mut stop: watch::Receiver<bool>,
        mut epoch: watch::Receiver<u64>,
    ) {
        let mut seen_epoch = *epoch.borrow();
        let tick = HEARTBEAT.min(self.durable.ack_wait / 3).max(Duration::from_millis(5));
        let mut ticks = tokio::time::interval(tick);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut batch = Vec::with_capacity(BATCH);
        let room = match self.inner.upgrade() {
            Some(inner) => inner.room.clone(),
            None => return,
        };
        let ended = loop {
            // Nothing of the consumer is held while waiting: dropping its last handle ends the loop.
            match self.inner.upgrade() {
                Some(inner) => self.pull(&inner),
                None => return,
            }
            let wait = self.not_before.map(|at| at.saturating_duration_since(Instant::now()));
            let event = tokio::select! {
                biased;
                m = sub.next() => m.map_or(Event::Lost, Event::Message),
                () = super::stopped(&mut stop) => Event::Stop,
                () = room.notified() => continue,
                _ = epoch.changed() => Event::Epoch,
                () = sleep_or_never(wait) => { self.not_before = None; continue }
                _ = ticks.tick() => Event::Tick,
            };
            let Some(inner) = self.inner.upgrade() else { return };
            match event {
                Event::Message(first) => {
                    if let Flow::Stop(how) = self.receive(&inner, first, &mut sub, &mut batch).await {
                        break how;
                    }
                }
                Event::Epoch => {
                    let now = inner.shared.link.epoch();
                    if now > seen_epoch {
                        // Whatever was asked of the old connection will not be answered.
                        seen_epoch = now;
                        self.forget_pulls(&inner);
                    }
                }
                Event::Tick => self.tick(&inner),
                Event::Stop => break Ended::Closed,
                Event::Lost => break Ended::Failed(Error::closed("connection").topic(&*inner.topic)),
            }
        };
        self.leave(sub, ended).await;
    }

    /// Asks for what there is room for, when that is worth a request.
    fn pull(&mut self, inner: &Inner) {
        if self.not_before.is_some() || !inner.shared.link.is_connected() {
            return;
        }
        let prefetch = inner.config.prefetch.min(self.durable.max_ack_pending).min(self.durable.max_batch);
        let want = {
            let mut b = inner.buffer.lock();
            b.room_told = false;
            let want = prefetch.saturating_sub(b.len() + b.requested);
            if want == 0 || (want < prefetch.div_ceil(2) && b.requested > 0) {
                return;
            }
            if b.requested == 0 {
                self.alive = Instant::now();
            }
            b.requested += want;
            want
        };
        let expires = EXPIRES.min(self.durable.max_expires);
        let body = format!(
            "{{\"batch\":{want},\"expires\":{},\"idle_heartbeat\":{}}}",
            expires.as_nanos(),
            HEARTBEAT.min(expires / 3).as_nanos()
        );
        inner.publish(
            self.next.clone(),
            Some(format!("{}.{}", self.inbox, self.generation).into()),
            body.into(),
        );
    }

    fn forget_pulls(&mut self, inner: &Inner) {
        self.generation += 1;
        self.alive = Instant::now();
        self.not_before = None;
        inner.buffer.lock().requested = 0;
    }

    fn again_later(&mut self, inner: &Inner) {
        self.forget_pulls(inner);
        self.not_before = Some(Instant::now() + AGAIN);
    }

    async fn receive(
        &mut self,
        inner: &Inner,
        first: Message,
        sub: &mut Subscriber,
        batch: &mut Vec<Delivery>,
    ) -> Flow {
        self.alive = Instant::now();
        let mut flow = Flow::Go;
        let mut next = Some(first);
        while let Some(m) = next {
            match m.status {
                None => Self::accept(inner, m, batch),
                Some(_) => flow = self.status(inner, &m).await,
            }
            if matches!(flow, Flow::Stop(_)) || batch.len() >= BATCH {
                break;
            }
            next = sub.next().now_or_never().flatten();
        }
        if !batch.is_empty() {
            inner.shared.metrics.received.add(batch.len() as u64);
            let mut post = Post::default();
            let mut b = inner.buffer.lock();
            b.requested = b.requested.saturating_sub(batch.len());
            b.push(batch, self.alive, &mut post);
        }
        flow
    }

    fn accept(inner: &Inner, m: Message, batch: &mut Vec<Delivery>) {
        let Some(meta) = m.reply.as_deref().and_then(Meta::parse) else {
            tracing::warn!(topic = %m.subject, "a message without an ack subject was left out");
            return;
        };
        if meta.attempt > 1 {
            inner.shared.metrics.redelivered.add(1);
        }
        let mut d = Delivery::new(m);
        d.meta = Some(meta);
        batch.push(d);
    }

    async fn status(&mut self, inner: &Inner, m: &Message) -> Flow {
        let status = m.status.map_or(0, |s| s.as_u16());
        let text = m.description.as_deref().unwrap_or_default();
        let current = m.subject.rsplit('.').next().and_then(|g| g.parse().ok()) == Some(self.generation);
        if !current {
            return Flow::Go;
        }
        let pending = m.headers.as_ref().and_then(|h| h.get("Nats-Pending-Messages")?.as_str().parse().ok());
        match action(status, text, pending) {
            Action::Alive => {}
            Action::Release(Some(n)) => {
                let mut b = inner.buffer.lock();
                b.requested = b.requested.saturating_sub(n);
            }
            Action::Release(None) | Action::Again => self.again_later(inner),
            Action::Check => return self.check(inner, text).await,
            Action::Fail => {
                let e = Error::new(ErrorKind::Config, "the server refuses our pulls from this durable");
                let e = e.topic(&*inner.topic).stream(&*self.stream).group(&inner.config.group).server(text);
                return Flow::Stop(Ended::Failed(e));
            }
        }
        Flow::Go
    }

    /// Whether the durable is still there; if it is, the trouble was passing.
    async fn check(&mut self, inner: &Inner, text: &str) -> Flow {
        tracing::debug!(status = text, "checking the durable");
        let call = format!("CONSUMER.INFO.{}.{}", self.stream, inner.config.group);
        match inner.shared.api::<serde_json::Value>(&call, &serde_json::Value::Null).await {
            Err(e) if e.kind() == ErrorKind::NotFound => {
                let gone = Error::new(
                    ErrorKind::NotFound,
                    "the consumer cannot go on: its durable or stream was deleted",
                );
                let gone = gone.topic(&*inner.topic).stream(&*self.stream).group(&inner.config.group);
                Flow::Stop(Ended::Failed(match e.server_text() {
                    Some(text) => gone.server(text),
                    None => gone,
                }))
            }
            Ok(_) | Err(_) => {
                self.again_later(inner);
                Flow::Go
            }
        }
    }

    /// Extends what is unsettled, and pulls anew when the server has gone quiet.
    fn tick(&mut self, inner: &Inner) {
        let now = Instant::now();
        let quiet = self.durable.ack_wait / 3;
        let (extend, silent) = {
            let mut b = inner.buffer.lock();
            let extend = if inner.shared.link.is_connected() && b.has_unsettled() {
                b.extend_quiet(now, quiet, inner.config.max_processing)
            } else {
                Vec::new()
            };
            (
                extend,
                b.requested > 0 && now.duration_since(self.alive) > 2 * HEARTBEAT + Duration::from_secs(1),
            )
        };
        if !extend.is_empty() {
            inner.shared.pipeline.plain_many(extend.into_iter().map(|a| (a, Settle::InProgress.body())));
        }
        if silent && inner.shared.link.is_connected() {
            tracing::debug!(topic = %inner.topic, "no heartbeat: pulling again");
            self.forget_pulls(inner);
        }
    }

    /// Leaves nothing behind: what still arrives goes to others at once.
    async fn leave(self, mut sub: Subscriber, how: Ended) {
        let Some(inner) = self.inner.upgrade() else { return };
        // The client drops what arrives after it has unsubscribed, so that is done last: once the pulls have delivered
        // all they were asked for, or several round trips to the server have brought nothing more.
        let (mut late, mut quiet) = (Vec::new(), 0);
        let asked = inner.buffer.lock().requested;
        let until = Instant::now() + LEAVING;
        while late.len() < asked && quiet < QUIET_ROUNDS && Instant::now() < until {
            if inner.shared.round_trip(Duration::from_secs(1)).await.is_err() {
                break;
            }
            let before = late.len();
            while let Some(Some(m)) = sub.next().now_or_never() {
                if m.status.is_none() {
                    Self::accept(&inner, m, &mut late);
                }
            }
            if late.len() == before {
                // The server answers us and delivers in different threads of its own: give the latter a turn.
                quiet += 1;
                tokio::time::sleep(Duration::from_millis(2)).await;
            } else {
                quiet = 0;
            }
        }
        let _ = sub.unsubscribe().await;
        let mut post = Post::default();
        inner.buffer.lock().push(&mut late, Instant::now(), &mut post);
        inner.finish(how);
    }
}

async fn sleep_or_never(wait: Option<Duration>) {
    match wait {
        Some(d) => tokio::time::sleep(d).await,
        None => std::future::pending().await,
    }
}
