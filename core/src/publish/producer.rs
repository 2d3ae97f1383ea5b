//! The producer: one topic, one window of unsettled sends.
//!
//! Owns the checks before a send. The pipeline owns the window, retries and outcomes.

use crate::{
    bus::shared::Shared,
    config::ProducerConfig,
    connection::State,
    error::{Error, ErrorKind, Result},
    host::mailbox::{Body, Completion, Listener, Mailbox, Post},
    message::{Headers, PubAck, SendOptions, checked_headers, headers_len},
    publish::pipeline::{LONGEST_ID, Pipeline, ProducerId, Submission, Submitted},
};
use std::{
    collections::HashSet,
    sync::Arc,
    time::{Duration, Instant},
};

use super::target::{Declares, Target};

/// Sends to one topic.
#[derive(Clone, Debug)]
pub struct Producer {
    pub(super) shared: Arc<Shared>,
    pub(super) id: ProducerId,
    /// Shared by all clones. Dropping the last clone drops the window.
    _window: Arc<Window>,
    pub(super) topic: Arc<str>,
    target: Arc<Target>,
    pub(super) jetstream: bool,
    delivery_timeout: Duration,
    dedupe: bool,
}

#[derive(Debug)]
struct Window {
    pipeline: Arc<Pipeline>,
    id: ProducerId,
}

impl Drop for Window {
    fn drop(&mut self) {
        self.pipeline.change(|s| s.drop_producer(self.id));
    }
}

impl Producer {
    pub(crate) fn open(shared: &Arc<Shared>, topic: &str, config: ProducerConfig) -> Result<Self> {
        crate::topic::check_publish(topic)?;
        let declares =
            if config.declare.unwrap_or(shared.config.declare) { Declares::Topic } else { Declares::Nothing };
        Self::open_for(shared, topic, config, declares)
    }

    /// For a topic that the core made itself.
    pub(crate) fn open_for(
        shared: &Arc<Shared>,
        topic: &str,
        config: ProducerConfig,
        declares: Declares,
    ) -> Result<Self> {
        config.check()?;
        let jetstream = shared.config.jetstream;
        let target = Arc::new(Target::new(topic, &config, declares));
        let (delivery_timeout, dedupe) = (config.delivery_timeout, config.dedupe);
        let id = shared.pipeline.state().add_producer(topic.into(), config, jetstream);
        if jetstream {
            shared.pipeline.state().set_lookup(id, target.lookup(shared, id));
        }
        let window = Arc::new(Window { pipeline: shared.pipeline.clone(), id });
        Ok(Self {
            shared: shared.clone(),
            id,
            _window: window,
            topic: topic.into(),
            target,
            jetstream,
            delivery_timeout,
            dedupe,
        })
    }

    /// The topic.
    pub fn topic(&self) -> &str {
        &self.topic
    }

    /// Whether messages are stored and acked, which needs JetStream.
    pub fn is_durable(&self) -> bool {
        self.jetstream
    }

    /// Sends one message and waits for its outcome: the server's ack, or `None` in core mode.
    ///
    /// Dropping the future stops the wait, not the message. [`flush`](Self::flush) still waits for it.
    ///
    /// # Errors
    /// `PublishRejected` and its kinds: not stored, and never will be. `PublishUnknown`: the deadline passed without an ack.
    pub async fn send(&self, body: &[u8], options: SendOptions) -> Result<Option<PubAck>> {
        let (done, rx) = Completion::task();
        if let Submitted::Done = self.submit(body, options, done)? {
            return Ok(None);
        }
        match rx.await {
            Ok(Body::Sent(result)) => result,
            _ => Err(Error::closed("bus")),
        }
    }

