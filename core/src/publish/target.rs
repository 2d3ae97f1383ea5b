//! The stream a producer sends to: found, or declared, with the first message, and again when it is lost.

use crate::{
    bus::shared::Shared,
    config::ProducerConfig,
    error::{Error, ErrorKind, Result},
    host::mailbox::Post,
    jetstream::stream::StreamInfo,
    publish::pipeline::{Found, Look, ProducerId},
};
use std::{
    sync::{Arc, Weak},
    time::Duration,
};

/// What is declared where no stream stores the topic.
#[derive(Debug)]
pub(crate) enum Declares {
    Nothing,
    /// The topic's stream.
    Topic,
    /// The stream of this stream's dead letters.
    Letters(Arc<str>),
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

    /// Looks the stream up again, beside the messages that wait for it.
    pub(super) fn look(self: &Arc<Self>, shared: &Arc<Shared>, id: ProducerId) -> Look {
        let (this, weak): (_, Weak<Shared>) = (self.clone(), Arc::downgrade(shared));
        Look::new(move || {
            let (this, weak) = (this.clone(), weak.clone());
            crate::runtime::spawn(async move {
                let Some(shared) = weak.upgrade() else { return };
                let result = this.find(&shared).await;
                let mut post = Post::default();
                shared.pipeline.change(|s| s.looked_again(id, result, &mut post));
            });
        })
    }

    /// The stream that takes the messages.
    pub(super) async fn find(&self, shared: &Shared) -> Result<Found> {
        let stream = match &self.declares {
            Declares::Letters(of) => shared.declare_dead_letters(of).await?,
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
        let ttl = ttl_of(&stream, &shared.client.server_info().version);
        Ok(Found { stream: stream.name.into(), no_ack: stream.details.no_ack, ttl })
    }
}

/// The least time to live a stream keeps. Servers before 2.11 ignore the header and the flag: only the flag in the
/// stream's description shows that both are there.
fn ttl_of(stream: &StreamInfo, version: &str) -> Result<Duration> {
    if stream.details.ttl {
        return Ok(stream.details.least_ttl);
    }
    let text = format!(
        "the stream takes no ttl: it needs allow_msg_ttl, and a server of version 2.11 or later (this one is {version}); leave ttl out"
    );
    Err(Error::new(ErrorKind::NotSupported, text).stream(&*stream.name))
}
