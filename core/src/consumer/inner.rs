//! What the handles of a consumer and its loops share, and how it ends.

use super::{
    Settle,
    buffer::{Buffer, Ended},
};
use crate::{
    bus::Shared, config::ConsumerConfig, error::Error, mailbox::Post, message::Delivery, pipeline::Wire,
};
use async_nats::Subject;
use bytes::Bytes;
use parking_lot::Mutex;
use std::{
    ops::Deref,
    sync::{
        Arc, OnceLock,
        atomic::{AtomicBool, Ordering},
    },
    time::Instant,
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
    /// Whether no handle is left: nobody will settle anything any more.
    abandoned: AtomicBool,
    /// Runs of handlers that have not ended.
    pub(crate) runs: watch::Sender<usize>,
    /// Why it cannot go on, when that is not its owner's wish.
    pub(super) failure: Mutex<Option<Error>>,
    /// Where its pulls are answered.
    pub(super) inbox: OnceLock<String>,
    /// Made with the first dead letter.
    pub(super) dead_letters: OnceCell<crate::Producer>,
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
            inbox: OnceLock::new(),
            dead_letters: OnceCell::new(),
        });
        shared.keep(&this);
        this
    }

    /// From now on nothing more is handed out, and the loops leave.
    pub(crate) fn stop(&self) {
        self.left.store(true, Ordering::Release);
        // In core mode nobody else can have what is buffered.
        if self.stream.is_some() {
            self.buffer.lock().leave();
        }
        self.stop.send_replace(true);
    }

    /// Waits until the loop has left.
    pub(crate) async fn close(&self) {
        self.stop();
        let mut stopped = self.stop.subscribe();
        // The loop tells by ending: nobody else changes the channel's value any more.
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

    /// Where to say how a delivery goes on; none when it has ended already.
    pub(super) fn settle(&self, token: u64, how: &Settle) -> Option<Subject> {
        let mut post = Post::default();
        let mut b = self.buffer.lock();
        let ack = b.settle(token, how, Instant::now, &mut post);
        // A retry that a lane waits for is asked for when it is due.
        let retry = matches!(how, Settle::Nak(_)) && b.next_due().is_some();
        let look = (ack.is_some() && b.tell_room()) || retry;
        drop(b);
        if look {
            self.room.notify_one();
        }
        ack
    }

    /// The last act of a loop: others may have what is buffered, and waiters are told.
    pub(super) fn finish(&self, how: Ended) {
        let mut post = Post::default();
        let mut b = self.buffer.lock();
        // Nobody else can have core messages: they are handed out to the last.
        let naks = if self.stream.is_some() { b.give_up() } else { Vec::new() };
        b.end(how, &mut post);
        drop(b);
        self.give_back(naks);
        self.stopped.store(true, Ordering::Release);
        self.stop.send_replace(true);
    }

    /// Buffers what was received; after the end it is given back.
    pub(super) fn take_in(&self, batch: &mut Vec<Delivery>, now: Instant) {
        let mut post = Post::default();
        let mut b = self.buffer.lock();
        if b.ended.is_none() {
            return b.push(batch, now, self.config.max_processing, &mut post);
        }
        drop(b);
        self.give_back(batch.drain(..).filter_map(|d| d.reply).collect());
    }

    /// Lets other workers have deliveries at once.
    pub(super) fn give_back(&self, acks: Vec<Subject>) {
        self.shared.metrics.settled.add(acks.len() as u64);
        self.shared.pipeline.plain_many(acks.into_iter().map(|a| (a, Settle::Nak(None).body())));
    }

    pub(super) fn publish(&self, topic: Subject, reply: Option<Subject>, body: Bytes) {
        let wire = Wire { topic, body, headers: None, id: None };
        self.shared.pipeline.plain(wire.topic, reply, wire.headers, wire.body);
    }
}

impl Drop for Inner {
    fn drop(&mut self) {
        self.stop.send_replace(true);
        let naks = self.buffer.get_mut().give_up();
        self.give_back(naks);
    }
}

/// Ends when the consumer is to stop, or is gone.
pub(super) async fn stopped(stop: &mut watch::Receiver<bool>) {
    drop(stop.wait_for(|s| *s).await);
}
