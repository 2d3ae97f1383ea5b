//! The one way out and back: a queue that a single task writes to the client, and an inbox that answers come to.
//!
//! Owns the reply inbox, the writer, the reader of answers and the sweeper of deadlines, one task each per connection,
//! whatever the number of messages. What a message becomes is decided in [`state`] and [`outcome`].

mod denied;
mod found;
mod names;
mod outcome;
mod patience;
mod plain;
mod retry;
mod slot;
mod state;
mod window;
mod writer;

pub(crate) use found::{Found, Look};
pub(crate) use names::LONGEST_ID;
pub(crate) use outcome::ApiError;
#[cfg(feature = "fuzzing")]
pub(crate) use outcome::classify;
pub(crate) use slot::Wire;
pub(crate) use state::{Submission, Submitted};
pub(crate) use window::ProducerId;

use crate::{
    connection::{Connection, Link},
    error::{Error, ErrorKind, Result},
    host::mailbox::{Body, Completion, Post},
    message::{Delivery, Headers},
    observe::Metrics,
};
use async_nats::Subject;
use bytes::Bytes;
use futures_util::{FutureExt, StreamExt};
use parking_lot::{Mutex, MutexGuard};
use slot::{Kind, Out};
use state::State;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{sync::Notify, task::JoinSet};

/// Answers read under one lock; also bounds what a wake-up of the host carries.
const BATCH: usize = 1024;

pub(crate) struct Pipeline {
    state: Mutex<State>,
    link: Arc<Link>,
    inbox: String,
    work: Notify,
    /// The writer is to wait no longer.
    enough: Notify,
    writer_sleeps: AtomicBool,
    /// Whether the writer waits for more of what is patient.
    gathering: AtomicBool,
    /// Bytes handed over since the client has last written all.
    unwritten: AtomicUsize,
    timer: Notify,
}

impl std::fmt::Debug for Pipeline {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Pipeline").field("inbox", &self.inbox).finish_non_exhaustive()
    }
}

impl Pipeline {
    /// Starts the three tasks of a connection.
    pub(crate) async fn start(
        c: &Connection,
        metrics: Arc<Metrics>,
        tasks: &mut JoinSet<()>,
    ) -> Result<Arc<Self>> {
        let inbox = c.client.new_inbox();
        let pipeline = Arc::new(Self {
            state: Mutex::new(State::new(&inbox, metrics)),
            link: c.link.clone(),
            inbox,
            work: Notify::new(),
            enough: Notify::new(),
            writer_sleeps: AtomicBool::new(false),
            gathering: AtomicBool::new(false),
            unwritten: AtomicUsize::new(0),
            timer: Notify::new(),
        });
        c.link.hear(denied::weak(&pipeline));
        let answers = c.client.subscribe(format!("{}.*", pipeline.inbox)).await.map_err(|e| {
            Error::new(ErrorKind::Connection, "the reply inbox could not be subscribed").server(e.to_string())
        })?;
        // Without the cooperative budget a drain takes what is there, in one go.
        tasks.spawn(tokio::task::unconstrained(pipeline.clone().read(answers)));
        tasks.spawn(tokio::task::unconstrained(pipeline.clone().write(c.client.clone())));
        tasks.spawn(pipeline.clone().watch());
        Ok(pipeline)
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock()
    }

    pub(crate) fn submit(&self, producer: ProducerId, s: Submission<'_>) -> Result<Submitted> {
        let (connected, now) = (self.link.is_connected(), Instant::now());
        self.change(|state| state.submit(producer, s, connected, now))
    }

