//! How results reach a host language: one queue per host loop, one wake-up per batch.
//!
//! Owns the queue and the `wake_pending` flag. Only a change of that flag from false to true wakes the host, which then
//! drains many letters in one go. Never runs host code: `wake` is the binding's, and must be cheap and must not block.

use crate::{
    error::{Error, Result},
    message::{Delivery, PubAck},
};
use parking_lot::Mutex;
use std::{
    any::Any,
    collections::VecDeque,
    fmt,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
};
use tokio::sync::oneshot;

/// What a waiting call ends with.
#[derive(Debug)]
pub enum Body {
    /// A send: the server's ack, or `None` in core mode.
    Sent(Result<Option<PubAck>>),
    /// `send_many`: one result per message, in order.
    Many(Vec<Result<Option<PubAck>>>),
    /// A flush, a confirmed ack.
    Done(Result<()>),
    /// A reply.
    Reply(Result<Box<Delivery>>),
    /// The consumer waited for has something to take, or has ended.
    Ready,
    /// Something of the host's own, for it to downcast.
    Host(Box<dyn Any + Send>),
}

/// Puts something back where it was taken from, for a caller who is gone.
pub(crate) type PutBack = Box<dyn FnOnce() + Send>;

/// One result on its way to a host loop.
#[derive(Debug)]
pub struct Letter {
    /// What the host gave when it began to wait.
    pub token: u64,
    /// The result.
    pub body: Body,
}

/// The queue to one host loop.
pub struct Mailbox {
    /// None once it is closed.
    queue: Mutex<Option<VecDeque<Letter>>>,
    wake_pending: AtomicBool,
    wake: Box<dyn Fn() + Send + Sync>,
    letters: AtomicU64,
    wakes: AtomicU64,
}

impl Mailbox {
    /// A mailbox whose host is woken by `wake`, from any thread.
    pub fn new(wake: impl Fn() + Send + Sync + 'static) -> Arc<Self> {
        Arc::new(Self {
            queue: Mutex::new(Some(VecDeque::new())),
            wake_pending: AtomicBool::new(false),
            wake: Box::new(wake),
            letters: AtomicU64::new(0),
            wakes: AtomicU64::new(0),
        })
    }

    /// Adds letters and wakes the host unless a wake-up is already on its way.
    fn post(&self, letters: &mut Vec<Letter>) {
        self.letters.fetch_add(letters.len() as u64, Ordering::Relaxed);
        match &mut *self.queue.lock() {
            Some(queue) => queue.extend(letters.drain(..)),
            // The caller drops them, with the lock free.
            None => return,
        }
        if !self.wake_pending.swap(true, Ordering::AcqRel) {
            self.wakes.fetch_add(1, Ordering::Relaxed);
            (self.wake)();
        }
    }

    /// Takes up to `max` letters; true when more are left, for which the mailbox has woken the host again.
    pub fn drain(&self, max: usize, into: &mut Vec<Letter>) -> bool {
        self.wake_pending.store(false, Ordering::Release);
        let more = match &mut *self.queue.lock() {
            Some(queue) => {
                let n = queue.len().min(max);
                into.extend(queue.drain(..n));
                !queue.is_empty()
            }
            None => false,
        };
        if more && !self.wake_pending.swap(true, Ordering::AcqRel) {
            self.wakes.fetch_add(1, Ordering::Relaxed);
            (self.wake)();
        }
        more
    }

    /// The host loop is gone: gives what is left, and drops what comes from now on.
    pub fn close(&self) -> Vec<Letter> {
        let left = self.queue.lock().take();
        left.into_iter().flatten().collect()
    }

    /// Letters posted and host wake-ups so far.
    pub fn counts(&self) -> (u64, u64) {
        (self.letters.load(Ordering::Relaxed), self.wakes.load(Ordering::Relaxed))
    }
}

impl fmt::Debug for Mailbox {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (letters, wakes) = self.counts();
        f.debug_struct("Mailbox").field("letters", &letters).field("wakes", &wakes).finish_non_exhaustive()
    }
}

/// Gets every failure without a waiter. The core's threads call it, so it must not block.
#[derive(Clone)]
pub struct Listener(Arc<dyn Fn(Error) + Send + Sync>);

impl Listener {
    /// A listener that calls this.
    pub fn new(f: impl Fn(Error) + Send + Sync + 'static) -> Self {
        Self(Arc::new(f))
    }
}
impl fmt::Debug for Listener {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("Listener")
    }
}

/// Who waits for a result.
#[derive(Debug)]
pub enum Completion {
    /// No waiter: failures are kept for the next flush.
    Nobody,
    /// A Rust task.
    Task(oneshot::Sender<Body>),
    /// A host loop.
    Host {
        /// The loop's mailbox.
        mailbox: Arc<Mailbox>,
        /// What the host knows the call by.
        token: u64,
    },
    /// One message of a `send_many`.
    Item {
        /// The whole call.
        many: Arc<Many>,
        /// Which of its messages.
        index: usize,
    },
}

