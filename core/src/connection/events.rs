//! What happens to a connection, told to whoever listens.
//!
//! Owns the listeners' queues: bounded, the oldest dropped and counted. Telling never waits, so a slow listener harms
//! nobody, not even another one.

use crate::mailbox::{Body, Completion, Post};
use parking_lot::Mutex;
use serde::{Serialize, Serializer};
use std::{
    collections::VecDeque,
    sync::{Arc, Weak},
    time::{Duration, Instant, SystemTime, UNIX_EPOCH},
};

/// Events kept for a listener that is busy.
const KEPT: usize = 256;
/// What happens again within this time is not told again.
const AGAIN: Duration = Duration::from_secs(1);

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum EventKind {
    /// A server could not be reached, and others, or the same later, are tried. At most one a second.
    Connecting,
    /// The first server was reached.
    Connected,
    /// The server was lost; reconnecting goes on.
    Disconnected,
    /// A server was reached again.
    Reconnected,
    /// A server refused the credentials, or they expired or were revoked; reconnecting goes on with fresh ones.
    AuthFailed,
    /// The server is about to shut down.
    LameDuck,
    /// Core messages were dropped because a consumer is too slow. At most one a second for each topic.
    SlowConsumer,
    /// The server denies a topic. At most one a second for each.
    PermissionDenied,
    /// The end: closed by its owner, or reconnecting was given up.
    Closed,
}

impl EventKind {
    /// The kind's name, the same in every language.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Connected => "connected",
            Self::Disconnected => "disconnected",
            Self::Reconnected => "reconnected",
            Self::AuthFailed => "auth_failed",
            Self::LameDuck => "lame_duck",
            Self::SlowConsumer => "slow_consumer",
            Self::PermissionDenied => "permission_denied",
            Self::Closed => "closed",
        }
    }
}

/// Something that happened to a connection.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Event {
    /// What.
    pub kind: EventKind,
    /// The server concerned, as `host:port`.
    pub server: Option<String>,
    /// Why, in words; never a secret.
    pub cause: Option<String>,
    /// The topic concerned.
    pub topic: Option<String>,
    /// When; for hosts in seconds since 1970.
    #[serde(serialize_with = "seconds")]
    pub time: SystemTime,
    /// Events before this one that this listener was too slow for.
    pub missed: u64,
}

fn seconds<S: Serializer>(time: &SystemTime, s: S) -> Result<S::Ok, S::Error> {
    s.serialize_f64(time.duration_since(UNIX_EPOCH).unwrap_or_default().as_secs_f64())
}

impl Event {
    pub(super) fn new(kind: EventKind) -> Self {
        Self { kind, server: None, cause: None, topic: None, time: SystemTime::now(), missed: 0 }
    }
    pub(super) fn server(self, server: Option<String>) -> Self {
        Self { server, ..self }
    }
    pub(super) fn cause(self, cause: impl Into<String>) -> Self {
        Self { cause: Some(cause.into()), ..self }
    }
    pub(super) fn topic(self, topic: &str) -> Self {
        Self { topic: Some(topic.to_owned()), ..self }
    }
}

/// All listeners of a connection.
#[derive(Debug, Default)]
pub(super) struct Hub(Mutex<HubState>);

#[derive(Debug, Default)]
struct HubState {
    queues: Vec<Weak<Queue>>,
    /// What was told last of what comes in floods.
    recent: VecDeque<(EventKind, Option<String>, Instant)>,
    closed: bool,
}

impl Hub {
    pub(super) fn tell(&self, event: &Event) {
        let mut post = Post::default();
        let mut hub = self.0.lock();
        if hub.closed {
            return;
        }
        hub.closed = event.kind == EventKind::Closed;
        hub.queues.retain(|q| q.strong_count() > 0);
        for queue in hub.queues.iter().filter_map(Weak::upgrade) {
            queue.push(event.clone(), &mut post);
        }
    }

