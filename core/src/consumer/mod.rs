//! The consumer: messages of a topic, shared among the workers of a group.
//!
//! Owns the handle: taking, waiting, settling, closing. What is asked of the server and when is the pull loop's.

mod buffer;
mod core_mode;
mod examine;
mod failing;
mod group;
mod handling;
mod history;
mod inner;
mod keeping;
mod lanes;
mod leaving;
mod letters;
mod prefetch;
mod pull;
mod records;
mod replays;
mod runner;
mod servers_own;
mod status;
mod unsettled;

use crate::{
    bus::Shared,
    config::{ConsumerConfig, Order},
    error::{Error, ErrorKind, Result},
    mailbox::{Body, Completion, Mailbox, Post},
    message::Delivery,
    planted::{Bug, planted},
};
use buffer::{Buffer, Ended, Returned, Settled};
use bytes::Bytes;
use inner::{Busy, Handle};
use prefetch::Prefetch;
use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

pub use handling::Handled;
pub(crate) use inner::Inner;
#[cfg(feature = "fuzzing")]
pub(crate) use status::action;

/// How a delivery goes on.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Settle {
    /// It is done.
    Ack,
    /// It is to be delivered again, after a delay or at once.
    Nak(Option<Duration>),
    /// It is never to be delivered again, for this reason.
    Term(Option<String>),
    /// It is still being worked on: its ack wait starts anew.
    InProgress,
}

impl Settle {
    fn body(&self) -> Bytes {
        match self {
            Self::Ack => Bytes::from_static(b"+ACK"),
            Self::Nak(None) => Bytes::from_static(b"-NAK"),
            Self::Nak(Some(d)) => format!("-NAK {{\"delay\":{}}}", d.as_nanos()).into(),
            Self::Term(None) => Bytes::from_static(b"+TERM"),
            Self::Term(Some(reason)) => format!("+TERM {reason}").into(),
            Self::InProgress => Bytes::from_static(b"+WPI"),
        }
    }
}

/// Receives the messages of a topic for a group. With its last handle it leaves by itself, as by [`close`](Self::close).
#[derive(Clone)]
pub struct Consumer {
    inner: Arc<Handle>,
}

impl std::fmt::Debug for Consumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let i = &self.inner;
        f.debug_struct("Consumer")
            .field("topic", &i.topic)
            .field("group", &i.config.group)
            .field("stream", &i.stream)
            .finish()
    }
}

impl Consumer {
    /// `JetStream`: binds or makes the durable and starts pulling.
    pub(crate) async fn open(shared: &Arc<Shared>, topic: &str, config: ConsumerConfig) -> Result<Self> {
        crate::topic::check_subscribe(topic)?;
        config.check()?;
        if !shared.config.jetstream {
            return Self::open_without_jetstream(shared, topic, config).await;
        }
        let stream = shared.stream_to_read(topic, &config).await?;
        let durable = shared.durable(&stream, topic, &config).await?;
        let allowed = durable.max_ack_pending.min(durable.max_batch);
        // A durable that delivers less often than we would: its last delivery is our last, too.
        let failures = durable.max_deliver.map_or(config.attempts(), |n| n.min(config.attempts()));
        let config = ConsumerConfig { max_deliver: Some(failures), ..config };
        let this = Self::new(shared, topic, config, Some(stream.name.as_str().into()), allowed);
        this.inner.deletes_settled.store(stream.details.deletes_settled, Ordering::Relaxed);
        let _ = this.inner.backoff.set(durable.backoff.clone());
        if let Some(n) = durable.max_deliver {
            let _ = this.inner.last_delivery.set(n);
        }
        pull::start(&this.inner, &stream.name, durable.clone()).await?;
        if this.inner.config.dead_letter {
            shared.spawn(replays::follow(Arc::downgrade(&this.inner), stream.name, durable));
        }
        Inner::forget_failures(shared, topic, &this.inner.config.group);
        Ok(this)
    }

