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
        /// A server could not be reached, and others, or the same later, are tried. At most one a second.
        Connecting = "connecting",
        /// The first server was reached.
        Connected = "connected",
        /// The server was lost; reconnecting goes on.
        Disconnected = "disconnected",
        /// A server was reached again.
        Reconnected = "reconnected",
        /// A server refused the credentials, or they expired or were revoked; reconnecting goes on with fresh ones.
        AuthFailed = "auth_failed",
        /// The server is about to shut down.
        LameDuck = "lame_duck",
        /// Core messages were dropped because a consumer is too slow. At most one a second for each topic.
        SlowConsumer = "slow_consumer",
        /// The server denies a topic. At most one a second for each.
        PermissionDenied = "permission_denied",
        /// The end: closed by its owner, or reconnecting was given up.
        Closed = "closed",
    }
}

record! {
    /// Something that happened to a connection.
    pub struct Event {
        /// What.
        kind: EventKind,
        /// The server concerned, as `host:port`.
        server: Option<String>,
        /// Why, in words; never a secret.
        cause: Option<String>,
        /// The topic concerned.
        topic: Option<String>,
        /// When.
        time: SystemTime,
        /// Events before this one that this listener was too slow for.
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
