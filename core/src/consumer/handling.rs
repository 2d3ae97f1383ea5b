//! What becomes of a message after its handler: ack, retry with backoff, or dead letter.
//!
//! The decision ([`verdict`]) is pure. A dead letter is stored and confirmed first; only then is the original
//! terminated, so a crash in between stores it once and loses nothing.

use super::{Consumer, Settle};
use crate::{
    config::ConsumerConfig,
    message::Delivery,
    planted::{Bug, planted},
};
use std::time::Duration;

/// How a handler ended.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Handled {
    /// It returned.
    Done,
    /// It raised; the text says what.
    Failed(String),
    /// It raised `Reject`: no retry will help.
    Rejected(String),
    /// It raised `RetryAfter`.
    RetryAfter(Duration),
}

#[derive(Debug, PartialEq, Eq)]
enum Verdict {
    Ack,
    Retry(Duration),
    /// Not again, for this reason.
    End(String),
}

/// `attempt` counts from 1; `random` in 0..1 decides the jitter.
fn verdict(how: Handled, attempt: u64, config: &ConsumerConfig, random: f64) -> Verdict {
    let last = attempt >= config.attempts();
    let retry = |n: u64| config.backoff.delay(u32::try_from(n.saturating_sub(1)).unwrap_or(u32::MAX), random);
    match how {
        Handled::Done => Verdict::Ack,
        Handled::Rejected(reason) => Verdict::End(reason),
        Handled::Failed(reason) if last => Verdict::End(reason),
        Handled::Failed(_) => Verdict::Retry(retry(attempt)),
        Handled::RetryAfter(_) if last => {
            Verdict::End("asked for another retry after its last attempt".into())
        }
        Handled::RetryAfter(delay) => Verdict::Retry(delay),
    }
}

/// A text that can travel in a header.
fn header_text(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(1024).collect()
}

impl Consumer {
    /// Whether the handler may see this delivery. One whose attempt is above `max_deliver` (its last worker died)
    /// becomes a dead letter at once.
    pub fn admit(&self, d: &Delivery) -> bool {
        let over = self.inner.stream.is_some() && d.attempt() > self.inner.config.attempts();
        if over {
            let limit = self.inner.config.attempts();
            self.end(
                d,
                &format!("delivered {} times, and max_deliver is {limit}: its workers died", d.attempt()),
            );
        }
        if planted(Bug::AckFirst) {
            self.settle(d.token, &Settle::Ack);
        }
        !over
    }

    /// Hosts: counts how a handler ended, where there is nothing to settle (core mode). There, what asks for a retry has
    /// failed: none will come.
    pub fn count(&self, how: &Handled) {
        let no_retry = self.inner.stream.is_none() && matches!(how, Handled::RetryAfter(_));
        if no_retry || matches!(how, Handled::Failed(_) | Handled::Rejected(_)) {
            self.inner.shared.metrics.handler_errors.add(1);
        }
    }

    /// Settles a delivery by how its handler ended; in core mode a failure is only counted.
    pub fn finish(&self, d: &Delivery, how: Handled) {
        self.count(&how);
        if self.inner.stream.is_none() {
            return;
        }
        match verdict(how, d.attempt(), &self.inner.config, fastrand::f64()) {
            Verdict::Ack => drop(self.settle(d.token, &Settle::Ack)),
            Verdict::Retry(delay) => drop(self.settle(d.token, &Settle::Nak(Some(delay)))),
            Verdict::End(reason) => self.end(d, &reason),
        }
    }

    fn end(&self, d: &Delivery, reason: &str) {
        let reason = header_text(reason);
        if !self.inner.config.dead_letter {
            self.settle(d.token, &Settle::Term(Some(reason)));
            return;
        }
        let (this, d) = (self.clone(), d.clone());
        if planted(Bug::TermFirst) {
            self.settle(d.token, &Settle::Term(None));
        }
        self.inner.shared.spawn(async move {
            match this.inner.store_dead_letter(&d, &reason).await {
                Ok(()) => {
                    this.settle(d.token, &Settle::Term(Some(reason)));
                    // Once all of it is under way: whoever waits for the count finds the end there.
                    this.inner.shared.metrics.dead_letters.add(1);
                }
                Err(e) => {
                    // Not stored for certain: the message stays, and its next delivery tries again.
                    tracing::warn!(error = %e, topic = %d.topic, "a dead letter could not be stored");
                    this.settle(d.token, &Settle::Nak(Some(this.inner.config.backoff.max)));
                }
            }
        });
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts() {
        let config = ConsumerConfig { max_deliver: Some(3), ..ConsumerConfig::default() };
        let failed = || Handled::Failed("boom".into());
        let s = Duration::from_secs;
        for (how, attempt, want) in [
            (Handled::Done, 9, Verdict::Ack),
            (failed(), 1, Verdict::Retry(s(1))),
            (failed(), 2, Verdict::Retry(s(2))),
            (failed(), 3, Verdict::End("boom".into())),
            (Handled::RetryAfter(s(7)), 1, Verdict::Retry(s(7))),
            (Handled::Rejected("no".into()), 1, Verdict::End("no".into())),
        ] {
            assert_eq!(verdict(how.clone(), attempt, &config, 0.5), want, "{how:?} {attempt}");
        }
        assert!(matches!(verdict(Handled::RetryAfter(s(7)), 3, &config, 0.5), Verdict::End(_)));
    }

    #[test]
    fn reasons_fit_a_header() {
        assert_eq!(header_text("a\r\nb"), "a  b");
        assert_eq!(header_text(&"x".repeat(5000)).len(), 1024);
    }
}
