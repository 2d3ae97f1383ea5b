//! A producer's stream: found or declared with the first message, and again after the stream is lost.

use crate::{
    bus::shared::Shared,
    config::ProducerConfig,
    error::{Error, ErrorKind, Result},
    host::mailbox::Post,
    jetstream::stream::StreamInfo,
    publish::pipeline::{ProducerId, ProducerStream, StartLookup},
};
use std::{
    sync::{Arc, Weak},
    time::Duration,
};

/// What to declare when no stream stores the topic.
#[derive(Debug)]
pub(crate) enum Declares {
    Nothing,
    /// The topic's stream.
    Topic,
    /// The dead-letter stream of this stream.
    Letters(Arc<str>),
    /// Nothing: the stream is this one, whatever the topics of the messages.
    Stream(Arc<str>),
}

#[derive(Debug)]
pub(super) struct Target {
    topic: Arc<str>,
    declares: Declares,
    delivery_timeout: Duration,
    dedupe: bool,
}

impl Target {
    pub(super) fn new(topic: &str, config: &ProducerConfig, declares: Declares) -> Self {
        let (delivery_timeout, dedupe) = (config.delivery_timeout, config.dedupe);
        Self { topic: topic.into(), declares, delivery_timeout, dedupe }
    }

    /// How the pipeline has the stream looked up again, while messages wait.
    pub(super) fn lookup(self: &Arc<Self>, shared: &Arc<Shared>, id: ProducerId) -> StartLookup {
        let (this, weak): (_, Weak<Shared>) = (self.clone(), Arc::downgrade(shared));
        StartLookup::new(move || {
            let (this, weak) = (this.clone(), weak.clone());
            crate::runtime::spawn(async move {
                let Some(shared) = weak.upgrade() else { return };
                let result = this.find(&shared).await;
                let mut post = Post::default();
                shared.pipeline.change(|s| s.looked_up_again(id, result, &mut post));
            });
        })
    }

    /// Finds or declares the stream.
    pub(super) async fn find(&self, shared: &Shared) -> Result<ProducerStream> {
        let stream = match &self.declares {
            Declares::Letters(of) => shared.declare_dead_letters(of).await?,
            Declares::Stream(name) => shared.stream(name).await?,
            Declares::Nothing => shared.stream_for(&self.topic, false).await?,
            Declares::Topic => shared.stream_for(&self.topic, true).await?,
        };
        let window = stream.duplicate_window;
        if self.dedupe && !window.is_zero() && self.delivery_timeout >= window {
            return Err(Error::config(format!(
                "delivery_timeout is {} s and the stream remembers ids for {} s: a later retry could store twice; give a shorter delivery_timeout, or dedupe=False",
                self.delivery_timeout.as_secs_f64(),
                window.as_secs_f64()
            ))
            .topic(&*self.topic)
            .stream(stream.name));
        }
        let ttl = shortest_ttl(&stream, &shared.client.server_info().version);
        Ok(ProducerStream { name: stream.name.into(), no_ack: stream.details.no_ack, ttl })
    }
}

/// The shortest time to live that a stream keeps. Servers before 2.11 ignore the header and the flag, so only the flag in
/// the stream's info shows that the server knows both.
fn shortest_ttl(stream: &StreamInfo, version: &str) -> Result<Duration> {
    if stream.details.ttl {
        return Ok(stream.details.least_ttl);
    }
    let text = format!(
        "the stream takes no ttl: it needs allow_msg_ttl, and a server of version 2.11 or later (this one is {version}); leave ttl out"
    );
    Err(Error::new(ErrorKind::NotSupported, text).stream(&*stream.name))
}
