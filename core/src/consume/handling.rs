//! What becomes of a message after its handler: ack, retry with backoff, or dead letter.
//!
//! The decision ([`verdict`]) is pure. A dead letter is stored and confirmed first; only then is the original
//! terminated, so a crash in between stores it once and loses nothing.

use super::{Consumer, Inner, Settle, buffer::Settled, history::Record, inner::Busy, unsettled::Known};
use crate::{
    config::ConsumerConfig,
    message::Delivery,
    observe::{Level, NoticeKind},
    testing::planted::{Bug, planted},
};
use std::{
    sync::Arc,
    time::{Duration, Instant},
};

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
    /// Again after a delay; the text says what it failed with.
    Retry(Duration, String),
    /// Not again: the handler says that no retry helps.
    Reject(String),
    /// Not again: its attempts are over, for this reason.
    End(String),
}

/// `failures` counts this one, from 1; `last` says that the durable delivers no more; `random` in 0..1 decides the jitter.
fn verdict(how: Handled, failures: u64, last: bool, config: &ConsumerConfig, random: f64) -> Verdict {
    let over = failures >= config.attempts();
    let backoff =
        || config.backoff.delay(u32::try_from(failures.saturating_sub(1)).unwrap_or(u32::MAX), random);
    let (text, delay) = match how {
        Handled::Done => return Verdict::Ack,
        Handled::Rejected(reason) => return Verdict::Reject(reason),
        Handled::Failed(reason) => (reason, backoff()),
        Handled::RetryAfter(delay) => ("asked for another retry after its last attempt".to_owned(), delay),
    };
    match (over, last) {
        (true, _) => Verdict::End(text),
        (false, true) => {
            Verdict::End(format!("{text} (the durable's own max_deliver allows no further delivery)"))
        }
        (false, false) => Verdict::Retry(delay, text),
    }
}

/// A text that can travel in a header.
fn header_text(text: &str) -> String {
    text.chars().map(|c| if c.is_control() { ' ' } else { c }).take(1024).collect()
}

impl Consumer {
    /// Hosts: counts how a handler ended, where there is nothing to settle (core mode). There, what asks for a retry has
    /// failed: none will come.
    pub fn count(&self, how: &Handled) {
        let no_retry = self.inner.stream.is_none() && matches!(how, Handled::RetryAfter(_));
        if no_retry || matches!(how, Handled::Failed(_) | Handled::Rejected(_)) {
            self.inner.shared.metrics.handler_errors.add(1);
        }
    }

    /// Settles a delivery by how its handler ended; in core mode a failure is only counted. One that the handler settled
    /// by itself stays as the handler said.
    pub fn finish(&self, d: &Delivery, how: Handled) {
        self.count(&how);
        let i = &self.inner;
        if i.stream.is_none() {
            return;
        }
        let Some(before) = i.buffer.lock().record_of(d) else { return };
        match verdict(how, before.failures + 1, i.is_last(before.attempt), &i.config, fastrand::f64()) {
            Verdict::Ack => drop(self.settle(d.token, &Settle::Ack)),
            Verdict::Retry(delay, reason) => self.retry(d, &before, delay, &reason),
            Verdict::Reject(reason) => {
                self.end(&Delivery { failures: before.failures + 1, ..d.clone() }, &reason);
            }
            Verdict::End(reason) => self.end_failed(d, &before, &reason),
        }
    }

    /// Records the failure, then gives the message back for its retry: the next worker knows of it.
    fn retry(&self, d: &Delivery, before: &Record, delay: Duration, reason: &str) {
        let Some(meta) = &d.meta else { return };
        let known = (meta.sequence, meta.replay);
        let record = Record::failed(before, before.attempt, reason);
        self.inner.shared.metrics.retries.add(1);
        let text = format!("a handler failed, for the {}. time: {reason}", record.failures);
        self.inner.notice(Level::Info, NoticeKind::Retry, text);
        self.inner.give_back_failed(d.token, known, record, delay);
    }

    fn end_failed(&self, d: &Delivery, before: &Record, reason: &str) {
        let mut d = d.clone();
        d.failures = before.failures + 1;
        // Should this process die before the original is terminated, the next one knows that its attempts are over.
        let record = d.meta.as_ref().map(|m| {
            let record = Record::failed(before, before.attempt, reason);
            let failures = record.failures.max(self.inner.config.attempts());
            ((m.sequence, m.replay), Record { failures, ..record })
        });
        self.end_with(&d, reason, record);
    }

    /// Makes a dead letter of it.
    pub(super) fn end(&self, d: &Delivery, reason: &str) {
        self.end_with(d, reason, None);
    }

