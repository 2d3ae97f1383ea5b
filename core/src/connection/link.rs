//! The state of a connection. The client's events change it, and every part of the bus reads it.
//!
//! Owns the state and the epoch, a number that grows with every (re)connection. The epoch shows what was sent before a
//! loss. Reports events to listeners and denials to observers.

use super::{
    denial::{Cause, Denied},
    events::{Event, EventKind, Events},
};
use crate::{
    error::{Error, ErrorKind},
    host::schema::choices,
    observe::{Feed, Hub, Level, Metrics, Notice, NoticeKind},
};
use async_nats::{Event as ClientEvent, ServerError};
use parking_lot::Mutex;
use std::sync::{
    Arc, Weak,
    atomic::{AtomicBool, Ordering},
};
use std::time::{Duration, Instant};
use tokio::sync::{Notify, watch};

choices! {
    /// The state of a connection.
    pub enum State {
        /// Not connected yet.
        Connecting = "connecting",
        /// Connected.
        Connected = "connected",
        /// The connection was lost; the bus reconnects.
        Disconnected = "disconnected",
        /// The owner closed the bus, or reconnecting was given up.
        Closed = "closed",
    }
}

/// Acts on what happens to the connection. The client's own task calls it, so it must not block.
pub(crate) trait LinkObserver: Send + Sync {
    /// The server denies a topic.
    fn denied(&self, what: &Denied, e: &Error) -> Reaction;
    /// Reconnecting was given up: no further connection follows.
    fn gave_up(&self, e: &Error);
}

/// How an observer takes a denial.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Reaction {
    /// The observer provoked the denial, so it becomes no event.
    Expected,
    Unexpected,
}

/// The state of the connection and its listeners.
pub(crate) struct Link {
    connected: AtomicBool,
    state: Mutex<State>,
    epoch: watch::Sender<u64>,
    metrics: Arc<Metrics>,
    hub: Hub<Event>,
    notices: Hub<Notice>,
    observers: Mutex<Vec<Weak<dyn LinkObserver>>>,
    /// The server of the current, or the next, connection.
    peer: Mutex<Option<String>>,
    /// What happened on this connection that may be why it ends.
    disconnect_cause: Mutex<Option<Cause>>,
    /// Whether the connection ends because its owner asked for another one.
    reconnect_requested: AtomicBool,
    /// Why there is no connection now.
    trouble: Mutex<Option<Cause>>,
    /// Why reconnecting was given up.
    failure: Mutex<Option<Error>>,
    /// Ends the wait before the next attempt.
    retry_now: Notify,
    /// When the last connection was made.
    since: Mutex<Option<Instant>>,
}

impl std::fmt::Debug for Link {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Link").field("state", &self.state()).field("epoch", &self.epoch()).finish()
    }
}