impl Completion {
    /// A completion for a Rust task, and what it awaits.
    pub(crate) fn task() -> (Self, oneshot::Receiver<Body>) {
        let (tx, rx) = oneshot::channel();
        (Self::Task(tx), rx)
    }
    pub(crate) fn is_nobody(&self) -> bool {
        matches!(self, Self::Nobody)
    }
    /// Whether its waiter is gone.
    pub(crate) fn is_gone(&self) -> bool {
        matches!(self, Self::Nobody) || matches!(self, Self::Task(tx) if tx.is_closed())
    }
    /// What a host of this mailbox knows the call by.
    pub(crate) fn token_of(&self, of: &Arc<Mailbox>) -> Option<u64> {
        match self {
            Self::Host { mailbox, token } if Arc::ptr_eq(mailbox, of) => Some(*token),
            _ => None,
        }
    }
    /// Ends the wait at once.
    pub fn complete(self, body: Body) {
        let mut post = Post::default();
        post.add(self, body);
    }
}

/// A `send_many` under way: the results so far, and who waits for all of them.
#[derive(Debug)]
pub struct Many(Mutex<ManyState>);

#[derive(Debug)]
struct ManyState {
    results: Vec<Option<Result<Option<PubAck>>>>,
    left: usize,
    done: Option<Completion>,
}

impl Many {
    pub(crate) fn new(n: usize, done: Completion) -> Arc<Self> {
        Arc::new(Self(Mutex::new(ManyState {
            results: (0..n).map(|_| None).collect(),
            left: n,
            done: Some(done),
        })))
    }
    fn set(&self, index: usize, result: Result<Option<PubAck>>) -> Option<(Completion, Body)> {
        let mut s = self.0.lock();
        let slot = s.results.get_mut(index)?;
        if slot.replace(result).is_none() {
            s.left -= 1;
        }
        if s.left > 0 {
            return None;
        }
        let done = s.done.take()?;
        let lost = || Err(Error::new(crate::ErrorKind::Internal, "a result of send_many was lost"));
        let results = std::mem::take(&mut s.results).into_iter().map(|r| r.unwrap_or_else(lost)).collect();
        Some((done, Body::Many(results)))
    }
}

/// Letters collected under a lock and posted after it, one wake-up per mailbox.
#[derive(Default)]
pub(crate) struct Post {
    letters: Vec<(Arc<Mailbox>, Vec<Letter>)>,
    calls: Vec<(Listener, Error)>,
}

impl Post {
    /// Tells a listener, once the lock is free.
    pub(crate) fn tell(&mut self, listener: Listener, e: Error) {
        self.calls.push((listener, e));
    }
    pub(crate) fn add(&mut self, done: Completion, body: Body) {
        match done {
            Completion::Nobody => {}
            // The receiver may be gone: its wait was cancelled, which is its right.
            Completion::Task(tx) => drop(tx.send(body)),
            Completion::Item { many, index } => {
                if let Body::Sent(result) = body
                    && let Some((done, body)) = many.set(index, result)
                {
                    self.add(done, body);
                }
            }
            Completion::Host { mailbox, token } => {
                let letter = Letter { token, body };
                match self.letters.iter_mut().find(|(m, _)| Arc::ptr_eq(m, &mailbox)) {
                    Some((_, letters)) => letters.push(letter),
                    None => self.letters.push((mailbox, vec![letter])),
                }
            }
        }
    }
}

impl Drop for Post {
    fn drop(&mut self) {
        // Listeners first: they get everything before a flush ends.
        for (Listener(call), e) in self.calls.drain(..) {
            call(e);
        }
        for (mailbox, letters) in &mut self.letters {
            mailbox.post(letters);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn one_wake_per_batch() {
        let woken = Arc::new(AtomicU64::new(0));
        let w = woken.clone();
        let mailbox = Mailbox::new(move || {
            w.fetch_add(1, Ordering::Relaxed);
        });
        for token in 0..100 {
            Completion::Host { mailbox: mailbox.clone(), token }.complete(Body::Ready);
        }
        assert_eq!(woken.load(Ordering::Relaxed), 1);
        let mut out = Vec::new();
        assert!(mailbox.drain(60, &mut out), "more is left, and the host is woken for it");
        assert_eq!((out.len(), woken.load(Ordering::Relaxed)), (60, 2));
        assert!(!mailbox.drain(60, &mut out));
        assert_eq!(out.iter().map(|l| l.token).collect::<Vec<_>>(), (0..100).collect::<Vec<_>>());
        assert_eq!(mailbox.counts(), (100, 2));
    }

    #[test]
    fn a_closed_one_keeps_nothing_and_wakes_nobody() {
        let mailbox = Mailbox::new(|| {});
        let post = |token| Completion::Host { mailbox: mailbox.clone(), token }.complete(Body::Ready);
        post(1);
        assert_eq!(mailbox.close().iter().map(|l| l.token).collect::<Vec<_>>(), [1]);
        post(2);
        let mut out = Vec::new();
        assert!(!mailbox.drain(60, &mut out) && out.is_empty() && mailbox.close().is_empty());
        assert_eq!(mailbox.counts().1, 1);
    }

    #[test]
    fn send_many_ends_once_with_all_results() {
        let (done, mut rx) = Completion::task();
        let many = Many::new(2, done);
        Completion::Item { many: many.clone(), index: 1 }.complete(Body::Sent(Err(Error::closed("bus"))));
        assert!(rx.try_recv().is_err());
        Completion::Item { many, index: 0 }.complete(Body::Sent(Ok(None)));
        let Ok(Body::Many(results)) = rx.try_recv() else { panic!("not done") };
        assert!(results[0].is_ok() && results[1].is_err());
    }
}
