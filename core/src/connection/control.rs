//! What the owner of a bus sees of its connection, and can do about it.

use super::{Event, Events, State};
use crate::{
    Bus,
    error::{Error, ErrorKind, Result},
    observe::{Feed, Notice},
};
use std::sync::Arc;

impl Bus {
    /// Settings that are allowed and unwise, such as a secrets file that others can read, or a stream with fewer replicas
    /// than requested. Some warnings appear later, when producers and consumers open.
    pub fn warnings(&self) -> Vec<String> {
        self.shared.warnings()
    }
    /// The connection's events from now on. A slow listener does not affect the bus or other listeners.
    pub fn events(&self) -> Events {
        self.shared.link.events()
    }
    /// What operators should read in the logs, from now on. The last notice is
    /// [`NoticeKind::Closed`](crate::NoticeKind::Closed).
    pub fn notices(&self) -> Feed<Notice> {
        self.shared.link.notices()
    }
    /// Calls `f` with every event. Each call runs on a blocking thread, so `f` may block; a panic in `f` is logged. The
    /// returned function ends the calls.
    pub fn on_event(&self, f: impl Fn(Event) + Send + Sync + 'static) -> impl FnOnce() + Send + 'static {
        let (events, f) = (Arc::new(self.events()), Arc::new(f));
        let ends = events.clone();
        crate::runtime::spawn(async move {
            while let Some(event) = events.next().await {
                let f = f.clone();
                if let Err(e) = tokio::task::spawn_blocking(move || f(event)).await {
                    tracing::error!(error = %e, "an event listener failed");
                }
            }
        });
        move || ends.close()
    }
    /// Drops the connection and connects again, to another server of the pool if there is one. Returns when the new
    /// connection is up. A bus that is reconnecting tries at once.
    ///
    /// # Errors
    /// `Timeout` when there is no connection within `api_timeout`; the bus keeps reconnecting.
    pub async fn force_reconnect(&self) -> Result<()> {
        self.open_or_closed()?;
        let (link, timeout) = (&self.shared.link, self.shared.config.api_timeout);
        let (mut epoch, before) = (link.watch(), link.epoch());
        if link.is_connected() {
            link.expect_reconnect();
            link.retry_now();
            let sent = self.shared.client.force_reconnect().await;
            sent.map_err(|e| Error::new(ErrorKind::Connection, e.to_string()))?;
        } else {
            link.retry_now();
        }
        let made = async {
            while epoch.changed().await.is_ok() {
                if link.epoch() > before || link.state() == State::Closed {
                    break;
                }
            }
        };
        if tokio::time::timeout(timeout, made).await.is_err() {
            let text = "no new connection within api_timeout: the bus keeps reconnecting";
            return Err(Error::new(ErrorKind::Timeout, text));
        }
        self.open_or_closed()
    }
}