impl Link {
    pub(super) fn new(metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            connected: AtomicBool::new(false),
            state: Mutex::new(State::Connecting),
            epoch: watch::Sender::new(0),
            metrics,
            hub: Hub::default(),
            notices: Hub::default(),
            observers: Mutex::default(),
            peer: Mutex::default(),
            disconnect_cause: Mutex::default(),
            reconnect_requested: AtomicBool::new(false),
            trouble: Mutex::default(),
            failure: Mutex::default(),
            retry_now: Notify::new(),
            since: Mutex::default(),
        })
    }
    pub(crate) fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Acquire)
    }
    pub(crate) fn state(&self) -> State {
        *self.state.lock()
    }
    /// The number of connections so far; 0 before the first.
    pub(crate) fn epoch(&self) -> u64 {
        *self.epoch.borrow()
    }
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.epoch.subscribe()
    }
    /// Why reconnecting was given up, if it was.
    pub(crate) fn failure(&self) -> Option<Error> {
        self.failure.lock().clone()
    }
    /// Why there is no connection now. None while connected, and when the owner closed the bus.
    pub(crate) fn trouble(&self) -> Option<Cause> {
        self.failure().map(|e| Cause::other(e.message())).or_else(|| self.trouble.lock().clone())
    }
    /// A listener for the events from now on.
    pub(crate) fn events(&self) -> Events {
        self.hub.listen()
    }
    /// A listener for what operators should read, from now on.
    pub(crate) fn notices(&self) -> Feed<Notice> {
        self.notices.listen()
    }
    /// Reports what operators should read. Repeated notices are throttled to one a second.
    pub(crate) fn notice(&self, notice: &Notice) {
        let (kind, topic, group, text) = (notice.kind, &notice.topic, &notice.group, &notice.text);
        match notice.level {
            Level::Info => tracing::info!(?kind, topic, group, "{text}"),
            Level::Warning => tracing::warn!(?kind, topic, group, "{text}"),
            Level::Error => tracing::error!(?kind, topic, group, "{text}"),
        }
        self.notices.emit_throttled(notice);
    }
    fn emit(&self, event: &Event) {
        self.hub.emit(event);
        if let Some(notice) = Notice::of_event(event) {
            self.notices.emit(&notice);
        }
    }
    fn emit_throttled(&self, event: &Event) {
        self.hub.emit_throttled(event);
        if let Some(notice) = Notice::of_event(event) {
            self.notices.emit_throttled(&notice);
        }
    }
    /// Reports denials and giving up to this observer from now on.
    pub(crate) fn observe(&self, observer: Weak<dyn LinkObserver>) {
        self.observers.lock().push(observer);
    }
    fn observers(&self) -> Vec<Arc<dyn LinkObserver>> {
        self.observers.lock().iter().filter_map(Weak::upgrade).collect()
    }

    /// Sets the state unless it is `Closed`, which is final. True when it was set.
    fn set(&self, state: State) -> bool {
        let mut current = self.state.lock();
        let open = *current != State::Closed;
        if open {
            *current = state;
        }
        self.connected.store(*current == State::Connected, Ordering::Release);
        open
    }
    pub(crate) fn close(&self) {
        if self.set(State::Closed) {
            *self.trouble.lock() = None;
            self.retry_now.notify_one();
            self.emit(&Event::new(EventKind::Closed).cause("closed by its owner"));
        }
    }
    /// Gives up reconnecting: every wait ends with an error.
    pub(super) fn give_up(&self, why: &str) {
        let e = Error::new(ErrorKind::Connection, format!("reconnecting was given up: {why}"));
        *self.failure.lock() = Some(e.clone());
        if !self.set(State::Closed) {
            return;
        }
        self.notice(&Notice::of_error(Level::Error, NoticeKind::Connection, &e));
        self.observers().iter().for_each(|o| o.gave_up(&e));
        self.epoch.send_modify(|_| {});
        self.emit(&Event::new(EventKind::Closed).cause(e.message()));
    }

    /// Waits before an attempt. [`retry_now`](Self::retry_now) ends the wait.
    pub(super) async fn wait_to_retry(&self, wait: Duration) {
        if !wait.is_zero() && self.state() != State::Closed {
            let _ = tokio::time::timeout(wait, self.retry_now.notified()).await;
        }
    }
    /// Whether the last connection started at least this long ago.
    pub(super) fn lasted(&self, time: Duration) -> bool {
        self.since.lock().is_none_or(|at| at.elapsed() >= time)
    }
    /// Starts the next attempt at once.
    pub(crate) fn retry_now(&self) {
        self.retry_now.notify_one();
    }

    /// Sets the server of the next connection.
    pub(super) fn set_peer(&self, server: &str) {
        *self.peer.lock() = Some(server.to_owned());
    }
    /// Reports a failed connection attempt.
    pub(super) fn attempt_failed(&self, server: &str, cause: &Cause) {
        let kind = if cause.is_auth { EventKind::AuthFailed } else { EventKind::Connecting };
        tracing::debug!(server, cause = cause.text, "a connection attempt failed");
        if self.state() != State::Closed {
            *self.trouble.lock() = Some(Cause { text: format!("{server}: {}", cause.text), ..*cause });
        }
        let event = Event::new(kind).server(Some(server.to_owned()));
        self.emit_throttled(&event.cause(cause.text.as_str()));
    }
    /// Reports that the client dropped messages of a topic.
    pub(crate) fn slow_consumer(&self, topic: &str) {
        let text = "messages were dropped: they arrive faster than they are taken";
        let e = Event::new(EventKind::SlowConsumer).cause(text).server(self.peer());
        self.emit_throttled(&if topic.is_empty() { e } else { e.topic(topic) });
    }
    pub(crate) fn peer(&self) -> Option<String> {
        self.peer.lock().clone()
    }
    /// Notes that the owner asks for another connection.
    pub(crate) fn expect_reconnect(&self) {
        self.reconnect_requested.store(true, Ordering::Release);
        self.set_disconnect_cause(Cause::other("a reconnect was asked for"));
    }
    /// Notes why this connection ends, in case it ends now.
    fn set_disconnect_cause(&self, cause: Cause) {
        *self.disconnect_cause.lock() = Some(cause);
    }

    pub(super) fn on_event(&self, event: &ClientEvent) {
        match event {
            ClientEvent::Connected => self.on_connected(),
            ClientEvent::Disconnected => {
                let cause = self.disconnect_cause.lock().take();
                let cause = cause
                    .unwrap_or_else(|| Cause::other("the server closed the connection, or did not answer"));
                let open = self.set(State::Disconnected);
                self.epoch.send_modify(|_| {});
                if open {
                    tracing::warn!(cause = cause.text, "disconnected; reconnecting");
                    *self.trouble.lock() = Some(cause.clone());
                    let event = Event::new(EventKind::Disconnected).server(self.peer()).cause(cause.text);
                    self.hub.emit(&event);
                    if let Some(mut notice) = Notice::of_event(&event) {
                        if self.reconnect_requested.swap(false, Ordering::AcqRel) {
                            notice.level = Level::Info;
                        }
                        self.notices.emit(&notice);
                    }
                }
            }
            ClientEvent::SlowConsumer(_) => {
                self.metrics.slow_consumer.add(1);
                self.slow_consumer("");
            }
            ClientEvent::ServerError(e) => self.on_server_error(e),
            ClientEvent::ClientError(e) => tracing::debug!(error = %e, "connection error"),
            ClientEvent::LameDuckMode => {
                tracing::info!("the server is about to shut down");
                self.set_disconnect_cause(Cause::other("the server shut down"));
                self.emit(&Event::new(EventKind::LameDuck).server(self.peer()));
            }
            ClientEvent::Draining | ClientEvent::Closed => {}
        }
    }

    fn on_connected(&self) {
        *self.disconnect_cause.lock() = None;
        *self.trouble.lock() = None;
        *self.since.lock() = Some(Instant::now());
        let (mut open, mut again) = (true, false);
        // State and epoch change together, so that nothing is sent on this connection with the last epoch.
        self.epoch.send_modify(|e| {
            *e += 1;
            again = *e > 1;
            if again {
                self.metrics.reconnects.add(1);
            }
            open = self.set(State::Connected);
        });
        tracing::info!(epoch = self.epoch(), "connected");
        if open {
            let kind = if again { EventKind::Reconnected } else { EventKind::Connected };
            self.emit(&Event::new(kind).server(self.peer()));
        }
    }

    fn on_server_error(&self, e: &ServerError) {
        let text = match e {
            ServerError::Other(text) => text.clone(),
            other => other.to_string(),
        };
        if let Some(denied) = Denied::parse(&text) {
            let e = denied.error();
            // Every observer learns of it, also when another one has expected it.
            let expected =
                self.observers().iter().filter(|o| o.denied(&denied, &e) == Reaction::Expected).count();
            if expected > 0 {
                return;
            }
            tracing::debug!(error = %e, "the server denies a topic");
            let event = Event::new(EventKind::PermissionDenied).topic(&denied.topic).cause(text);
            return self.emit_throttled(&event.server(self.peer()));
        }
        tracing::warn!(error = %e, "the server reports an error");
        let cause = Cause::reported(text);
        if cause.is_auth {
            let event = Event::new(EventKind::AuthFailed).cause(cause.text.as_str()).server(self.peer());
            self.emit_throttled(&event);
        }
        self.set_disconnect_cause(cause);
    }
}
