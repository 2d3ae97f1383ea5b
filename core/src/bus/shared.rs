//! What all nouns of one bus share: the connection, the pipeline, the settings, and the list of open consumers.
//!
//! It lies below all nouns and knows the open ones only as [`Part`]. The module `jetstream` adds the JetStream calls.

use crate::{
    config::Config,
    connection::{Denied, Link, LinkObserver, Reaction},
    error::{Error, Result},
    host::mailbox::{Body, Completion},
    local_server::LocalServer,
    observe::{ConsumerHealth, Metrics, Notice, NoticeKind},
    publish::Pipeline,
};
use async_nats::Client;
use parking_lot::Mutex;
use std::{
    pin::Pin,
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64},
    },
    time::Duration,
};
use tokio::{sync::watch, task::JoinSet};

/// The future of an async method of [`Part`].
pub(crate) type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A consumer or a responder as its bus knows it.
pub(crate) trait Part: Send + Sync {
    /// Its topic, with wildcards.
    fn topic(&self) -> &str;
    /// Whether a denial keeps it from working.
    fn concerns(&self, what: &Denied) -> bool;
    /// Ends it with an error.
    fn fail(&self, e: Error);
    /// Its health. None after its owner has closed it.
    fn health(&self) -> Option<ConsumerHealth>;
    /// The problem of its group, from the server.
    fn group_problem(&self) -> Later<'_, Option<String>>;
    /// Starts to close it: it hands out no further message.
    fn stop(&self);
    /// Closes it.
    fn close(&self) -> Later<'_, ()>;
    /// The number of its handler runs that have not ended.
    fn runs(&self) -> watch::Receiver<usize>;
}

/// The context of one bus.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) client: Client,
    pub(crate) link: Arc<Link>,
    pub(crate) pipeline: Arc<Pipeline>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) consumers: Mutex<Vec<Weak<dyn Part>>>,
    /// Failed consumers. They stay until a consumer of the same topic and group is open, or the user dismisses them.
    pub(crate) failed_consumers: Mutex<Vec<ConsumerHealth>>,
    /// Settings that are allowed and unwise, each once.
    pub(crate) warnings: Mutex<Vec<String>>,
    /// The epoch of the connection on which the server denied `$JS.API.INFO`. No further call asks on that connection.
    pub(crate) account_denied_on: AtomicU64,
    /// Whether `close` has run.
    pub(crate) closed: AtomicBool,
    pub(crate) tasks: Mutex<JoinSet<()>>,
    pub(crate) local: Option<LocalServer>,
}

impl std::fmt::Debug for Shared {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Shared").field("state", &self.link.state()).finish_non_exhaustive()
    }
}

impl Shared {
    pub(crate) fn spawn(&self, task: impl Future<Output = ()> + Send + 'static) {
        let mut tasks = self.tasks.lock();
        while tasks.try_join_next().is_some() {}
        tasks.spawn_on(task, &crate::runtime::handle());
    }

    /// Adds a consumer. It learns of denials and is closed with the bus.
    pub(crate) fn keep(&self, part: Weak<dyn Part>) {
        let mut all = self.consumers.lock();
        all.retain(|w| w.strong_count() > 0);
        all.push(part);
    }

    /// Notes a setting that is allowed and unwise, the first time it is met.
    pub(crate) fn warn(&self, text: String) {
        let mut all = self.warnings.lock();
        if !all.contains(&text) {
            self.link.notice(&Notice::warning(NoticeKind::Setting, text.as_str()));
            all.push(text);
        }
    }

    /// All warnings so far.
    pub(crate) fn warnings(&self) -> Vec<String> {
        self.warnings.lock().clone()
    }

    pub(crate) fn all_consumers(&self) -> Vec<Arc<dyn Part>> {
        self.consumers.lock().iter().filter_map(Weak::upgrade).collect()
    }

    /// Ends when the server has processed everything sent before it.
    pub(crate) async fn round_trip(&self, timeout: Duration) -> Result<()> {
        let (done, rx) = Completion::task();
        self.pipeline.echo(timeout, done);
        match rx.await {
            Ok(Body::Done(result)) => result,
            _ => Err(Error::closed("bus")),
        }
    }
}

impl LinkObserver for Shared {
    fn denied(&self, what: &Denied, e: &Error) -> Reaction {
        self.all_consumers().iter().filter(|c| c.concerns(what)).for_each(|c| c.fail(e.clone()));
        Reaction::Unexpected
    }
    fn gave_up(&self, e: &Error) {
        self.all_consumers().iter().for_each(|c| c.fail(e.clone().topic(c.topic())));
    }
}
