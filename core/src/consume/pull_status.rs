//! What the pull loop does about a status.

use super::{
    buffer::Ended,
    pull::{CHECKING, Flow, Loop, Source},
};
use crate::{
    error::{Error, ErrorKind},
    jetstream::status::{Action, action},
};
use async_nats::Message;

impl Loop {
    pub(super) async fn status(&mut self, m: &Message) -> Flow {
        let status = m.status.map_or(0, |s| s.as_u16());
        let text = m.description.as_deref().unwrap_or_default();
        let current = m.subject.rsplit('.').next().and_then(|g| g.parse().ok()) == Some(self.generation);
        if !current {
            return Flow::Go;
        }
        let number = |name: &str| m.headers.as_ref().and_then(|h| h.get(name)?.as_str().parse().ok());
        let (pending, bytes) = (number("Nats-Pending-Messages"), number("Nats-Pending-Bytes"));
        match action(status, text, pending) {
            Action::Alive => {}
            Action::Release(Some(n)) => {
                self.released(Some(n), bytes);
                if status == 408 && matches!(self.source, Source::Topic) {
                    self.inner.buffer.lock().rest();
                }
            }
            Action::Oversize(n) => {
                self.released(Some(n), bytes);
                self.inner.buffer.lock().oversize();
            }
            Action::Release(None) | Action::Again => self.again_later(),
            Action::Check => return self.check(text).await,
            Action::Fail => {
                let e = Error::new(ErrorKind::Config, "the server refuses our pulls from this durable");
                let e = e
                    .topic(&*self.inner.topic)
                    .stream(&*self.stream)
                    .group(&self.inner.config.group)
                    .server(text);
                return Flow::Stop(Ended::Failed(e));
            }
        }
        Flow::Go
    }

    /// Whether the durable is still there; if it is, the trouble was passing.
    pub(super) async fn check(&mut self, text: &str) -> Flow {
        tracing::debug!(status = text, "checking the durable");
        let call = format!("CONSUMER.INFO.{}.{}", self.stream, self.name);
        let asked = self.inner.shared.api::<serde_json::Value>(&call, &serde_json::Value::Null);
        match tokio::time::timeout(CHECKING, asked).await {
            Ok(Err(e)) if e.kind() == ErrorKind::NotFound => {
                Flow::Stop(Ended::Failed(self.inner.gone(&self.stream, &e)))
            }
            // Also without an answer, as before an election: pulling finds the new leader, waiting here does not.
            Ok(_) | Err(_) => {
                self.again_later();
                Flow::Go
            }
        }
    }
}
