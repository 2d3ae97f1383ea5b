//! Taking messages, waiting for them, and giving back what was not begun.

use super::{
    Consumer, Settle,
    buffer::{Buffer, Ended, Returned},
};
use crate::{
    error::{Error, Result},
    host::mailbox::{Completion, Mailbox, Post},
    message::Delivery,
    testing::planted::{Bug, planted},
};
use std::{
    sync::{Arc, atomic::Ordering},
    time::{Duration, Instant},
};

/// What an unfinished fetch has taken.
struct Taken<'a> {
    by: &'a Consumer,
    messages: Vec<Delivery>,
}

impl Taken<'_> {
    fn keep(mut self) -> Vec<Delivery> {
        std::mem::take(&mut self.messages)
    }
}

impl Drop for Taken<'_> {
    fn drop(&mut self) {
        if !self.messages.is_empty() {
            self.by.put_back(std::mem::take(&mut self.messages));
        }
    }
}

impl Consumer {
    /// Waits for the next message; `None` once the consumer was closed.
    ///
    /// Dropping the future loses no message.
    ///
    /// # Errors
    /// When the consumer cannot continue: its durable or stream is gone.
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

    /// Waits up to `timeout` for up to `max` messages. Gives fewer, or none, when the time runs out first, and fewer when
    /// the consumer ends meanwhile.
    ///
    /// Dropping the future puts back what it had taken: it is handed out again, first.
    ///
    /// # Errors
    /// `Config` for `max` 0. Without any message: `Closed`, or why the consumer cannot continue.
    pub async fn fetch(&self, max: usize, timeout: Duration) -> Result<Vec<Delivery>> {
        if max == 0 {
            return Err(Error::config("fetch of 0 messages: ask for 1 or more"));
        }
        let until = tokio::time::Instant::now() + timeout;
        let mut taken = Taken { by: self, messages: Vec::new() };
        loop {
            let left = max - taken.messages.len();
            match self.take(left, &mut taken.messages) {
                Ok(true) => self.want(max - taken.messages.len()),
                Ok(false) if taken.messages.is_empty() => {
                    return Err(Error::closed("consumer").topic(self.topic()).group(self.group()));
                }
                Err(e) if taken.messages.is_empty() => return Err(e),
                Ok(false) | Err(_) => return Ok(taken.keep()),
            }
            let (done, rx) = Completion::task();
            let is_full = taken.messages.len() == max;
            if is_full || (self.arm(done) && tokio::time::timeout_at(until, rx).await.is_err()) {
                return Ok(taken.keep());
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

    /// Hosts: a caller waits for this many messages. They are asked for even beyond the prefetch.
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

    /// Registers a waiter for something to take, or for the end. False when either is there already.
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
        let back = |token| {
            let mark = i.buffer.lock().unmarked(token).map(|(_, record)| record);
            let s = i.settle(token, &Settle::Nak(None))?;
            Some(Returned { ack: s.ack, known: s.known, attempt: s.attempt, mark })
        };
        let returned = tokens.filter_map(back).collect();
        let unbegun = i.give_back(returned);
        i.record_later(unbegun);
    }
}
