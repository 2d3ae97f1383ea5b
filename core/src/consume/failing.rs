//! What ends a consumer that its owner did not close: rights denied, reconnecting given up.

use super::{Inner, buffer::Ended};
use crate::{
    bus::shared::Shared,
    connection::Denied,
    error::{Error, ErrorKind},
    jetstream::api,
    observe::ConsumerHealth,
    observe::{Level, NoticeKind},
};
use std::sync::atomic::Ordering;

impl Inner {
    /// Whether the server's denial of a topic keeps it from going on.
    pub(super) fn concerns(&self, what: &Denied) -> bool {
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

    /// Ends it with an error, which every waiter gets.
    pub(super) fn fail(&self, e: Error) {
        let e = e.group(&self.config.group);
        let e = if let Some(stream) = &self.stream { e.stream(&**stream) } else { e };
        self.failure.lock().get_or_insert(e);
        if !self.left.load(Ordering::Acquire) {
            self.remember_failure();
        }
        self.stop.send_replace(true);
    }

    /// Its durable, or the stream, is not there any longer, as the server says.
    pub(super) fn gone(&self, stream: &str, e: &Error) -> Error {
        let text = "the consumer cannot go on: its durable or stream was deleted";
        let gone = Error::new(ErrorKind::NotFound, text);
        let gone = gone.topic(&*self.topic).stream(stream).group(&self.config.group);
        match e.server_text() {
            Some(text) => gone.server(text),
            None => gone,
        }
    }

    /// Keeps it among the problems of the bus, whatever becomes of it, and tells operators.
    pub(super) fn remember_failure(&self) {
        if self.remembered.swap(true, Ordering::AcqRel) {
            return;
        }
        if let Some(health) = self.health()
            && let Some(e) = health.error.clone()
        {
            self.shared.failed_consumers.lock().push(health);
            self.notice(Level::Error, NoticeKind::ConsumerFailed, e);
        }
    }

    /// Another one of its topic and group is open, or its owner knows: it is no problem any longer.
    pub(super) fn forget_failures(shared: &Shared, topic: &str, group: &str) {
        shared.failed_consumers.lock().retain(|c| c.topic != topic || c.group != group);
    }

    /// How it is; none once its owner has closed it.
    pub(super) fn health(&self) -> Option<ConsumerHealth> {
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
            code: e.map(|e| e.code().to_owned()),
        })
    }

    /// How it ends once it was asked to stop.
    pub(super) fn ending(&self) -> Ended {
        self.failure.lock().clone().map_or(Ended::Closed, Ended::Failed)
    }
}
