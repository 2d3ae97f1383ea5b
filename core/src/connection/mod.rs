//! One connection: its client, its state, and what changes of state mean to the rest of the bus.
//!
//! Owns the state and the epoch, a number that grows with every (re)connection, by which others tell what was sent
//! before a loss. Never retries messages: that is the pipeline's.

mod options;

use crate::{
    config::Config,
    error::{Error, ErrorKind, Result},
    metrics::Metrics,
};
use async_nats::{Client, Event};
use parking_lot::Mutex;
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};
use tokio::sync::watch;

/// The state of a connection.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum State {
    /// No server was reached yet.
    Connecting,
    /// A server answers.
    Connected,
    /// The server was lost; reconnecting goes on for ever.
    Disconnected,
    /// Closed by its owner.
    Closed,
}

impl State {
    /// The state's name, the same in every language.
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Connecting => "connecting",
            Self::Connected => "connected",
            Self::Disconnected => "disconnected",
            Self::Closed => "closed",
        }
    }
}

/// The state that the client's callback changes and everybody reads.
#[derive(Debug)]
pub(crate) struct Link {
    connected: AtomicBool,
    state: Mutex<State>,
    epoch: watch::Sender<u64>,
    metrics: Arc<Metrics>,
    last_error: Mutex<Option<String>>,
}

impl Link {
    fn new(metrics: Arc<Metrics>) -> Arc<Self> {
        Arc::new(Self {
            connected: AtomicBool::new(false),
            state: Mutex::new(State::Connecting),
            epoch: watch::Sender::new(0),
            metrics,
            last_error: Mutex::new(None),
        })
    }
    pub(crate) fn is_connected(&self) -> bool {
        self.connected.load(Ordering::Acquire)
    }
    pub(crate) fn state(&self) -> State {
        *self.state.lock()
    }
    /// The connections so far; 0 before the first.
    pub(crate) fn epoch(&self) -> u64 {
        *self.epoch.borrow()
    }
    pub(crate) fn watch(&self) -> watch::Receiver<u64> {
        self.epoch.subscribe()
    }
    fn set(&self, state: State) {
        let mut current = self.state.lock();
        if *current != State::Closed {
            *current = state;
        }
        self.connected.store(*current == State::Connected, Ordering::Release);
    }
    pub(crate) fn close(&self) {
        self.set(State::Closed);
    }
    fn on_event(&self, event: &Event) {
        match event {
            Event::Connected => {
                // In one step: nothing is sent on this connection under the number of the last one.
                self.epoch.send_modify(|e| {
                    *e += 1;
                    self.set(State::Connected);
                });
                if self.epoch() > 1 {
                    self.metrics.reconnects.add(1);
                }
                tracing::info!(epoch = self.epoch(), "connected");
            }
            Event::Disconnected => {
                self.set(State::Disconnected);
                self.epoch.send_modify(|_| {});
                tracing::warn!("disconnected; reconnecting");
            }
            Event::SlowConsumer(_) => self.metrics.slow_consumer.add(1),
            Event::ServerError(e) => {
                tracing::warn!(error = %e, "the server reports an error");
                *self.last_error.lock() = Some(e.to_string());
            }
            Event::ClientError(e) => tracing::debug!(error = %e, "connection error"),
            Event::LameDuckMode => tracing::info!("the server is about to shut down"),
            Event::Draining | Event::Closed => {}
        }
    }
}

/// A connected client and its state.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) client: Client,
    pub(crate) link: Arc<Link>,
}

impl Connection {
    pub(crate) async fn open(config: &Config, metrics: Arc<Metrics>) -> Result<Self> {
        let link = Link::new(metrics);
        let seen = link.clone();
        let (options, pool) = options::build(config, link.clone())?;
        let options = options.event_callback(move |event| {
            seen.on_event(&event);
            std::future::ready(())
        });
        let client = options.connect(pool.as_slice()).await.map_err(|e| options::explain(&e, config))?;
        if !config.retry_on_initial_connect {
            // The event follows the connection within a moment; waiting for it keeps the state one truth.
            let mut epoch = link.watch();
            let waited = tokio::time::timeout(config.connect_timeout, epoch.wait_for(|e| *e > 0)).await;
            if !matches!(waited, Ok(Ok(_))) {
                return Err(Error::new(
                    ErrorKind::Connection,
                    "the connection was lost while it was being made",
                ));
            }
        }
        Ok(Self { client, link })
    }
}
