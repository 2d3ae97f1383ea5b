//! What a producer knows of its stream, and how the stream is looked up again.

use crate::{
    error::{Error, ErrorKind, Result},
    message::{Headers, ttl_of},
};
use std::{
    fmt,
    sync::Arc,
    time::{Duration, Instant},
};

/// The wait between two lookups of one producer's stream.
const PAUSE: Duration = Duration::from_secs(1);

/// A producer's stream.
#[derive(Clone, Debug)]
pub(crate) struct ProducerStream {
    pub(crate) name: Arc<str>,
    /// Whether it stores messages and never acks them.
    pub(crate) no_ack: bool,
    /// The shortest time to live that the stream keeps, or why it takes none.
    pub(crate) ttl: Result<Duration>,
}

impl ProducerStream {
    /// Why the stream does not take a message with these headers.
    pub(super) fn refuses(&self, headers: Option<&Headers>) -> Option<Error> {
        let ttl = ttl_of(headers?)?;
        match &self.ttl {
            Err(e) => Some(e.clone()),
            Ok(least) if ttl < *least => {
                let text = format!(
                    "ttl is {ttl:?} and the stream keeps every message for {least:?} at least (subject_delete_marker_ttl): give that, or more"
                );
                Some(Error::new(ErrorKind::NotSupported, text).stream(&*self.name))
            }
            Ok(_) => None,
        }
    }
}

/// Starts a lookup of a producer's stream in a task of its own.
#[derive(Clone)]
pub(crate) struct StartLookup(Arc<dyn Fn() + Send + Sync>);

impl StartLookup {
    pub(crate) fn new(f: impl Fn() + Send + Sync + 'static) -> Self {
        Self(Arc::new(f))
    }
}

impl fmt::Debug for StartLookup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("StartLookup")
    }
}

/// The lookups of one producer's stream after its first: at most one at a time, and one a second.
#[derive(Debug, Default)]
pub(super) struct Lookups {
    pub(super) start: Option<StartLookup>,
    running: bool,
    /// Why the last lookup found no stream.
    failure: Option<Error>,
    not_before: Option<Instant>,
}

impl Lookups {
    /// Starts a lookup, unless one runs or the last one is recent.
    pub(super) fn start(&mut self, now: Instant) {
        if self.running || self.not_before.is_some_and(|at| at > now) {
            return;
        }
        if let Some(start) = &self.start {
            (start.0)();
            self.running = true;
            self.not_before = Some(now + PAUSE);
        }
    }

    /// Notes that a lookup has ended, and why it found no stream.
    pub(super) fn ended(&mut self) {
        self.running = false;
    }
    pub(super) fn set_failure(&mut self, e: Option<Error>) {
        self.failure = e;
    }

    /// Adds to the error of a message that no stream took why the last lookup found none.
    pub(super) fn explain(&self, e: Error) -> Error {
        match &self.failure {
            Some(found) => {
                let text = format!("{}; {}", e.message(), found.message());
                Error::new(e.kind(), text).in_the_words_of(found)
            }
            None => e,
        }
    }
}
