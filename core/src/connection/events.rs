//! The events of a connection.

use crate::{
    host::schema::{choices, record},
    observe::{Feed, Item},
};
use std::time::SystemTime;

/// The events of a connection for one listener. The last one is [`EventKind::Closed`].
pub type Events = Feed<Event>;

choices! {
    /// What happened.
    #![non_exhaustive]
    pub enum EventKind {
        /// A connection attempt failed; others follow. At most one event a second.
        Connecting = "connecting",
        /// The bus connected for the first time.
        Connected = "connected",
        /// The connection was lost; the bus reconnects.
        Disconnected = "disconnected",
        /// The bus connected again.
        Reconnected = "reconnected",
        /// A server refused the credentials, or they expired or were revoked. The bus keeps reconnecting with fresh
        /// ones.
        AuthFailed = "auth_failed",
        /// The server is about to shut down.
        LameDuck = "lame_duck",
        /// The client dropped core messages because a consumer is too slow. At most one event a second for each topic.
        SlowConsumer = "slow_consumer",
        /// The server denies a topic. At most one event a second for each topic.
        PermissionDenied = "permission_denied",
        /// The end: the owner closed the bus, or reconnecting was given up.
        Closed = "closed",
    }
}

record! {
    /// An event of a connection.
    pub struct Event {
        /// What happened.
        kind: EventKind,
        /// The server concerned, as `host:port`.
        server: Option<String>,
        /// Why, as text without secrets.
        cause: Option<String>,
        /// The topic concerned.
        topic: Option<String>,
        /// When it happened.
        time: SystemTime,
        /// Earlier events that this listener missed because it was too slow.
        missed: u64,
    }
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

impl Item for Event {
    fn is_last(&self) -> bool {
        self.kind == EventKind::Closed
    }
    fn repeats(&self, other: &Self) -> bool {
        self.kind == other.kind && self.topic == other.topic
    }
    fn set_missed(&mut self, missed: u64) {
        self.missed = missed;
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::observe::{CAPACITY, Hub};

    #[test]
    fn a_slow_listener_misses_the_oldest_and_does_not_affect_others() {
        let hub = Hub::default();
        let (slow, quick) = (hub.listen(), hub.listen());
        for _ in 0..CAPACITY + 5 {
            hub.emit(&Event::new(EventKind::Disconnected));
            assert_eq!(quick.take().unwrap().missed, 0);
        }
        hub.emit(&Event::new(EventKind::Closed).cause("test"));
        assert_eq!(slow.take().unwrap().missed, 6);
        assert_eq!(std::iter::from_fn(|| slow.take()).last().unwrap().kind, EventKind::Closed);
        assert!(slow.is_over() && !quick.is_over());
        assert_eq!(quick.take().unwrap().cause.as_deref(), Some("test"));
        assert!(quick.is_over() && hub.listen().is_over());
    }

    #[test]
    fn floods_are_throttled() {
        let hub = Hub::default();
        let all = hub.listen();
        for topic in ["a", "b", "a", "a"] {
            hub.emit_throttled(&Event::new(EventKind::PermissionDenied).topic(topic));
        }
        let topics: Vec<_> = std::iter::from_fn(|| all.take()?.topic).collect();
        assert_eq!(topics, ["a", "b"]);
    }
}
