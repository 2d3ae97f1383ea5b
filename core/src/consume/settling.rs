//! Settling: what becomes of a delivery, said to the server.

use super::{Consumer, Inner, Settle, history::Record, inner::Busy, unsettled::Known};
use crate::{
    error::{Error, ErrorKind, Result},
    host::mailbox::{Body, Completion, Post},
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

impl Inner {
    pub(super) fn settle_now(self: &Arc<Self>, token: u64, how: &Settle) -> bool {
        let Some(settled) = self.settle(token, how) else { return false };
        if *how != Settle::InProgress {
            self.shared.metrics.settled.add(1);
        }
        match how {
            Settle::Nak(Some(delay)) => self.nak_after(settled, *delay),
            _ => self.shared.pipeline.plain(settled.ack, None, None, how.body()),
        }
    }

    /// A message that was to run alone goes back, and its handler did not die.
    pub(super) async fn take_mark_back(&self, known: Known, record: &Record) {
        if let Err(e) = self.write_record(known, record).await {
            tracing::debug!(error = %e, topic = %self.topic, "a mark is left");
        }
    }
}

impl Consumer {
    /// Settles a delivery; batched on the wire. False when it was settled already, needs no settling, or the
    /// bus is closed.
    pub fn settle(&self, token: u64, how: &Settle) -> bool {
        if matches!(how, Settle::Nak(_)) {
            let unmarked = self.inner.buffer.lock().unmarked(token);
            if let Some((known, record)) = unmarked {
                // It ran alone, and did not die: its mark must be gone before it comes again.
                let (how, busy) = (how.clone(), Busy::of(&self.inner));
                self.inner.shared.spawn(async move {
                    busy.0.take_mark_back(known, &record).await;
                    busy.0.settle_now(token, &how);
                });
                return true;
            }
        }
        self.inner.settle_now(token, how)
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
}
