//! The pull loop: asks for as much as there is room for, reacts to every status, and never stalls.
//!
//! Owns the credit (`requested`), heartbeats, re-pulling after a loss, and keeping deliveries from redelivery while they
//! are buffered or handled.

use super::{
    Inner, Settle,
    buffer::{Ask, Ended},
    keeping::{HEARTBEAT, period, quiet},
    servers_own,
};
use crate::{
    error::{Error, ErrorKind, Result},
    host::mailbox::Post,
    jetstream::{api, durable::Durable},
    message::{Delivery, Meta},
};
use async_nats::{Message, Subject, Subscriber};
use futures_util::{FutureExt, StreamExt};
use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};
use tokio::sync::Notify;

const BATCH: usize = 1024;
const EXPIRES: Duration = Duration::from_secs(30);
/// The same for what is asked for in advance of what can begin soon: when the stream runs dry, the next messages must not
/// all come here.
const AHEAD: Duration = Duration::from_secs(1);
/// The wait before pulling again after the server could not serve a pull.
const AGAIN: Duration = Duration::from_millis(100);

/// How long the server is asked whether the durable is still there: nothing is received or extended meanwhile.
pub(super) const CHECKING: Duration = Duration::from_secs(1);

/// The most replays of a group that are unsettled at once.
pub(super) const REPLAYS: usize = 64;

/// Where messages come from.
#[derive(Debug)]
pub(super) enum Source {
    /// The topic's stream: its credit is the buffer's.
    Topic,
    /// Replays of dead letters: few at a time, by their durable's max ack pending. Messages asked for and not received.
    Replays { requested: usize },
}

pub(super) struct Loop {
    pub(super) inner: Arc<Inner>,
    pub(super) source: Source,
    pub(super) stream: String,
    pub(super) name: String,
    durable: Durable,
    pub(super) sub: Subscriber,
    /// Where pulls are answered; each generation of pulls has a number of its own below it.
    pub(super) inbox: String,
    pub(super) generation: u64,
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
    Look,
}

pub(super) enum Flow {
    Go,
    Stop(Ended),
}

/// Starts pulling the consumer's topic; its end is the consumer's.
pub(super) async fn start(inner: &Arc<Inner>, stream: &str, durable: Durable) -> Result<()> {
    let name = inner.config.durable_name().to_owned();
    let pulling = Loop::open(inner, Source::Topic, stream, name, durable).await?;
    inner.shared.spawn(tokio::task::unconstrained(async move { drop(pulling.run().await) }));
    Ok(())
}

/// Pulls replays into the same buffer. Ends with the consumer, or with why they cannot be pulled any more.
pub(super) async fn replays(
    inner: Arc<Inner>,
    stream: &str,
    name: String,
    durable: Durable,
) -> Result<Ended> {
    let pulling = Loop::open(&inner, Source::Replays { requested: 0 }, stream, name, durable).await?;
    Ok(tokio::task::unconstrained(pulling.run()).await)
}

impl Loop {
    async fn open(
        inner: &Arc<Inner>,
        source: Source,
        stream: &str,
        name: String,
        durable: Durable,
    ) -> Result<Self> {
        let (inbox, sub) = subscribe(inner, &source).await?;
        Ok(Self {
            inner: inner.clone(),
            source,
            next: api::subject(&inner.shared.config, &format!("CONSUMER.MSG.NEXT.{stream}.{name}")).into(),
            stream: stream.to_owned(),
            name,
            durable,
            sub,
            inbox,
            generation: 0,
            alive: Instant::now(),
            not_before: None,
        })
    }