    /// Sends one message of the core's own to another topic of the producer's stream.
    pub(crate) async fn send_to(&self, topic: &str, body: &[u8], headers: Headers) -> Result<PubAck> {
        self.check_size(body.len(), Some(&headers), true).map_err(|e| e.topic(topic))?;
        let (done, rx) = Completion::task();
        let submission = Submission {
            topic: Some(topic.into()),
            body,
            headers: Some(headers),
            key: None,
            has_id: true,
            done,
        };
        if let Submitted::Pending { prepare: true } = self.shared.pipeline.submit(self.id, submission)? {
            self.prepare();
        }
        match rx.await {
            Ok(Body::Sent(Ok(Some(ack)))) => Ok(ack),
            Ok(Body::Sent(Err(e))) => Err(e),
            _ => Err(Error::closed("bus")),
        }
    }

    /// Queues one message without waiting. The next [`flush`](Self::flush) reports a failure.
    ///
    /// # Errors
    /// `Backpressure` when `max_in_flight` sends are unsettled.
    pub fn send_nowait(&self, body: &[u8], options: SendOptions) -> Result<()> {
        self.submit(body, options, Completion::Nobody).map(|_| ())
    }

    /// Sends many messages. Returns one result per message, in order.
    pub async fn send_many<B: AsRef<[u8]>>(
        &self,
        bodies: &[B],
        options: &SendOptions,
    ) -> Result<Vec<Result<Option<PubAck>>>> {
        let (done, rx) = Completion::task();
        self.start_send_many(bodies.iter().map(AsRef::as_ref), options, done)?;
        match rx.await {
            Ok(Body::Many(results)) => Ok(results),
            _ => Err(Error::closed("bus")),
        }
    }

    /// Waits until every send before it is settled.
    ///
    /// # Errors
    /// The failures since the last flush that no caller received.
    pub async fn flush(&self) -> Result<()> {
        let (done, rx) = Completion::task();
        self.start_flush(done);
        match rx.await {
            Ok(Body::Done(result)) => result,
            _ => Err(Error::closed("bus")),
        }
    }

    /// Reports failures that no caller waits for to this listener, instead of to the next flush. Those are the failures of
    /// `send_nowait`, and of sends whose future was dropped.
    pub fn on_error(&self, listener: Listener) {
        self.shared.pipeline.state().listen(self.id, listener);
    }

    /// Hosts: starts a send. True when `done` will report the outcome, false when the send is already done (core mode).
    pub fn start_send(&self, body: &[u8], options: SendOptions, done: Completion) -> Result<bool> {
        Ok(matches!(self.submit(body, options, done)?, Submitted::Pending { .. }))
    }

    /// Hosts: the fast path for a core message without key, id or headers, while connected and with room in the window.
    /// False when the caller must use another call, which also reports errors.
    pub fn try_send_plain(&self, body: &[u8]) -> bool {
        !self.jetstream && self.shared.pipeline.submit_core_bodies(self.id, &[body], self.limit()) == 1
    }

    /// Hosts: sends at once if that needs no completion: in core mode, while connected and with room. False otherwise.
    pub fn try_send_core(&self, body: &[u8], options: &SendOptions) -> Result<bool> {
        if self.jetstream || !self.shared.link.is_connected() {
            return Ok(false);
        }
        match self.submit(body, options.clone(), Completion::Nobody) {
            Ok(Submitted::Done) => Ok(true),
            // The connection was just lost: the message is queued.
            Ok(Submitted::Pending { .. }) => Ok(true),
            // The window is full: the caller waits for a place.
            Err(e) if e.kind() == ErrorKind::Backpressure => Ok(false),
            Err(e) => Err(e),
        }
    }

    /// Hosts: starts a flush.
    pub fn start_flush(&self, done: Completion) {
        if self.jetstream {
            let mut post = Post::default();
            return self.shared.pipeline.change(|s| s.flush(self.id, done, &mut post));
        }
        // Core mode has no acks, so the flush makes a round trip behind everything sent before it. The task holds the
        // producer, because its last handle may be dropped before the flush starts.
        let this = self.clone();
        crate::runtime::spawn(async move {
            let (shared, id, timeout) = (&this.shared, this.id, this.delivery_timeout);
            let (settled, rx) = Completion::task();
            shared.pipeline.change(|s| s.flush(id, settled, &mut Post::default()));
            let result = match rx.await {
                Ok(Body::Done(Ok(()))) => match shared.round_trip(timeout).await {
                    Ok(()) => shared.pipeline.denied_until_now(id).await,
                    failed => failed,
                },
                Ok(Body::Done(failed)) => failed,
                _ => Err(Error::closed("bus")),
            };
            done.complete(Body::Done(result));
        });
    }