    /// A bus in core mode: what only JetStream can keep is a mistake, and retries may be one.
    async fn open_without_jetstream(
        shared: &Arc<Shared>,
        topic: &str,
        config: ConsumerConfig,
    ) -> Result<Self> {
        let needs = config.needs_jetstream();
        if !needs.is_empty() {
            let text = format!(
                "{}: only JetStream has that: connect with jetstream on (NATS_USE_JETSTREAM), or leave it out",
                needs.join(", ")
            );
            return Err(Error::config(text).topic(topic).group(&config.group));
        }
        if config.backoff != ConsumerConfig::default().backoff && shared.client.server_info().jetstream {
            shared.warn("the bus is in core mode, where what a handler fails on is lost and not retried, and the server has JetStream: connect with jetstream on (NATS_USE_JETSTREAM) to have backoff and dead letters".into());
        }
        Self::open_core(shared, topic, config).await
    }

    /// Core: a queue group; also what responders use.
    pub(crate) async fn open_core(shared: &Arc<Shared>, topic: &str, config: ConsumerConfig) -> Result<Self> {
        crate::topic::check_subscribe(topic)?;
        config.check()?;
        let this = Self::new(shared, topic, config, None, usize::MAX);
        core_mode::start(&this.inner).await?;
        Inner::forget_failures(shared, topic, &this.inner.config.group);
        Ok(this)
    }

    fn new(
        shared: &Arc<Shared>,
        topic: &str,
        config: ConsumerConfig,
        stream: Option<Arc<str>>,
        allowed: usize,
    ) -> Self {
        let by_key = config.order == Some(Order::Key);
        let buffer = Buffer::new(Prefetch::new(config.prefetch, allowed), config.prefetch_bytes, by_key);
        Self { inner: Arc::new(Handle::new(Inner::new(shared, topic, config, stream, buffer))) }
    }

    /// The topic, with its wildcards.
    pub fn topic(&self) -> &str {
        &self.inner.topic
    }
    /// The group.
    pub fn group(&self) -> &str {
        &self.inner.config.group
    }
    /// How many handlers may run at once.
    pub fn concurrency(&self) -> usize {
        self.inner.config.concurrency
    }
    /// The stream; none in core mode.
    pub fn stream(&self) -> Option<&Arc<str>> {
        self.inner.stream.as_ref()
    }

    /// Waits for the next message; `None` once the consumer was closed.
    ///
    /// Dropping the future loses no message.
    ///
    /// # Errors
    /// When the consumer cannot go on: its durable or stream is gone.
    pub async fn next(&self) -> Result<Option<Delivery>> {
        let mut one = Vec::with_capacity(1);
        loop {
            if !self.take(1, &mut one)? {
                return Ok(None);
            }
            if let Some(d) = one.pop() {
                return Ok(Some(d));
            }
            let (done, rx) = Completion::task();
            if self.arm(done) {
                // An end of the wait without a word means the consumer has ended: take tells how.
                let _ = rx.await;
            }
        }
    }

    /// Waits up to `timeout` for up to `max` messages; fewer, or none, when the time runs out first.
    pub async fn fetch(&self, max: usize, timeout: Duration) -> Result<Vec<Delivery>> {
        if max == 0 {
            return Err(Error::config("fetch of 0 messages: ask for 1 or more"));
        }
        let (until, mut out) = (tokio::time::Instant::now() + timeout, Vec::new());
        loop {
            match self.take(max - out.len(), &mut out) {
                Ok(true) => self.want(max - out.len()),
                Ok(false) if out.is_empty() => {
                    return Err(Error::closed("consumer").topic(self.topic()).group(self.group()));
                }
                Err(e) if out.is_empty() => return Err(e),
                Ok(false) | Err(_) => return Ok(out),
            }
            let (done, rx) = Completion::task();
            if out.len() == max || (self.arm(done) && tokio::time::timeout_at(until, rx).await.is_err()) {
                return Ok(out);
            }
        }
    }

    /// Takes what is buffered, up to `max`, without waiting. False once the consumer was closed.
    pub fn take(&self, max: usize, into: &mut Vec<Delivery>) -> Result<bool> {
        self.take_up_to(|_| max, into)
    }