    async fn run(mut self) -> Ended {
        let inner = self.inner.clone();
        let (mut stop, mut epoch) = (inner.stop.subscribe(), inner.shared.link.watch());
        let never = Notify::new();
        let room = if matches!(self.source, Source::Topic) { &inner.room } else { &never };
        let mut seen_epoch = *epoch.borrow();
        let tick = period(self.durable.ack_wait);
        let mut ticks = tokio::time::interval(tick);
        ticks.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut batch = Vec::with_capacity(BATCH);
        let ended = loop {
            let wait = self.pull();
            let event = tokio::select! {
                biased;
                m = self.sub.next() => m.map_or(Event::Lost, Event::Message),
                () = super::inner::stopped(&mut stop) => Event::Stop,
                () = room.notified() => Event::Look,
                _ = epoch.changed() => Event::Epoch,
                () = sleep_or_never(wait) => Event::Look,
                _ = ticks.tick() => Event::Tick,
            };
            match event {
                Event::Message(first) => {
                    if let Flow::Stop(how) = self.receive(first, &mut batch).await {
                        break how;
                    }
                }
                Event::Epoch => {
                    let now = inner.shared.link.epoch();
                    if now > seen_epoch {
                        // Whatever was asked of the old connection will not be answered.
                        seen_epoch = now;
                        self.forget_pulls();
                    }
                }
                Event::Tick => {
                    if self.tick()
                        && let Err(e) = self.sleep().await
                    {
                        break Ended::Failed(e);
                    }
                }
                Event::Stop => break inner.ending(),
                Event::Lost => {
                    let lost = || Error::closed("connection").topic(&*inner.topic);
                    break Ended::Failed(inner.failure.lock().clone().unwrap_or_else(lost));
                }
                Event::Look => {}
            }
        };
        self.leave(ended.clone()).await;
        self.linger(tick).await;
        ended
    }

    /// Asks for what there is room for, when that is worth a request. How long until there may be more to ask for.
    fn pull(&mut self) -> Option<Duration> {
        let now = Instant::now();
        self.not_before = self.not_before.filter(|at| *at > now);
        if let Some(at) = self.not_before {
            return Some(at - now);
        }
        if !self.inner.shared.link.is_connected() {
            return None;
        }
        let (want, due) = match &mut self.source {
            Source::Topic => {
                let mut post = Post::default();
                let mut b = self.inner.buffer.lock();
                b.expire(now, &mut post);
                if b.requested() == 0 {
                    self.alive = now;
                }
                (b.ask(now), b.next_due())
            }
            Source::Replays { requested: 0 } => {
                self.alive = now;
                self.source = Source::Replays { requested: REPLAYS };
                (Some(Ask { messages: REPLAYS, bytes: None, ahead: false }), None)
            }
            Source::Replays { .. } => (None, None),
        };
        if let Some(want) = want {
            self.ask(want);
        }
        due.map(|at| at.saturating_duration_since(now).max(Duration::from_millis(1)))
    }

    fn ask(&self, want: Ask) {
        let expires = if want.ahead { AHEAD } else { EXPIRES }.min(self.durable.max_expires);
        let bytes = want.bytes.map(|n| format!(",\"max_bytes\":{}", n.min(self.durable.max_bytes)));
        let body = format!(
            "{{\"batch\":{},\"expires\":{},\"idle_heartbeat\":{}{}}}",
            want.messages.min(self.durable.max_batch),
            expires.as_nanos(),
            HEARTBEAT.min(expires / 3).as_nanos(),
            bytes.unwrap_or_default(),
        );
        let inbox = format!("{}.{}", self.inbox, self.generation);
        self.inner.shared.pipeline.plain(self.next.clone(), Some(inbox.into()), None, body.into());
    }

    /// So much of what was requested will not come any more; none: all of it.
    pub(super) fn released(&mut self, messages: Option<usize>, bytes: Option<usize>) {
        match &mut self.source {
            Source::Topic => self.inner.buffer.lock().released(messages, bytes),
            Source::Replays { requested } => *requested = messages.map_or(0, |n| requested.saturating_sub(n)),
        }
    }

    pub(super) fn forget_pulls(&mut self) {
        self.generation += 1;
        self.alive = Instant::now();
        self.not_before = None;
        self.released(None, None);
        let mut b = self.inner.buffer.lock();
        b.interrupted(self.alive, self.durable.ack_wait);
    }

    pub(super) fn again_later(&mut self) {
        self.forget_pulls();
        self.not_before = Some(Instant::now() + AGAIN);
    }

