//! What all nouns of one bus share: the connection, the pipeline, the settings, and what is open.
//!
//! It lies below all nouns and knows the open ones only as [`Part`]. What they ask of `JetStream` is in `jetstream`.

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

/// What a part answers later.
pub(crate) type Later<'a, T> = Pin<Box<dyn Future<Output = T> + Send + 'a>>;

/// A consumer or a responder as its bus knows it.
pub(crate) trait Part: Send + Sync {
    /// Its topic, with its wildcards.
    fn topic(&self) -> &str;
    /// Whether the server's denial of a topic keeps it from working.
    fn concerns(&self, what: &Denied) -> bool;
    /// Ends it with an error.
    fn fail(&self, e: Error);
    /// Its health; none once its owner has closed it.
    fn health(&self) -> Option<ConsumerHealth>;
    /// What is wrong with its group, asked of the server.
    fn group_problem(&self) -> Later<'_, Option<String>>;
    /// Begins to close it: nothing more is handed out.
    fn stop(&self);
    /// Closes it.
    fn close(&self) -> Later<'_, ()>;
    /// The number of its runs of handlers that have not ended.
    fn runs(&self) -> watch::Receiver<usize>;
}

/// What all parts of one bus share.
pub(crate) struct Shared {
    pub(crate) config: Config,
    pub(crate) client: Client,
    pub(crate) link: Arc<Link>,
    pub(crate) pipeline: Arc<Pipeline>,
    pub(crate) metrics: Arc<Metrics>,
    pub(crate) consumers: Mutex<Vec<Weak<dyn Part>>>,
    /// Those that could not go on, until another one of their topic and group is open, or they are dismissed.
    pub(crate) failed_consumers: Mutex<Vec<ConsumerHealth>>,
    /// What is allowed and still unwise, each once.
    pub(crate) warnings: Mutex<Vec<String>>,
    /// The connection on which the right to ask for the account was denied: not asked for again on it.
    pub(crate) unasked: AtomicU64,
    /// Whether it was closed, once and for all.
    pub(crate) left: AtomicBool,
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

    /// A consumer, which is told of what the server denies and closed with the bus.
    pub(crate) fn keep(&self, part: Weak<dyn Part>) {
        let mut all = self.consumers.lock();
        all.retain(|w| w.strong_count() > 0);
        all.push(part);
    }

    /// Notes something that is allowed and unwise; once, however often it is met.
    pub(crate) fn warn(&self, text: String) {
        let mut all = self.warnings.lock();
        if !all.contains(&text) {
            self.link.notice(&Notice::warning(NoticeKind::Setting, text.as_str()));
            all.push(text);
        }
    }

    /// All noted so far.
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