    /// Hosts: the same to hand out one by one: no more than other workers can spare, by the pace so far.
    pub fn take_ahead(&self, max: usize, into: &mut Vec<Delivery>) -> Result<bool> {
        // In core mode no other worker can have what is here.
        let chunk = |b: &Buffer| if self.inner.stream.is_some() { b.chunk().min(max) } else { max };
        self.take_up_to(chunk, into)
    }

    fn take_up_to(&self, max: impl FnOnce(&Buffer) -> usize, into: &mut Vec<Delivery>) -> Result<bool> {
        let i = &self.inner;
        let (before, mut over) = (into.len(), Vec::new());
        let mut b = i.buffer.lock();
        let max = max(&b);
        b.take(max, Instant::now(), into, &mut over);
        let low = b.tell_room();
        let ended = if into.len() == before { b.ended.clone() } else { None };
        drop(b);
        if low {
            i.room.notify_one();
        }
        for (d, reason) in over {
            self.end(&d, &reason);
        }
        if planted(Bug::AckFirst) && i.is_handling() {
            for d in &into[before..] {
                self.settle(d.token, &Settle::Ack);
            }
        }
        match ended {
            None => Ok(true),
            Some(Ended::Closed) => Ok(false),
            Some(Ended::Failed(e)) => Err(e),
        }
    }

    /// Hosts: so many messages are waited for; they are asked for whatever the prefetch.
    pub fn want(&self, messages: usize) {
        let mut b = self.inner.buffer.lock();
        b.want(messages);
        if b.tell_room() {
            drop(b);
            self.inner.room.notify_one();
        }
    }

    /// Handlers: they get what is handed out until [`handled`](Self::handled). It counts against the prefetch until it is
    /// settled, and what was delivered before is examined first.
    pub fn handle(&self) {
        let i = &self.inner;
        i.handling.fetch_add(1, Ordering::AcqRel);
        let mut b = i.buffer.lock();
        b.handle(i.config.concurrency);
        let (low, questions) = (b.tell_room(), b.has_questions());
        drop(b);
        if low {
            i.room.notify_one();
        }
        if questions {
            i.examine();
        }
    }

    /// The end of [`handle`](Self::handle): once the consumer is closed, what is unsettled is no longer kept from
    /// redelivery.
    pub fn handled(&self) {
        let ended = |n: usize| n.checked_sub(1);
        let before = self.inner.handling.fetch_update(Ordering::AcqRel, Ordering::Acquire, ended);
        if before == Ok(1) {
            self.inner.buffer.lock().stop_handling();
            self.inner.room.notify_one();
        }
    }

    /// Asks to be told when there is something to take, or the end; false when there is already.
    pub fn arm(&self, waiter: Completion) -> bool {
        let mut b = self.inner.buffer.lock();
        let armed = b.arm(waiter, Instant::now());
        if armed && b.tell_room() {
            drop(b);
            self.inner.room.notify_one();
        }
        armed
    }

    /// Hosts: takes a wait back; false when its letter is on its way already.
    pub fn disarm(&self, mailbox: &Arc<Mailbox>, token: u64) -> bool {
        self.inner.buffer.lock().disarm(mailbox, token)
    }

    /// Gives back what was taken and not handled: it is handed out again, first.
    pub fn put_back(&self, deliveries: Vec<Delivery>) {
        // Posted after the lock is free: dropped last.
        let mut post = Post::default();
        let mut b = self.inner.buffer.lock();
        // In core mode no other worker can have them: they are handed out to the last.
        if b.ended.is_none() || self.inner.stream.is_none() {
            return b.put_back(deliveries.into_iter(), &mut post);
        }
        drop(b);
        self.give_back(deliveries.iter().map(|d| d.token));
    }

    /// Lets other workers have, at once, what was taken and not begun.
    pub fn give_back(&self, tokens: impl Iterator<Item = u64>) {
        let i = &self.inner;
        let back = |s: Settled| Returned { ack: s.ack, known: s.known, attempt: s.attempt };
        let returned = tokens.filter_map(|t| i.settle(t, &Settle::Nak(None)).map(back)).collect();
        let unbegun = i.give_back(returned);
        i.record_later(unbegun);
    }