    fn end_with(&self, d: &Delivery, reason: &str, record: Option<(Known, Record)>) {
        let reason = header_text(reason);
        if !self.inner.config.dead_letter {
            self.settle(d.token, &Settle::Term(Some(reason)));
            return;
        }
        let (this, d, busy) = (self.clone(), d.clone(), Busy::of(&self.inner));
        if planted(Bug::TermFirst) {
            self.settle(d.token, &Settle::Term(None));
        }
        self.inner.shared.spawn(async move {
            if let Some((known, record)) = record
                && let Err(e) = busy.0.write_record(known, &record).await
            {
                tracing::debug!(error = %e, topic = %d.topic, "the last failure is not recorded");
            }
            match busy.0.store_dead_letter(&d, &reason).await {
                Ok(()) => {
                    let text = format!("sequence {} became a dead letter: {reason}", d.sequence());
                    busy.0.notice(Level::Warning, NoticeKind::DeadLetter, text);
                    this.settle(d.token, &Settle::Term(Some(reason)));
                    // Counted last: a caller that waits for the count finds the rest done.
                    busy.0.shared.metrics.dead_letters.add(1);
                }
                Err(e) => {
                    // Not stored for certain: the message stays, and its next delivery tries again.
                    let text = format!("a dead letter could not be stored, its message comes again: {e}");
                    busy.0.notice(Level::Error, NoticeKind::DeadLetter, text);
                    this.settle(d.token, &Settle::Nak(Some(busy.0.config.backoff.max)));
                }
            }
        });
    }
}

impl Inner {
    /// Handlers have had these for `max_processing`: that is a failure. Another worker may try, as after any other; what
    /// the handler says later comes too late.
    pub(super) fn fail_overdue(self: &Arc<Self>, overdue: Vec<(u64, Known, Record)>) {
        let reason =
            format!("the handler took longer than max_processing ({:?})", self.config.max_processing);
        for (token, known, before) in overdue {
            self.notice(Level::Warning, NoticeKind::Retry, format!("sequence {}: {reason}", known.0));
            if self.is_last(before.attempt) {
                // The server would not deliver it again: its end stays with its handler.
                continue;
            }
            self.shared.metrics.handler_errors.add(1);
            let record = Record::failed(&before, before.attempt, &reason);
            let failed = Handled::Failed(String::new());
            let delay = match verdict(failed, record.failures, false, &self.config, fastrand::f64()) {
                Verdict::Retry(delay, _) => delay,
                // Its next delivery becomes the dead letter: by then the record says that its attempts are over.
                _ => Duration::ZERO,
            };
            self.give_back_failed(token, known, record, delay);
        }
    }

    /// Whether the durable delivers no more after this delivery.
    fn is_last(&self, attempt: u64) -> bool {
        self.last_delivery.get().is_some_and(|n| attempt >= *n)
    }

    /// Records a failure, then gives the message back for its retry: the next worker knows of it.
    fn give_back_failed(self: &Arc<Self>, token: u64, known: Known, record: Record, delay: Duration) {
        let (begun, busy) = (Instant::now(), Busy::of(self));
        if record.failures < self.config.attempts() {
            self.buffer.lock().remember(known, record.clone());
        }
        self.shared.spawn(async move {
            let inner = &busy.0;
            if let Err(e) = inner.write_record(known, &record).await {
                let text = format!("a failure is not recorded, and counts in this process alone: {e}");
                inner.notice(Level::Warning, NoticeKind::Retry, text);
            }
            inner.settle_now(token, &Settle::Nak(Some(delay.saturating_sub(begun.elapsed()))));
        });
    }

    /// Gives a message back for a retry after a delay. False once the bus is closed.
    ///
    /// On a durable with a `backoff` of its own the server adds to the delay what that says of this attempt (2.10 to 2.15).
    pub(super) fn nak_after(self: &Arc<Self>, settled: Settled, delay: Duration) -> bool {
        let waits = self.backoff.get().map_or(&[][..], Vec::as_slice);
        let at = usize::try_from(settled.attempt.saturating_sub(1)).unwrap_or(usize::MAX);
        let added = match (waits.get(at).or(waits.last()), waits.first()) {
            (Some(this), Some(first)) => this.saturating_sub(*first),
            _ => Duration::ZERO,
        };
        if delay >= added {
            let how = Settle::Nak(Some(delay.saturating_sub(added)).filter(|d| !d.is_zero()));
            return self.shared.pipeline.plain(settled.ack, None, None, how.body());
        }
        // Sooner than the server would: it is given back at once when its time has come. Until then the durable's wait holds.
        let inner = self.clone();
        self.shared.spawn(async move {
            tokio::time::sleep(delay).await;
            inner.shared.pipeline.plain(settled.ack, None, None, Settle::Nak(None).body());
        });
        true
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
        let again = |n, why: &str| Verdict::Retry(s(n), why.into());
        let asked = "asked for another retry after its last attempt";
        for (how, failures, last, want) in [
            (Handled::Done, 9, true, Verdict::Ack),
            (failed(), 1, false, again(1, "boom")),
            (failed(), 2, false, again(2, "boom")),
            (failed(), 3, false, Verdict::End("boom".into())),
            (Handled::RetryAfter(s(7)), 1, false, again(7, asked)),
            (Handled::RetryAfter(s(7)), 3, false, Verdict::End(asked.into())),
            (Handled::Rejected("no".into()), 1, false, Verdict::Reject("no".into())),
        ] {
            assert_eq!(verdict(how.clone(), failures, last, &config, 0.5), want, "{how:?} {failures}");
        }
        let Verdict::End(why) = verdict(failed(), 1, true, &config, 0.5) else {
            panic!("it would be stranded")
        };
        assert!(why.contains("boom") && why.contains("max_deliver"), "{why}");
    }

    #[test]
    fn reasons_fit_a_header() {
        assert_eq!(header_text("a\r\nb"), "a  b");
        assert_eq!(header_text(&"x".repeat(5000)).len(), 1024);
    }
}
