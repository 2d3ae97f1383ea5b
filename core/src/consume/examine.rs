//! Finding out what handlers did to messages that come again, before a handler has them.
//!
//! One task a consumer, and only while there is something to find out. What follows from what it finds is
//! [`history::admit`](super::history::admit)'s.

use super::{
    Inner,
    buffer::Start,
    history::{Admission, Record, admit},
    unsettled::{Gate, Known},
};
use crate::{
    error::Result,
    host::mailbox::Post,
    testing::planted::{Bug, planted},
};
use futures_util::future::join_all;
use std::{
    sync::{Arc, atomic::Ordering},
    time::Duration,
};

/// Looked up at the same time.
const AT_ONCE: usize = 128;
/// The wait before another try when the records cannot be read.
const AGAIN: Duration = Duration::from_millis(100);

impl Inner {
    /// Starts looking, where there is something to find out and it is not looked for already.
    pub(super) fn examine(self: &Arc<Self>) {
        if self.buffer.lock().has_questions() && !self.examining.swap(true, Ordering::AcqRel) {
            self.shared.spawn(look(self.clone()));
        }
    }

    /// The state of a message before this delivery, and what may be done with it.
    async fn find_out(&self, known: Known, attempt: u64) -> Result<(Gate, Record)> {
        let mut before = self.read_record(known).await?.before(attempt);
        if planted(Bug::CountDeliveries) {
            before.failures = attempt - 1;
        }
        let limit = self.config.attempts();
        let mut admission = admit(attempt, limit, &before, None);
        if admission.is_none() {
            let returned = self.read_returned(known).await?;
            admission = admit(attempt, limit, &before, Some(returned));
        }
        let gate = match admission {
            Some(Admission::Run) => Gate::Open,
            Some(Admission::Alone) | None => Gate::Alone,
            Some(Admission::Over(reason)) => Gate::Over(reason),
        };
        Ok((gate, before))
    }

    async fn examine_all(&self, all: Vec<(u64, Known, u64)>) -> bool {
        let each =
            all.into_iter().map(async |(token, known, attempt)| (token, self.find_out(known, attempt).await));
        let mut ok = true;
        for (token, found) in join_all(each).await {
            match found {
                Ok((gate, record)) => {
                    let mut post = Post::default();
                    self.buffer.lock().examined(token, gate, record, &mut post);
                }
                Err(e) => {
                    tracing::debug!(error = %e, topic = %self.topic, "the records of attempts cannot be read now");
                    ok = false;
                }
            }
        }
        ok
    }

    /// Stores the start of a message that is to run alone, then lets it run. Where that fails for now it waits.
    async fn mark(&self, start: &Start) -> bool {
        let before = self.buffer.lock().record_at(start.token);
        let record = Record { attempt: start.attempt, started: true, ..before.clone() };
        let stored = self.write_record(start.known, &record).await;
        if let Err(e) = &stored {
            tracing::debug!(error = %e, topic = %self.topic, "the start of a message cannot be stored now");
        }
        let gate = if stored.is_ok() { Gate::Marked } else { Gate::Alone };
        let mut post = Post::default();
        let mut b = self.buffer.lock();
        if stored.is_err() {
            b.not_alone();
        }
        b.examined(start.token, gate, before, &mut post);
        stored.is_ok()
    }
}

async fn look(inner: Arc<Inner>) {
    loop {
        let (questions, start) = {
            let mut b = inner.buffer.lock();
            if b.has_questions() { (b.unexamined(AT_ONCE), b.next_alone()) } else { (Vec::new(), None) }
        };
        if questions.is_empty() && start.is_none() {
            inner.examining.store(false, Ordering::Release);
            // What came in between found the flag set.
            let missed = {
                let b = inner.buffer.lock();
                b.has_questions() && (!b.unexamined(1).is_empty() || b.may_run_alone())
            };
            if !missed || inner.examining.swap(true, Ordering::AcqRel) {
                return;
            }
            continue;
        }
        let mut ok = questions.is_empty() || inner.examine_all(questions).await;
        if let Some(start) = start {
            ok &= inner.mark(&start).await;
        }
        if !ok {
            let mut stop = inner.stop.subscribe();
            let stopped = super::inner::stopped(&mut stop);
            if tokio::time::timeout(AGAIN, stopped).await.is_ok() {
                return;
            }
        }
    }
}
