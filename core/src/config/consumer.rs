//! Settings of a consumer.

use super::Backoff;
use crate::{
    error::{Error, Result},
    host::schema::{choices, settings},
};
use std::time::Duration;

choices! {
    /// Which messages of its stream a group that is new begins with.
    pub enum Deliver {
        /// Everything the stream still has.
        All = "all",
        /// What is stored from now on.
        New = "new",
        /// The last message, and what comes after it.
        Last = "last",
        /// The last message of each topic, and what comes after.
        LastPerSubject = "last_per_subject",
    }
}

choices! {
    /// What is kept in order.
    pub enum Order {
        /// Of each key one message at a time, in order, retries included, within this consumer. Two processes of a group
        /// can still hold one message of a key each. A delivery lost on its way, with a server that died, comes again
        /// after the ack wait, perhaps behind later ones of its key.
        Key = "key",
        /// The whole group, all its processes: one message at a time, by the durable's max ack pending of 1.
        Stream = "stream",
    }
}

settings! {
    /// Settings of a consumer.
    pub struct ConsumerConfig {
        /// The workers that share the messages: durable (`JetStream`) or queue group (core).
        group: String = String::new(),
        /// Messages asked for in advance, never above the durable's max ack pending. Default: what can begin soon
        /// (`concurrency` and one more), growing with the measured pace to some 30 ms of work, up to 1024.
        prefetch: Option<usize> = None,
        /// Bytes asked for in advance. One message of any size is always asked for. Default 4 MiB.
        prefetch_bytes: usize = 4 << 20,
        /// Whether a missing stream is declared. Default: the connection's setting.
        declare: Option<bool> = None,
        /// How long a message is kept from redelivery while a handler has it, from its start. While it is buffered here it
        /// always is. Default 10 min.
        max_processing: Duration = Duration::from_secs(600),
        /// Handlers: messages handled at once. Default 1.
        concurrency: usize = 1,
        /// What is kept in order. Default: nothing, beyond what `concurrency` 1 does until the first retry.
        order: Option<Order> = None,
        /// Handlers: how often handlers fail on a message, or die with it, before it becomes a dead letter. Deliveries that
        /// no handler began do not count. Default 3, or the durable's own limit of deliveries if that is lower.
        max_deliver: Option<u64> = None,
        /// Handlers: the wait before a failed message is delivered again. Default 1 s, doubling up to 60 s.
        backoff: Backoff = Backoff {
                    initial: Duration::from_secs(1),
                    max: Duration::from_secs(60),
                    ..Backoff::default()
                },
        /// Handlers: whether what cannot be handled is kept in `<STREAM>_DLQ`; else it is terminated. Default true.
        dead_letter: bool = true,
        /// Core mode: messages buffered before new ones are dropped and counted. Default 65536.
        pending_limit: usize = 65_536,
        /// The durable's ack wait: how long the server waits before it delivers an unsettled message again. Default: what
        /// the durable has, 30 s in a new one.
        ack_wait: Option<Duration> = None,
        /// The durable's max ack pending: unsettled messages of all workers together. Default: what the durable has, 65536
        /// in a new one.
        max_ack_pending: Option<u32> = None,
        /// Where a new durable begins. Default: with everything the stream still has.
        deliver: Option<Deliver> = None,
        /// Whether an existing durable with other settings than those given is updated, instead of being an error. Default
        /// false.
        update: bool = false,
        /// The stream to read, by name: a mirror, an aggregate, a transformed one. The topic is then as that stream stores it.
        /// Default: the stream that stores the topic.
        stream: Option<String> = None,
        /// An existing durable to bind to by name, with its own filters, whatever the topic. Default: the group's.
        durable: Option<String> = None,
    }
}

impl ConsumerConfig {
    /// Failures before a message becomes a dead letter.
    pub(crate) fn attempts(&self) -> u64 {
        self.max_deliver.unwrap_or(3)
    }

    /// The name of the durable.
    pub(crate) fn durable_name(&self) -> &str {
        self.durable.as_deref().unwrap_or(&self.group)
    }

    /// The settings given that only a durable or a stream can keep.
    pub(crate) fn needs_jetstream(&self) -> Vec<&'static str> {
        [
            ("max_deliver", self.max_deliver.is_some()),
            ("order=\"stream\"", self.order == Some(Order::Stream)),
            ("ack_wait", self.ack_wait.is_some()),
            ("max_ack_pending", self.max_ack_pending.is_some()),
            ("deliver", self.deliver.is_some()),
            ("update", self.update),
            ("stream", self.stream.is_some()),
            ("durable", self.durable.is_some()),
        ]
        .into_iter()
        .filter_map(|(name, given)| given.then_some(name))
        .collect()
    }

    /// Checks what does not need a server.
    pub fn check(&self) -> Result<()> {
        crate::topic::check_group(&self.group)?;
        if let Some(name) = &self.stream {
            crate::topic::check_name("stream", name)?;
        }
        if let Some(name) = &self.durable {
            crate::topic::check_name("durable", name)?;
        }
        if let Some(n) = self.prefetch.filter(|n| !(1..=100_000).contains(n)) {
            return Err(Error::config(format!("prefetch is {n}: give 1 to 100000")));
        }
        if self.prefetch_bytes == 0 {
            return Err(Error::config("prefetch_bytes is 0: give 1 or more"));
        }
        if self.concurrency == 0 {
            return Err(Error::config("concurrency is 0: give 1 or more"));
        }
        if self.max_deliver == Some(0) {
            return Err(Error::config("max_deliver is 0: give 1 or more"));
        }
        if self.max_ack_pending == Some(0) {
            return Err(Error::config("max_ack_pending is 0: give 1 or more"));
        }
        if self.order == Some(Order::Stream) && self.max_ack_pending.is_some_and(|n| n != 1) {
            return Err(Error::config("order \"stream\" needs a max_ack_pending of 1: leave it out"));
        }
        if self.ack_wait.is_some_and(|d| d < Duration::from_millis(100)) {
            return Err(Error::config("ack_wait is below 100 ms: no worker could be kept alive in it"));
        }
        self.backoff.check("backoff")?;
        if self.backoff.attempts.is_some() {
            return Err(Error::config("backoff.attempts is for reconnecting: give max_deliver instead"));
        }
        if self.pending_limit == 0 {
            return Err(Error::config("pending_limit is 0: give 1 or more"));
        }
        Ok(())
    }
}
