//! The consumer: messages of a topic, shared among the workers of a group.
//!
//! Owns the handle: taking, waiting, settling, closing. What is asked of the server and when is the pull loop's.

mod buffer;
mod core_mode;
mod examine;
mod failing;
mod group;
mod handling;
mod history;
mod inner;
mod keeping;
mod lanes;
mod leaving;
mod letters;
mod part;
mod prefetch;
mod pull;
mod pull_status;
mod recording;
mod records;
mod redeliveries;
mod replays;
mod runner;
mod servers_own;
mod settle;
mod settling;
mod taking;
mod unsettled;

use crate::{
    bus::shared::Shared,
    config::{ConsumerConfig, Order},
    error::{Error, Result},
    message::Delivery,
};
use buffer::Buffer;
use inner::Handle;
use prefetch::Prefetch;
use std::sync::{Arc, atomic::Ordering};

pub use handling::Handled;
pub(crate) use inner::Inner;
pub use settle::Settle;

/// Receives the messages of a topic for a group. With its last handle it leaves by itself, as by [`close`](Self::close).
#[derive(Clone)]
pub struct Consumer {
    inner: Arc<Handle>,
}

impl std::fmt::Debug for Consumer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let i = &self.inner;
        f.debug_struct("Consumer")
            .field("topic", &i.topic)
            .field("group", &i.config.group)
            .field("stream", &i.stream)
            .finish()
    }
}

impl Consumer {
    /// `JetStream`: binds or makes the durable and starts pulling.
    pub(crate) async fn open(shared: &Arc<Shared>, topic: &str, config: ConsumerConfig) -> Result<Self> {
        crate::topic::check_subscribe(topic)?;
        config.check()?;
        if !shared.config.jetstream {
            return Self::open_without_jetstream(shared, topic, config).await;
        }
        let stream = shared.stream_to_read(topic, &config).await?;
        let durable = shared.durable(&stream, topic, &config).await?;
        let allowed = durable.max_ack_pending.min(durable.max_batch);
        // A durable that delivers less often than we would: its last delivery is our last, too.
        let failures = durable.max_deliver.map_or(config.attempts(), |n| n.min(config.attempts()));
        let config = ConsumerConfig { max_deliver: Some(failures), ..config };
        let this = Self::new(shared, topic, config, Some(stream.name.as_str().into()), allowed);
        this.inner.deletes_settled.store(stream.details.deletes_settled, Ordering::Relaxed);
        let _ = this.inner.backoff.set(durable.backoff.clone());
        if let Some(n) = durable.max_deliver {
            let _ = this.inner.last_delivery.set(n);
        }
        pull::start(&this.inner, &stream.name, durable.clone()).await?;
        if this.inner.config.dead_letter {
            shared.spawn(replays::follow(Arc::downgrade(&this.inner), stream.name, durable));
        }
        Inner::forget_failures(shared, topic, &this.inner.config.group);
        Ok(this)
    }

    /// A bus in core mode: what only JetStream can keep is a mistake, and retries may be one.
    async fn open_without_jetstream(
        shared: &Arc<Shared>,
        topic: &str,
        config: ConsumerConfig,
    ) -> Result<Self> {
        let needs = config.needs_jetstream();
        if !needs.is_empty() {
            let text = format!(
                "{}: only JetStream has that: connect with jetstream on (NATS_USE_JETSTREAM), or leave it out",
                needs.join(", ")
            );
            return Err(Error::config(text).topic(topic).group(&config.group));
        }
        if config.backoff != ConsumerConfig::default().backoff && shared.client.server_info().jetstream {
            shared.warn("the bus is in core mode, where what a handler fails on is lost and not retried, and the server has JetStream: connect with jetstream on (NATS_USE_JETSTREAM) to have backoff and dead letters".into());
        }
        Self::open_core(shared, topic, config).await
    }

    /// Core: a queue group; also what responders use.
    pub(crate) async fn open_core(shared: &Arc<Shared>, topic: &str, config: ConsumerConfig) -> Result<Self> {
        crate::topic::check_subscribe(topic)?;
        config.check()?;
        let this = Self::new(shared, topic, config, None, usize::MAX);
        core_mode::start(&this.inner).await?;
        Inner::forget_failures(shared, topic, &this.inner.config.group);
        Ok(this)
    }

    fn new(
        shared: &Arc<Shared>,
        topic: &str,
        config: ConsumerConfig,
        stream: Option<Arc<str>>,
        allowed: usize,
    ) -> Self {
        let by_key = config.order == Some(Order::Key);
        let buffer = Buffer::new(Prefetch::new(config.prefetch, allowed), config.prefetch_bytes, by_key);
        Self { inner: Arc::new(Handle::new(Inner::new(shared, topic, config, stream, buffer))) }
    }

    /// The topic, with its wildcards.
    pub fn topic(&self) -> &str {
        &self.inner.topic
    }
    /// The group.
    pub fn group(&self) -> &str {
        &self.inner.config.group
    }
    /// How many handlers may run at once.
    pub fn concurrency(&self) -> usize {
        self.inner.config.concurrency
    }
    /// The stream; none in core mode.
    pub fn stream(&self) -> Option<&Arc<str>> {
        self.inner.stream.as_ref()
    }

    /// Answers a request.
    ///
    /// # Errors
    /// `TooLarge` when the answer is over the server's limit; then nothing was sent.
    pub fn reply(&self, to: &Delivery, answer: Result<&[u8], &str>) -> Result<()> {
        crate::request::reply(&self.inner.shared, to, answer)
    }

    /// Stops pulling and gives back what is buffered, so that another worker has it now. The durable stays.
    pub async fn close(&self) -> Result<()> {
        self.inner.close().await;
        Ok(())
    }

    /// Begins what [`close`](Self::close) waits for: from now on nothing more is handed out.
    pub fn stop(&self) {
        self.inner.stop();
    }
}
