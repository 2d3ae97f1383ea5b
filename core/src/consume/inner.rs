//! What the handles of a consumer and its loops share, and how it ends.

use super::{
    buffer::{Buffer, Ended, Returned, Settled},
    records::Records,
    redeliveries::Look,
    settle::Settle,
    unsettled::Known,
};
use crate::{
    bus::shared::Shared,
    config::ConsumerConfig,
    error::Error,
    host::mailbox::Post,
    message::Delivery,
    observe::{Level, Notice, NoticeKind},
};
use parking_lot::Mutex;
use std::{
    ops::Deref,
    sync::{
        Arc, OnceLock, Weak,
        atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::sync::{Notify, OnceCell, watch};

pub(crate) struct Inner {
    pub(super) shared: Arc<Shared>,
    pub(super) topic: Arc<str>,
    pub(super) config: ConsumerConfig,
    pub(super) stream: Option<Arc<str>>,
    pub(super) buffer: Mutex<Buffer>,
    /// The pull loop looks again: there is room.
    pub(super) room: Notify,
    pub(super) stop: watch::Sender<bool>,
    stopped: AtomicBool,
    /// Whether its owner is done with it.
    pub(super) left: AtomicBool,
    /// Whether no handle is left to settle anything.
    abandoned: AtomicBool,
    /// Runs of handlers that have not ended.
    pub(crate) runs: watch::Sender<usize>,
    /// Why it cannot continue, when its owner did not close it.
    pub(super) failure: Mutex<Option<Error>>,
    /// Whether that is among the problems of the bus.
    pub(super) remembered: AtomicBool,
    /// Where its pulls are answered.
    pub(super) inbox: Mutex<Option<String>>,
    /// Runs of handlers, of any host, that have not ended.
    pub(super) handling: AtomicUsize,
    /// Whether a task looks at what came again.
    pub(super) examining: AtomicBool,
    pub(super) records: Records,
    /// Deliveries of messages that were delivered before.
    pub(super) redelivered: AtomicU64,
    /// The last look at the durable, for health; whether the right to look is missing.
    pub(super) look: Mutex<Option<Look>>,
    pub(super) uninformed: AtomicBool,
    /// Whether the stream deletes what is settled.
    pub(super) deletes_settled: AtomicBool,
    /// How the durable's own redelivery waits, by attempt; none where it does not.
    pub(super) backoff: OnceLock<Vec<Duration>>,
    /// Deliveries after which the server delivers no more.
    pub(super) last_delivery: OnceLock<u64>,
    /// Made with the first dead letter.
    pub(super) dead_letters: OnceCell<crate::publish::Producer>,
}

/// What all clones of a consumer share. The loops hold the consumer itself, so that they can leave properly once the
/// last of these is gone.
pub(super) struct Handle(Arc<Inner>);

impl Handle {
    pub(super) fn new(inner: Arc<Inner>) -> Self {
        Self(inner)
    }
}

impl Deref for Handle {
    type Target = Arc<Inner>;

    fn deref(&self) -> &Arc<Inner> {
        &self.0
    }
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.0.abandoned.store(true, Ordering::Release);
        self.0.stop();
    }
}

impl Inner {
    pub(super) fn new(
        shared: &Arc<Shared>,
        topic: &str,
        config: ConsumerConfig,
        stream: Option<Arc<str>>,
        buffer: Buffer,
    ) -> Arc<Self> {
        let this = Arc::new(Self {
            shared: shared.clone(),
            topic: topic.into(),
            config,
            stream,
            buffer: Mutex::new(buffer),
            room: Notify::new(),
            stop: watch::Sender::new(false),
            stopped: AtomicBool::new(false),
            left: AtomicBool::new(false),
            abandoned: AtomicBool::new(false),
            runs: watch::Sender::new(0),
            failure: Mutex::default(),
            remembered: AtomicBool::new(false),
            inbox: Mutex::default(),
            handling: AtomicUsize::new(0),
            examining: AtomicBool::new(false),
            records: Records::default(),
            redelivered: AtomicU64::new(0),
            look: Mutex::default(),
            uninformed: AtomicBool::new(false),
            deletes_settled: AtomicBool::new(false),
            backoff: OnceLock::new(),
            last_delivery: OnceLock::new(),
            dead_letters: OnceCell::new(),
        });
        let part: Weak<Self> = Arc::downgrade(&this);
        shared.keep(part);
        this
    }

    /// From now on nothing more is handed out, and the loops leave.
    pub(crate) fn stop(&self) {
        self.left.store(true, Ordering::Release);
        // In core mode no other worker can have what is buffered.
        if self.stream.is_some() {
            self.buffer.lock().leave();
        }
        self.stop.send_replace(true);
    }

    /// Waits until the loop has left.
    pub(crate) async fn close(&self) {
        self.stop();
        let mut stopped = self.stop.subscribe();
        // The end of the loop is the sign: nothing else changes the channel's value by then.
        let _ = tokio::time::timeout(self.shared.config.api_timeout, async {
            while !self.stopped.load(Ordering::Acquire) {
                if stopped.changed().await.is_err() {
                    break;
                }
            }
        })
        .await;
    }

    /// Whether no handle is left.
    pub(super) fn is_abandoned(&self) -> bool {
        self.abandoned.load(Ordering::Acquire)
    }

    /// Where to settle a delivery. None when it has ended already.
    pub(super) fn settle(self: &Arc<Self>, token: u64, how: &Settle) -> Option<Settled> {
        let mut post = Post::default();
        let mut b = self.buffer.lock();
        let settled = b.settle(token, how, Instant::now, &mut post);
        // A retry that a lane waits for is asked for when it is due.
        let retry = matches!(how, Settle::Nak(_)) && b.next_due().is_some();
        let look = (settled.is_some() && b.tell_room()) || retry;
        let questions = b.has_questions();
        drop(b);
        if look {
            self.room.notify_one();
        }
        if questions {
            self.examine();
        }
        settled
    }

    /// The last act of a loop: gives back what is buffered, and wakes the waiters.
    ///
    /// Returns what the caller must record.
    pub(super) fn finish(self: &Arc<Self>, how: Ended) -> Vec<Known> {
        let mut post = Post::default();
        let mut b = self.buffer.lock();
        // No other worker can have core messages: all of them are handed out.
        let returned = if self.stream.is_some() { b.give_up() } else { Vec::new() };
        let failed = matches!(how, Ended::Failed(_));
        b.end(how, &mut post);
        drop(b);
        if failed && !self.left.load(Ordering::Acquire) {
            self.remember_failure();
        }
        let unbegun = self.give_back(returned);
        self.stopped.store(true, Ordering::Release);
        self.stop.send_replace(true);
        unbegun
    }

    /// Buffers what was received. After the end, and while nothing is taken, it is given back.
    /// `asked` says that they were asked for by the buffer.
    pub(super) fn take_in(self: &Arc<Self>, batch: &mut Vec<Delivery>, now: Instant, asked: bool) {
        let mut post = Post::default();
        let mut b = self.buffer.lock();
        if asked {
            b.received(batch);
        }
        if b.ended.is_none() && !b.is_asleep() {
            b.push(batch, now, self.config.max_processing, &mut post);
            let questions = b.has_questions();
            drop(b);
            if questions {
                self.examine();
            }
            return;
        }
        drop(b);
        let unbegun = self.give_back(batch.drain(..).filter_map(Returned::of).collect());
        self.record_later(unbegun);
    }

    /// Lets other workers have deliveries at once. Returns those that had been delivered before: that they were not
    /// begun must be recorded.
    pub(super) fn give_back(self: &Arc<Self>, returned: Vec<Returned>) -> Vec<Known> {
        self.shared.metrics.settled.add(returned.len() as u64);
        self.shared.metrics.given_back.add(returned.len() as u64);
        if !returned.is_empty() {
            let text = format!("{} messages that no handler began were given back", returned.len());
            self.notice(Level::Info, NoticeKind::GivenBack, text);
        }
        let unbegun = returned.iter().filter(|r| r.attempt > 1).map(|r| r.known).collect();
        let (marked, plain): (Vec<_>, Vec<_>) = returned.into_iter().partition(|r| r.mark.is_some());
        self.shared.pipeline.plain_many(plain.into_iter().map(|r| (r.ack, Settle::Nak(None).body())));
        for r in marked {
            let busy = Busy::of(self);
            self.shared.spawn(async move {
                if let Some(record) = r.mark {
                    busy.0.take_mark_back(r.known, &record).await;
                }
                busy.0.shared.pipeline.plain(r.ack, None, None, Settle::Nak(None).body());
            });
        }
        unbegun
    }

    /// Tells operators something of this consumer.
    pub(super) fn notice(&self, level: Level, kind: NoticeKind, text: String) {
        let notice = Notice::new(level, kind, text).topic(&self.topic).group(&self.config.group);
        self.shared.link.notice(&notice.stream(self.stream.as_deref()));
    }

    /// Records give-backs without waiting for it.
    pub(super) fn record_later(self: &Arc<Self>, unbegun: Vec<Known>) {
        if unbegun.is_empty() {
            return;
        }
        let busy = Busy::of(self);
        self.shared.spawn(async move { busy.0.record_returned(unbegun).await });
    }

    /// Records give-backs. Without the record their messages run alone once their delivery count is above the limit.
    pub(super) async fn record_returned(&self, unbegun: Vec<Known>) {
        if let Err(e) = self.write_returned(unbegun).await {
            tracing::debug!(error = %e, topic = %self.topic, "a give-back is not recorded");
        }
    }

    /// Whether a handler may still be at work on what was handed out.
    pub(super) fn is_handling(&self) -> bool {
        self.handling.load(Ordering::Acquire) > 0 || *self.runs.borrow() > 0
    }
}

/// Work on a message's end that has not ended: closing the bus waits for it.
pub(super) struct Busy(pub(super) Arc<Inner>);

impl Busy {
    pub(super) fn of(inner: &Arc<Inner>) -> Self {
        inner.runs.send_modify(|n| *n += 1);
        Self(inner.clone())
    }
}

impl Drop for Busy {
    fn drop(&mut self) {
        self.0.runs.send_modify(|n| *n -= 1);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        // The loop has given back what there was; where its runtime ended first, this does.
        let returned = self.buffer.get_mut().give_up();
        self.shared.pipeline.plain_many(returned.into_iter().map(|r| (r.ack, Settle::Nak(None).body())));
    }
}

/// Ends when the consumer is to stop, or is gone.
pub(super) async fn stopped(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|s| *s).await);
}
