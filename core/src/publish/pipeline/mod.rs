//! The one way out and back: a queue that one task writes to the client, and the inbox that answers arrive in.
//!
//! Owns three tasks per bus, whatever the number of messages: the writer, the reader of answers, and the timer of
//! deadlines and reconnects. [`state`] holds the messages under way; [`answer`] and [`retry`] decide their outcome.
//!
//! From the bottom up: [`keys`], [`message_ids`], [`reply_subjects`], [`core_batch`] and [`outbound`]; [`slot`],
//! [`stream_lookup`] and [`outbox`]; [`producer_state`]; [`state`]; and on top of it [`producers`], [`retry`],
//! [`denials`] and [`writer`].

mod answer;
mod core_batch;
mod denials;
mod keys;
mod message_ids;
mod outbound;
mod outbox;
mod producer_state;
mod producers;
mod reply;
mod reply_subjects;
mod retry;
mod slot;
mod state;
mod stream_lookup;
mod submission;
mod writer;

pub(crate) use answer::ApiError;
#[cfg(feature = "fuzzing")]
pub(crate) use answer::classify;
pub(crate) use keys::ProducerId;
pub(crate) use message_ids::LONGEST_ID;
pub(crate) use reply::{ERROR_CODE, ERROR_TEXT};
pub(crate) use stream_lookup::{ProducerStream, StartLookup};
pub(crate) use submission::{Submission, Submitted};

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
use outbound::Outbound;
use outbox::{Queued, Urgency};
use parking_lot::{Mutex, MutexGuard};
use slot::{Asker, Kind};
use state::{FastPath, PipelineState};
use std::{
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::{sync::Notify, task::JoinSet};

/// Answers handled under one lock. It also bounds what one wake-up of the host carries.
const BATCH: usize = 1024;
/// The timer runs this much late, so that deadlines close to one another share a sweep.
const SLACK: Duration = Duration::from_millis(2);

pub(crate) struct Pipeline {
    state: Mutex<PipelineState>,
    link: Arc<Link>,
    inbox: String,
    /// Wakes the writer when it sleeps.
    work: Notify,
    /// Ends the writer's wait for more deferrable messages.
    stop_gathering: Notify,
    writer_sleeps: AtomicBool,
    /// Whether the writer waits for more deferrable messages.
    gathering: AtomicBool,
    /// Bytes handed to the client since its last flush.
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
            state: Mutex::new(PipelineState::new(&inbox, metrics)),
            link: c.link.clone(),
            inbox,
            work: Notify::new(),
            stop_gathering: Notify::new(),
            writer_sleeps: AtomicBool::new(false),
            gathering: AtomicBool::new(false),
            unwritten: AtomicUsize::new(0),
            timer: Notify::new(),
        });
        let observer: Weak<Self> = Arc::downgrade(&pipeline);
        c.link.observe(observer);
        let answers = c.client.subscribe(format!("{}.*", pipeline.inbox)).await.map_err(|e| {
            Error::new(ErrorKind::Connection, "the reply inbox could not be subscribed").server(e.to_string())
        })?;
        // Without tokio's cooperative budget, one drain takes everything that is there.
        tasks.spawn(tokio::task::unconstrained(pipeline.clone().read(answers)));
        tasks.spawn(tokio::task::unconstrained(pipeline.clone().write(c.client.clone())));
        tasks.spawn(pipeline.clone().watch());
        Ok(pipeline)
    }

    pub(crate) fn state(&self) -> MutexGuard<'_, PipelineState> {
        self.state.lock()
    }

    pub(crate) fn submit(&self, producer: ProducerId, s: Submission<'_>) -> Result<Submitted> {
        let (connected, now) = (self.link.is_connected(), Instant::now());
        self.change(|state| state.submit(producer, s, connected, now))
    }

    /// Submits many messages under one lock and with one wake-up.
    pub(crate) fn submit_many<'a>(
        &self,
        producer: ProducerId,
        all: impl Iterator<Item = Submission<'a>>,
        mut each: impl FnMut(Result<Submitted>),
    ) {
        let (connected, now) = (self.link.is_connected(), Instant::now());
        self.change(|state| all.for_each(|s| each(state.submit(producer, s, connected, now))));
    }

    /// Changes the state, and wakes the tasks that the change concerns.
    pub(crate) fn change<T>(&self, f: impl FnOnce(&mut PipelineState) -> T) -> T {
        let mut state = self.state.lock();
        let (was_empty, was_urgent) = (state.outbox.is_empty(), state.outbox.must_write_now());
        let due = state.next_due;
        let out = f(&mut state);
        let wake_writer = was_empty && !state.outbox.is_empty();
        let wake_timer = state.next_due != due && earlier(state.next_due, due);
        let stop_gathering = !was_urgent && state.outbox.must_write_now();
        drop(state);
        if stop_gathering && self.gathering.load(Ordering::SeqCst) {
            self.stop_gathering.notify_waiters();
        }
        if wake_writer && self.writer_sleeps.load(Ordering::SeqCst) {
            self.work.notify_one();
        }
        if wake_timer {
            self.timer.notify_one();
        }
        out
    }

    /// Takes core messages that are only bodies. Returns how many it took before one that must use `submit`.
    pub(crate) fn submit_core_bodies(&self, producer: ProducerId, bodies: &[&[u8]], limit: usize) -> usize {
        if !self.link.is_connected() {
            return 0;
        }
        let mut state = self.state.lock();
        let (was_empty, was_urgent) = (state.outbox.is_empty(), state.outbox.must_write_now());
        let unfit = bodies
            .iter()
            .position(|b| b.len() > limit || state.submit_core_body(producer, b) == FastPath::Unfit);
        drop(state);
        let taken = unfit.unwrap_or(bodies.len());
        if taken > 0 && was_empty && self.writer_sleeps.load(Ordering::SeqCst) {
            self.work.notify_one();
        }
        if taken > 0 && !was_urgent && self.gathering.load(Ordering::SeqCst) {
            self.stop_gathering.notify_waiters();
        }
        taken
    }

    /// Queues a message that needs no answer. False once the bus is closed.
    pub(crate) fn plain(
        &self,
        topic: Subject,
        reply: Option<Subject>,
        headers: Option<Headers>,
        body: Bytes,
    ) -> bool {
        let message = Outbound { topic, body, headers, id: None };
        self.change(|s| {
            if !s.closed {
                s.outbox.push(Queued::Unanswered { message, reply }, Urgency::Now);
            }
            !s.closed
        })
    }

    /// Queues many small messages that need no answer: acks.
    pub(crate) fn plain_many(&self, items: impl Iterator<Item = (Subject, Bytes)>) {
        self.change(|s| {
            for (topic, body) in items {
                let message = Outbound { topic, body, headers: None, id: None };
                s.outbox.push(Queued::Unanswered { message, reply: None }, Urgency::Now);
            }
        });
    }

    /// Starts a user's request. It ends with a reply, at once when there are no responders, or with a timeout.
    pub(crate) fn ask(
        &self,
        topic: Subject,
        headers: Option<Headers>,
        body: &[u8],
        timeout: Duration,
        done: Completion,
    ) -> Result<()> {
        self.ask_as(Asker::User, topic, headers, body, timeout, done)
    }

    fn ask_as(
        &self,
        asker: Asker,
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
            let message = Outbound { topic, body: s.copy(body), headers, id: None };
            let id = s.insert(Kind::Request(asker), message, Instant::now() + timeout, done);
            s.queue(id);
            Ok(())
        })
    }

    /// Makes a request of our own and waits for its reply.
    pub(crate) async fn request(
        &self,
        topic: impl Into<Subject>,
        body: &[u8],
        timeout: Duration,
    ) -> Result<Delivery> {
        let (done, rx) = Completion::task();
        self.ask_as(Asker::Core, topic.into(), None, body, timeout, done)?;
        match rx.await {
            Ok(Body::Reply(result)) => result.map(|delivery| *delivery),
            _ => Err(Error::closed("bus")),
        }
    }

    /// Ends when the server has processed everything written before it.
    pub(crate) fn echo(&self, timeout: Duration, done: Completion) {
        let mut post = Post::default();
        self.change(|s| {
            if let Some(e) = s.cannot_ask() {
                return post.add(done, Body::Done(Err(e)));
            }
            let topic = Subject::from_static("");
            let message = Outbound { topic, body: Bytes::new(), headers: None, id: None };
            let id = s.insert(Kind::Echo, message, Instant::now() + timeout, done);
            s.queue(id);
        });
    }

    /// The reader: handles the answers in our inbox.
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
                    if let Some(id) =
                        m.subject.get(prefix..).and_then(|token| state.reply_subjects.slot(token))
                    {
                        state.answered(id, m, now, &mut post);
                    }
                }
            });
            self.stop_gathering.notify_waiters();
        }
    }

    /// The timer: sweeps what is due, and repeats messages after a reconnect.
    async fn watch(self: Arc<Self>) {
        let mut epoch = self.link.watch();
        let mut seen = self.link.epoch();
        loop {
            let due = self.state.lock().next_due;
            let sleep = async {
                match due {
                    Some(at) => tokio::time::sleep_until((at + SLACK).into()).await,
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
        // No task is left to send anything: end the waits.
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
