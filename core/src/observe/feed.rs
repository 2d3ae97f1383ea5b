//! Feeds: items such as events, delivered to every listener.
//!
//! Owns one bounded queue per listener. A full queue drops its oldest item and counts it. The sender never waits, so a
//! slow listener affects neither the bus nor another listener.

use crate::{
    duration::Unit,
    host::{
        mailbox::{Body, Completion, Post},
        schema::Crossing,
        to_host,
    },
};
use parking_lot::Mutex;
use std::{
    collections::VecDeque,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

/// The items a queue holds.
pub(crate) const CAPACITY: usize = 256;
/// Within this time, an item that repeats an earlier one is dropped (see [`Hub::emit_throttled`]).
const THROTTLE: Duration = Duration::from_secs(1);

/// An item of a feed.
pub(crate) trait Item: Clone {
    /// Whether it is the last item.
    fn is_last(&self) -> bool;
    /// Whether it repeats another item.
    fn repeats(&self, other: &Self) -> bool;
    /// Sets the number of earlier items that the listener missed.
    fn set_missed(&mut self, missed: u64);
}

/// The sender of a feed, with all its listeners.
#[derive(Debug)]
pub(crate) struct Hub<T>(Mutex<HubState<T>>);

impl<T> Default for Hub<T> {
    fn default() -> Self {
        Self(Mutex::new(HubState { queues: Vec::new(), recent: VecDeque::new(), closed: false }))
    }
}

#[derive(Debug)]
struct HubState<T> {
    queues: Vec<Weak<Queue<T>>>,
    /// The throttled items of the last second.
    recent: VecDeque<(T, Instant)>,
    closed: bool,
}

impl<T: Item> Hub<T> {
    pub(crate) fn emit(&self, event: &T) {
        let mut post = Post::default();
        let mut hub = self.0.lock();
        if hub.closed {
            return;
        }
        hub.closed = event.is_last();
        hub.queues.retain(|q| q.strong_count() > 0);
        for queue in hub.queues.iter().filter_map(Weak::upgrade) {
            queue.push(event.clone(), &mut post);
        }
    }

    /// Emits an item of which there may be many: of repeated items, one a second.
    pub(crate) fn emit_throttled(&self, event: &T) {
        let now = Instant::now();
        let mut hub = self.0.lock();
        while hub.recent.len() >= CAPACITY || hub.recent.front().is_some_and(|(_, at)| now - *at >= THROTTLE)
        {
            hub.recent.pop_front();
        }
        if hub.recent.iter().any(|(earlier, _)| earlier.repeats(event)) {
            return;
        }
        hub.recent.push_back((event.clone(), now));
        drop(hub);
        self.emit(event);
    }

    pub(crate) fn listen(&self) -> Feed<T> {
        let mut hub = self.0.lock();
        let state = QueueState { events: VecDeque::new(), missed: 0, ended: hub.closed, waiter: None };
        let queue = Arc::new(Queue(Mutex::new(state)));
        hub.queues.push(Arc::downgrade(&queue));
        Feed { queue }
    }
}

#[derive(Debug)]
struct Queue<T>(Mutex<QueueState<T>>);

#[derive(Debug)]
struct QueueState<T> {
    events: VecDeque<T>,
    missed: u64,
    ended: bool,
    waiter: Option<Completion>,
}

impl<T: Item> Queue<T> {
    fn push(&self, event: T, post: &mut Post) {
        let mut q = self.0.lock();
        if q.ended {
            return;
        }
        q.ended = event.is_last();
        if q.events.len() >= CAPACITY {
            q.events.pop_front();
            q.missed += 1;
        }
        q.events.push_back(event);
        if let Some(waiter) = q.waiter.take() {
            post.add(waiter, Body::Ready);
        }
    }
}

/// The items for one listener, from its start on.
#[derive(Debug)]
pub struct Feed<T> {
    queue: Arc<Queue<T>>,
}

#[allow(private_bounds)] // only the core defines items
impl<T: Item> Feed<T> {
    /// Waits for the next item. None after the last one. Dropping the future loses no item.
    pub async fn next(&self) -> Option<T> {
        loop {
            if let Some(event) = self.take() {
                return Some(event);
            }
            if self.is_over() {
                return None;
            }
            let (done, rx) = Completion::task();
            if self.arm(done) {
                let _ = rx.await;
            }
        }
    }

    /// Takes the next item without waiting, if there is one.
    pub fn take(&self) -> Option<T> {
        let mut q = self.queue.0.lock();
        let mut event = q.events.pop_front()?;
        event.set_missed(std::mem::take(&mut q.missed));
        Some(event)
    }

    /// Whether no item is left and none follows.
    pub fn is_over(&self) -> bool {
        let q = self.queue.0.lock();
        q.ended && q.events.is_empty()
    }

    /// Hosts: completes `waiter` when there is an item to take, or at the end. False when that is so already.
    pub fn arm(&self, waiter: Completion) -> bool {
        let mut post = Post::default();
        let mut q = self.queue.0.lock();
        if q.ended || !q.events.is_empty() {
            return false;
        }
        // Only one can wait at a time, so an earlier waiter is woken and checks again.
        if let Some(earlier) = q.waiter.replace(waiter) {
            post.add(earlier, Body::Ready);
        }
        true
    }

    /// Ends the feed: no item follows.
    pub fn close(&self) {
        let mut post = Post::default();
        let mut q = self.queue.0.lock();
        q.ended = true;
        q.events.clear();
        if let Some(waiter) = q.waiter.take() {
            post.add(waiter, Body::Ready);
        }
    }
}

/// A feed as hosts read it.
pub trait HostFeed: Send + Sync {
    /// What is there already, as JSON in the host's form.
    fn take_json(&self, unit: Unit) -> Option<String>;
    /// See [`Feed::is_over`].
    fn is_over(&self) -> bool;
    /// See [`Feed::arm`].
    fn arm(&self, waiter: Completion) -> bool;
    /// See [`Feed::close`].
    fn close(&self);
}

impl<T: Item + Crossing + Send> HostFeed for Feed<T> {
    fn take_json(&self, unit: Unit) -> Option<String> {
        to_host(&self.take()?, unit).ok()
    }
    fn is_over(&self) -> bool {
        self.is_over()
    }
    fn arm(&self, waiter: Completion) -> bool {
        self.arm(waiter)
    }
    fn close(&self) {
        self.close();
    }
}
