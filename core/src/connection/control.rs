//! What the owner of a bus sees of its connection, and does about it.

use super::{Event, Events, State};
use crate::{
    Bus,
    error::{Error, ErrorKind, Result},
    observe::{Feed, Notice},
};
use std::sync::Arc;

impl Bus {
    /// What is allowed and still unwise, such as a file of secrets that others can read, or a stream with fewer replicas
    /// than asked for. Some of it shows only later, when producers and consumers are opened.
    pub fn warnings(&self) -> Vec<String> {
        self.shared.warnings()
    }
    /// What happens to the connection from now on; a listener that is slow harms nothing.
    pub fn events(&self) -> Events {
        self.shared.link.events()
    }
    /// What operators should read in the logs, from now on; the last is [`NoticeKind::Closed`](crate::NoticeKind::Closed).
    pub fn notices(&self) -> Feed<Notice> {
        self.shared.link.notices()
    }
    /// Calls `f` with every event, on a thread of its own, so that it may block; what it panics with is logged. The
    /// function returned ends that.
    pub fn on_event(&self, f: impl Fn(Event) + Send + Sync + 'static) -> impl FnOnce() + Send + 'static {
        let (events, f) = (Arc::new(self.events()), Arc::new(f));
        let ends = events.clone();
        crate::runtime::spawn(async move {
            while let Some(event) = events.next().await {
                let f = f.clone();
                if let Err(e) = tokio::task::spawn_blocking(move || f(event)).await {
                    tracing::error!(error = %e, "a listener of events failed");
                }
            }
        });
        move || ends.close()
    }
    /// Drops the connection and makes a new one, with another server of the pool if there is one. Returns when that
    /// stands. While reconnecting, tries at once.
    ///
    /// # Errors
    /// `Timeout` when there is none within `api_timeout`; reconnecting goes on.
    pub async fn force_reconnect(&self) -> Result<()> {
        self.open_or_closed()?;
        let (link, timeout) = (&self.shared.link, self.shared.config.api_timeout);
        let (mut epoch, before) = (link.watch(), link.epoch());
        if link.is_connected() {
            link.ask_again();
            link.hurry();
            let sent = self.shared.client.force_reconnect().await;
            sent.map_err(|e| Error::new(ErrorKind::Connection, e.to_string()))?;
        } else {
            link.hurry();
        }
        let made = async {
            while epoch.changed().await.is_ok() {
                if link.epoch() > before || link.state() == State::Closed {
                    break;
                }
            }
        };
        if tokio::time::timeout(timeout, made).await.is_err() {
            let text = "no new connection was made in time (api_timeout): reconnecting goes on";
            return Err(Error::new(ErrorKind::Timeout, text));
        }
        self.open_or_closed()
    }
}