    /// The same for many: one lock, one wake-up.
    pub(crate) fn submit_many<'a>(
        &self,
        producer: ProducerId,
        all: impl Iterator<Item = Submission<'a>>,
        mut each: impl FnMut(Result<Submitted>),
    ) {
        let (connected, now) = (self.link.is_connected(), Instant::now());
        self.change(|state| all.for_each(|s| each(state.submit(producer, s, connected, now))));
    }

    /// Changes the state and wakes whoever the change concerns.
    pub(crate) fn change<T>(&self, f: impl FnOnce(&mut State) -> T) -> T {
        let mut state = self.state.lock();
        let (had, hurry, due) = (state.out.len(), state.in_a_hurry(), state.next_due);
        let out = f(&mut state);
        let (wake_writer, wake_timer) =
            (had == 0 && !state.out.is_empty(), state.next_due != due && earlier(state.next_due, due));
        let enough = !hurry && state.in_a_hurry();
        drop(state);
        if enough && self.gathering.load(Ordering::SeqCst) {
            self.enough.notify_waiters();
        }
        if wake_writer && self.writer_sleeps.load(Ordering::SeqCst) {
            self.work.notify_one();
        }
        if wake_timer {
            self.timer.notify_one();
        }
        out
    }

    /// Takes core messages that need nothing but their bodies; how many, before one that has to go the longer way.
    pub(crate) fn submit_plain(&self, producer: ProducerId, bodies: &[&[u8]], limit: usize) -> usize {
        if !self.link.is_connected() {
            return 0;
        }
        let mut state = self.state.lock();
        let (idle, hurry) = (state.out.is_empty(), state.in_a_hurry());
        let refused = bodies.iter().position(|b| b.len() > limit || !state.submit_plain(producer, b));
        drop(state);
        let taken = refused.unwrap_or(bodies.len());
        if taken > 0 && idle && self.writer_sleeps.load(Ordering::SeqCst) {
            self.work.notify_one();
        }
        if taken > 0 && !hurry && self.gathering.load(Ordering::SeqCst) {
            self.enough.notify_waiters();
        }
        taken
    }

    /// Queues something nobody waits for; false once the bus is closed.
    pub(crate) fn plain(
        &self,
        topic: Subject,
        reply: Option<Subject>,
        headers: Option<Headers>,
        body: Bytes,
    ) -> bool {
        let wire = Wire { topic, body, headers, id: None };
        self.change(|s| {
            if !s.closed {
                s.push(Out::Plain { wire, reply }, false);
            }
            !s.closed
        })
    }

    /// Queues many small ones at once: acks.
    pub(crate) fn plain_many(&self, items: impl Iterator<Item = (Subject, Bytes)>) {
        self.change(|s| {
            for (topic, body) in items {
                let wire = Wire { topic, body, headers: None, id: None };
                s.push(Out::Plain { wire, reply: None }, false);
            }
        });
    }

    /// Asks; ends with a reply, with no responders at once, or with a timeout.
    pub(crate) fn ask(
        &self,
        topic: Subject,
        headers: Option<Headers>,
        body: &[u8],
        timeout: Duration,
        done: Completion,
    ) -> Result<()> {
        self.ask_as(Kind::Request { own: false }, topic, headers, body, timeout, done)
    }

    fn ask_as(
        &self,
        kind: Kind,
        topic: Subject,
        headers: Option<Headers>,
        body: &[u8],
        timeout: Duration,
        done: Completion,
    ) -> Result<()> {
        self.change(|s| {
            if let Some(e) = s.cannot_ask() {
                return Err(e);
            }
            let body = s.copy(body);
            let id = s.put(kind, Wire { topic, body, headers, id: None }, Instant::now() + timeout, done);
            s.queue(id);
            Ok(())
        })
    }

    /// A call of our own.
    pub(crate) async fn request(
        &self,
        topic: impl Into<Subject>,
        body: &[u8],
        timeout: Duration,
    ) -> Result<Delivery> {
        let (done, rx) = Completion::task();
        self.ask_as(Kind::Request { own: true }, topic.into(), None, body, timeout, done)?;
        match rx.await {
            Ok(Body::Reply(result)) => result.map(|delivery| *delivery),
            _ => Err(Error::closed("bus")),
        }
    }

    /// Ends when the server has processed everything written before it.
    pub(crate) fn echo(&self, timeout: Duration, done: Completion) {
        self.change(|s| {
            if let Some(e) = s.cannot_ask() {
                return done.complete(Body::Done(Err(e)));
            }
            let wire = Wire { topic: Subject::from_static(""), body: Bytes::new(), headers: None, id: None };
            let id = s.put(Kind::Echo, wire, Instant::now() + timeout, done);
            s.queue(id);
        });
    }

    async fn read(self: Arc<Self>, mut answers: async_nats::Subscriber) {
        let prefix = self.inbox.len() + 1;
        let mut batch = Vec::with_capacity(BATCH);
        while let Some(first) = answers.next().await {
            batch.push(first);
            while batch.len() < BATCH
                && let Some(Some(m)) = answers.next().now_or_never()
            {
                batch.push(m);
            }
            let (mut post, now) = (Post::default(), Instant::now());
            self.change(|state| {
                for m in batch.drain(..) {
                    if let Some(id) = m.subject.get(prefix..).and_then(|token| state.names.slot(token)) {
                        state.answered(id, m, now, &mut post);
                    }
                }
            });
            self.enough.notify_waiters();
        }
    }

    /// Deadlines, and what a reconnect means for what was under way.
    async fn watch(self: Arc<Self>) {
        let mut epoch = self.link.watch();
        let mut seen = self.link.epoch();
        loop {
            let due = self.state.lock().next_due;
            let sleep = async {
                match due {
                    // A little slack, so that deadlines close to one another share a look.
                    Some(at) => tokio::time::sleep_until((at + Duration::from_millis(2)).into()).await,
                    None => std::future::pending().await,
                }
            };
            tokio::select! {
                () = sleep => {
                    let mut post = Post::default();
                    self.change(|s| s.sweep(Instant::now(), &mut post));
                }
                () = self.timer.notified() => {}
                changed = epoch.changed() => {
                    if changed.is_err() {
                        return;
                    }
                    let now = self.link.epoch();
                    if now > seen {
                        seen = now;
                        let mut post = Post::default();
                        self.change(|s| s.reconnected(now, &mut post));
                    }
                }
            }
        }
    }
}

impl Drop for Pipeline {
    fn drop(&mut self) {
        // Nobody is left to send it; whoever still waits is told.
        self.state.get_mut().close(&mut Post::default());
    }
}

fn earlier(a: Option<Instant>, b: Option<Instant>) -> bool {
    match (a, b) {
        (Some(a), Some(b)) => a < b,
        (Some(_), None) => true,
        (None, _) => false,
    }
}