    async fn receive(&mut self, first: Message, batch: &mut Vec<Delivery>) -> Flow {
        self.alive = Instant::now();
        let mut flow = Flow::Go;
        let mut next = Some(first);
        while let Some(m) = next {
            match m.status {
                None => self.accept(m, batch),
                Some(_) => flow = self.status(&m).await,
            }
            if matches!(flow, Flow::Stop(_)) || batch.len() >= BATCH {
                break;
            }
            next = self.sub.next().now_or_never().flatten();
        }
        if !batch.is_empty() {
            self.inner.shared.metrics.received.add(batch.len() as u64);
            if let Source::Replays { requested } = &mut self.source {
                *requested = requested.saturating_sub(batch.len());
            }
            self.inner.take_in(batch, self.alive, matches!(self.source, Source::Topic));
        }
        flow
    }

    pub(super) fn accept(&self, m: Message, batch: &mut Vec<Delivery>) {
        let Some(meta) = m.reply.as_deref().and_then(Meta::parse) else {
            tracing::warn!(topic = %m.subject, "a message without an ack subject was left out");
            return;
        };
        if meta.attempt > 1 {
            self.inner.shared.metrics.redelivered.add(1);
            self.inner.redelivered.fetch_add(1, Ordering::Relaxed);
        }
        if m.headers.is_some()
            && let Some(how) = servers_own::end(&m, self.inner.deletes_settled.load(Ordering::Relaxed))
        {
            if let Some(ack) = m.reply {
                self.inner.shared.pipeline.plain(ack, None, None, how.body());
            }
            return;
        }
        let mut d = Delivery::new(m);
        d.meta = Some(meta);
        match self.source {
            Source::Topic => batch.push(d),
            Source::Replays { .. } => batch.extend(crate::dead_letters::restored(d)),
        }
    }

    /// Extends what is unsettled, and pulls again when the server has gone quiet. True when nothing was taken for so long
    /// that others should have what is buffered.
    pub(super) fn tick(&mut self) -> bool {
        if !self.inner.shared.link.is_connected() {
            return false;
        }
        let now = Instant::now();
        let ack_wait = self.durable.ack_wait;
        let cap = self.inner.config.max_processing;
        let (extend, sleepy, overdue, requested) = match self.source {
            Source::Topic => {
                let mut b = self.inner.buffer.lock();
                let dropped = b.drop_stale(now, ack_wait);
                if dropped > 0 {
                    tracing::debug!(dropped, topic = %self.inner.topic, "others have what could not be extended");
                }
                let sleepy = b.fall_asleep(now, ack_wait);
                let quiet = quiet(ack_wait);
                let overdue = b.overdue(now, cap);
                let extend = if b.has_unsettled() { b.extend_quiet(now, quiet, cap) } else { Vec::new() };
                (extend, sleepy, overdue, b.requested())
            }
            // The topic's loop extends these, too.
            Source::Replays { requested } => (Vec::new(), false, Vec::new(), requested),
        };
        if !overdue.is_empty() {
            self.inner.fail_overdue(overdue);
        }
        if !extend.is_empty() {
            self.inner.shared.pipeline.plain_many(extend.into_iter().map(|a| (a, Settle::InProgress.body())));
        }
        if requested > 0 && now.duration_since(self.alive) > 2 * HEARTBEAT + Duration::from_secs(1) {
            tracing::debug!(topic = %self.inner.topic, "no heartbeat: pulling again");
            self.forget_pulls();
        }
        sleepy
    }
}

/// An inbox for pulls.
pub(super) async fn subscribe(inner: &Inner, source: &Source) -> Result<(String, Subscriber)> {
    let inbox = inner.shared.client.new_inbox();
    if matches!(source, Source::Topic) {
        // The server's denials name it.
        *inner.inbox.lock() = Some(inbox.clone());
    }
    let failed = |e: async_nats::SubscribeError| {
        Error::new(ErrorKind::Connection, "the inbox could not be subscribed")
            .topic(&*inner.topic)
            .server(e.to_string())
    };
    let sub = inner.shared.client.subscribe(format!("{inbox}.*")).await.map_err(failed)?;
    Ok((inbox, sub))
}

async fn sleep_or_never(wait: Option<Duration>) {
    match wait {
        Some(d) => tokio::time::sleep(d).await,
        None => std::future::pending().await,
    }
}