    /// Says how a delivery goes on; batched on the wire. False when it was settled already, needs no settling, or the
    /// bus is closed.
    pub fn settle(&self, token: u64, how: &Settle) -> bool {
        if matches!(how, Settle::Nak(_)) {
            let unmarked = self.inner.buffer.lock().unmarked(token);
            if let Some((known, record)) = unmarked {
                // It ran alone, and did not die: its mark must be gone before it comes again.
                let (this, how, busy) = (self.clone(), how.clone(), Busy::of(&self.inner));
                self.inner.shared.spawn(async move {
                    if let Err(e) = busy.0.write_record(known, &record).await {
                        tracing::debug!(error = %e, topic = %busy.0.topic, "a mark is left");
                    }
                    this.settle_now(token, &how);
                });
                return true;
            }
        }
        self.settle_now(token, how)
    }

    fn settle_now(&self, token: u64, how: &Settle) -> bool {
        let i = &self.inner;
        let Some(settled) = i.settle(token, how) else { return false };
        if *how != Settle::InProgress {
            i.shared.metrics.settled.add(1);
        }
        match how {
            Settle::Nak(Some(delay)) => i.nak_after(settled, *delay),
            _ => i.shared.pipeline.plain(settled.ack, None, None, how.body()),
        }
    }

    /// Acks many deliveries at once.
    pub fn ack_many(&self, tokens: impl Iterator<Item = u64>) {
        let mut post = Post::default();
        let mut b = self.inner.buffer.lock();
        let acks: Vec<_> =
            tokens.filter_map(|t| b.settle(t, &Settle::Ack, Instant::now, &mut post)).collect();
        let (low, questions) = (b.tell_room(), b.has_questions());
        drop(b);
        if low {
            self.inner.room.notify_one();
        }
        if questions {
            self.inner.examine();
        }
        self.inner.shared.metrics.settled.add(acks.len() as u64);
        self.inner.shared.pipeline.plain_many(acks.into_iter().map(|a| (a.ack, Settle::Ack.body())));
    }

    /// Acks and waits for the server's word.
    ///
    /// # Errors
    /// `Timeout` when it does not come in time; `Conflict` when the delivery was settled already.
    pub async fn ack_confirmed(&self, token: u64, timeout: Duration) -> Result<()> {
        let i = &self.inner;
        if i.stream.is_none() {
            return Ok(());
        }
        let Some(settled) = i.settle(token, &Settle::Ack) else {
            return Err(Error::new(ErrorKind::Conflict, "the message was settled already")
                .topic(&*i.topic)
                .group(&i.config.group));
        };
        i.shared.metrics.settled.add(1);
        let named = |e: Error| e.topic(&*i.topic).group(&i.config.group);
        i.shared.pipeline.request(settled.ack, b"+ACK", timeout).await.map(drop).map_err(named)
    }

    /// Hosts: starts a confirmed ack.
    pub fn start_ack_confirmed(&self, token: u64, timeout: Duration, done: Completion) {
        let this = self.clone();
        crate::runtime::spawn(
            async move { done.complete(Body::Done(this.ack_confirmed(token, timeout).await)) },
        );
    }

    /// Answers a request.
    ///
    /// # Errors
    /// `TooLarge` when the answer is over the server's limit; then nothing was sent.
    pub fn reply(&self, to: &Delivery, answer: Result<&[u8], &str>) -> Result<()> {
        crate::request::reply(&self.inner.shared, to, answer)
    }

    /// Stops pulling and gives back what is buffered, so that another worker has it now. The durable stays.
    pub async fn close(&self) -> Result<()> {
        self.inner.close().await;
        Ok(())
    }

    /// Begins what [`close`](Self::close) waits for: from now on nothing more is handed out.
    pub fn stop(&self) {
        self.inner.stop();
    }
}
