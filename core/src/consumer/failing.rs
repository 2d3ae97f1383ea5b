//! What keeps a consumer from going on although nobody closed it: rights denied, reconnecting given up.

use super::{Inner, buffer::Ended};
use crate::{connection::Denied, error::Error, health::ConsumerHealth, jetstream::api};
use std::sync::atomic::Ordering;

impl Inner {
    pub(crate) fn topic(&self) -> &str {
        &self.topic
    }

    /// Whether the server's denial of a topic keeps it from going on.
    pub(crate) fn concerns(&self, what: &Denied) -> bool {
        let (topic, group) = (what.topic.as_str(), self.config.group.as_str());
        let durable = self.config.durable_name();
        let Some(stream) = &self.stream else {
            return !what.publish && *topic == *self.topic && what.group.as_ref().is_none_or(|g| *g == group);
        };
        if !what.publish {
            return self
                .inbox
                .lock()
                .as_ref()
                .is_some_and(|inbox| topic.strip_prefix(&**inbox) == Some(".*"));
        }
        // Acks, the server's older and newer way: with and without the stream's home before its name.
        let ours = |rest: &str| rest.contains(&format!(".{stream}.{durable}."));
        let pull = api::subject(&self.shared.config, &format!("CONSUMER.MSG.NEXT.{stream}.{durable}"));
        topic == pull || topic.strip_prefix("$JS.ACK").is_some_and(ours)
    }

    /// Ends it with an error, whoever waits for it told.
    pub(crate) fn fail(&self, e: Error) {
        let e = e.group(&self.config.group);
        let e = if let Some(stream) = &self.stream { e.stream(&**stream) } else { e };
        self.failure.lock().get_or_insert(e);
        self.stop.send_replace(true);
    }

    /// How it is; none once its owner has closed it.
    pub(crate) fn health(&self) -> Option<ConsumerHealth> {
        if self.left.load(Ordering::Acquire) {
            return None;
        }
        let ended = self.buffer.lock().ended.clone();
        let e = self.failure.lock().clone().or(match ended {
            Some(Ended::Failed(e)) => Some(e),
            Some(Ended::Closed) => return None,
            None => None,
        });
        Some(ConsumerHealth {
            topic: self.topic.to_string(),
            group: self.config.group.clone(),
            stream: self.stream.as_deref().map(str::to_owned),
            error: e.as_ref().map(ToString::to_string),
            code: e.map(|e| e.code()),
        })
    }

    /// How it ends when it has been told to stop.
    pub(super) fn ending(&self) -> Ended {
        self.failure.lock().clone().map_or(Ended::Closed, Ended::Failed)
    }
}