    /// Tells what may come in floods: of each kind and topic one a second.
    pub(super) fn tell_now_and_then(&self, event: &Event) {
        let now = Instant::now();
        let mut hub = self.0.lock();
        while hub.recent.len() >= KEPT || hub.recent.front().is_some_and(|(.., at)| now - *at >= AGAIN) {
            hub.recent.pop_front();
        }
        if hub.recent.iter().any(|(kind, topic, _)| *kind == event.kind && *topic == event.topic) {
            return;
        }
        hub.recent.push_back((event.kind, event.topic.clone(), now));
        drop(hub);
        self.tell(event);
    }

    pub(super) fn listen(&self) -> Events {
        let mut hub = self.0.lock();
        let queue = Arc::new(Queue(Mutex::new(QueueState { ended: hub.closed, ..QueueState::default() })));
        hub.queues.push(Arc::downgrade(&queue));
        Events { queue }
    }
}

#[derive(Debug)]
struct Queue(Mutex<QueueState>);

#[derive(Debug, Default)]
struct QueueState {
    events: VecDeque<Event>,
    missed: u64,
    ended: bool,
    waiter: Option<Completion>,
}

impl Queue {
    fn push(&self, event: Event, post: &mut Post) {
        let mut q = self.0.lock();
        if q.ended {
            return;
        }
        q.ended = event.kind == EventKind::Closed;
        if q.events.len() >= KEPT {
            q.events.pop_front();
            q.missed += 1;
        }
        q.events.push_back(event);
        if let Some(waiter) = q.waiter.take() {
            post.add(waiter, Body::Ready);
        }
    }
}

/// The events of a connection from now on, for one listener; the last is [`EventKind::Closed`].
#[derive(Debug)]
pub struct Events {
    queue: Arc<Queue>,
}

impl Events {
    /// Waits for the next event; none after the last. Dropping the future loses no event.
    pub async fn next(&self) -> Option<Event> {
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

    /// Takes an event that is there already.
    pub fn take(&self) -> Option<Event> {
        let mut q = self.queue.0.lock();
        let mut event = q.events.pop_front()?;
        event.missed = std::mem::take(&mut q.missed);
        Some(event)
    }

    /// Whether no event is left and none will come.
    pub fn is_over(&self) -> bool {
        let q = self.queue.0.lock();
        q.ended && q.events.is_empty()
    }

    /// Hosts: asks to be told when there is something to take, or the end; false when there is already.
    pub fn arm(&self, waiter: Completion) -> bool {
        let mut post = Post::default();
        let mut q = self.queue.0.lock();
        if q.ended || !q.events.is_empty() {
            return false;
        }
        // One waits at a time; another that waited looks again.
        if let Some(earlier) = q.waiter.replace(waiter) {
            post.add(earlier, Body::Ready);
        }
        true
    }

    /// Ends the listening: nothing more comes.
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_slow_listener_misses_the_oldest_and_harms_no_other() {
        let hub = Hub::default();
        let (slow, quick) = (hub.listen(), hub.listen());
        for _ in 0..KEPT + 5 {
            hub.tell(&Event::new(EventKind::Disconnected));
            assert_eq!(quick.take().unwrap().missed, 0);
        }
        hub.tell(&Event::new(EventKind::Closed).cause("test"));
        assert_eq!(slow.take().unwrap().missed, 6);
        assert_eq!(std::iter::from_fn(|| slow.take()).last().unwrap().kind, EventKind::Closed);
        assert!(slow.is_over() && !quick.is_over());
        assert_eq!(quick.take().unwrap().cause.as_deref(), Some("test"));
        assert!(quick.is_over() && hub.listen().is_over());
    }

    #[test]
    fn floods_are_told_now_and_then() {
        let hub = Hub::default();
        let all = hub.listen();
        for topic in ["a", "b", "a", "a"] {
            hub.tell_now_and_then(&Event::new(EventKind::PermissionDenied).topic(topic));
        }
        let topics: Vec<_> = std::iter::from_fn(|| all.take()?.topic).collect();
        assert_eq!(topics, ["a", "b"]);
    }
}