    /// Hosts: the caller has cancelled these sends, so the next flush reports their failures.
    /// Returns the sends that are still under way. The results of the others are on their way to the host.
    pub fn abandon(&self, mailbox: &Arc<Mailbox>, tokens: &HashSet<u64>) -> Vec<u64> {
        if tokens.is_empty() {
            return Vec::new();
        }
        self.shared.pipeline.state().abandon(self.id, mailbox, tokens)
    }

    /// Whether both are handles of the same producer.
    pub fn is(&self, other: &Self) -> bool {
        self.id == other.id && Arc::ptr_eq(&self.shared, &other.shared)
    }

    /// Hosts: keeps a failure whose caller was gone. The next flush reports it.
    pub fn unreported(&self, e: Error) {
        let mut post = Post::default();
        self.shared.pipeline.state().unreported(self.id, e, &mut post);
    }

    /// Refuses further sends. Messages under way keep their outcome.
    pub fn close(&self) {
        self.shared.pipeline.state().close_producer(self.id);
    }

    pub(super) fn limit(&self) -> usize {
        match self.shared.client.max_payload() {
            0 => usize::MAX,
            limit => limit,
        }
    }

    pub(super) fn headers(&self, options: &SendOptions) -> Result<Option<Headers>> {
        if let (false, Some(name)) = (self.jetstream, options.needs_jetstream()) {
            let text = format!(
                "{name} needs JetStream: connect with jetstream on (NATS_USE_JETSTREAM), or leave it out"
            );
            return Err(Error::config(text).topic(&*self.topic));
        }
        checked_headers(options).map_err(|e| e.topic(&*self.topic))
    }

    pub(super) fn check_size(&self, body: usize, headers: Option<&Headers>, has_id: bool) -> Result<()> {
        let generated = (self.jetstream && self.dedupe && !has_id).then_some(LONGEST_ID);
        let (size, limit) = (body + headers_len(headers, generated), self.limit());
        if size > limit {
            let text = format!(
                "the message has {size} bytes with its headers; the server's limit (max_payload) is {limit}"
            );
            return Err(Error::new(ErrorKind::TooLarge, text).topic(&*self.topic));
        }
        Ok(())
    }

    fn submit(&self, body: &[u8], options: SendOptions, done: Completion) -> Result<Submitted> {
        let headers = self.headers(&options)?;
        self.check_size(body.len(), headers.as_ref(), options.id.is_some())?;
        let submission = Submission {
            topic: None,
            body,
            headers,
            key: options.key.map(Into::into),
            has_id: options.id.is_some(),
            done,
        };
        let submitted = self.shared.pipeline.submit(self.id, submission)?;
        if let Submitted::Pending { prepare: true } = submitted {
            self.prepare();
        }
        Ok(submitted)
    }

    /// Looks the stream up, or declares it, while the first messages wait.
    pub(super) fn prepare(&self) {
        let this = self.clone();
        crate::runtime::spawn(async move {
            let until = Instant::now() + this.delivery_timeout;
            let result = loop {
                match this.target.find(&this.shared).await {
                    // An outage says nothing about the stream. The messages wait until their own deadline.
                    Err(e) if matches!(e.kind(), ErrorKind::Timeout | ErrorKind::Connection) => {
                        if Instant::now() >= until || this.shared.link.state() == State::Closed {
                            let text = "the stream could not be looked up in time: the message is not stored";
                            break Err(Error::new(ErrorKind::NotSent, text)
                                .topic(&*this.topic)
                                .server(e.to_string()));
                        }
                        tokio::time::sleep(Duration::from_millis(100)).await;
                    }
                    other => break other,
                }
            };
            let mut post = Post::default();
            this.shared.pipeline.change(|s| s.prepared(this.id, result, &mut post));
        });
    }
}
