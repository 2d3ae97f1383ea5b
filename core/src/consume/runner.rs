//! Handler mode: a handler for each message, up to `concurrency` at once, all on the caller's own task.
//!
//! The hosts have runners of their own, on their own event loops; what a handler's end means is [`Handled`]'s in all.

use super::{
    Consumer, Handled, Settle,
    inner::{Busy, stopped},
};
use crate::{error::Result, message::Delivery};
use futures_util::{FutureExt, StreamExt, stream::FuturesUnordered};
use std::{any::Any, panic::AssertUnwindSafe};

impl<E: std::fmt::Display> From<std::result::Result<(), E>> for Handled {
    fn from(result: std::result::Result<(), E>) -> Self {
        match result {
            Ok(()) => Self::Done,
            Err(e) => Self::Failed(e.to_string()),
        }
    }
}

/// A message in a handler's hands; dropped before its end, another worker has it at once.
struct Held<'a> {
    consumer: &'a Consumer,
    delivery: Option<Delivery>,
}

impl Held<'_> {
    fn finish(mut self, how: Handled) {
        if let Some(d) = self.delivery.take() {
            if let Handled::Failed(why) | Handled::Rejected(why) = &how {
                tracing::warn!(topic = %d.topic, why, "a handler failed");
            }
            self.consumer.finish(&d, how);
        }
    }
}

impl Drop for Held<'_> {
    fn drop(&mut self) {
        if let Some(d) = self.delivery.take() {
            self.consumer.settle(d.token, &Settle::Nak(None));
        }
    }
}

/// A run that has not ended: closing the bus waits for it.
struct Run<'a>(&'a Consumer, #[allow(dead_code)] Busy);

impl<'a> Run<'a> {
    fn begin(consumer: &'a Consumer) -> Self {
        consumer.handle();
        Self(consumer, Busy::of(&consumer.inner))
    }
}

impl Drop for Run<'_> {
    fn drop(&mut self) {
        self.0.handled();
    }
}

fn panic_text(panic: &(dyn Any + Send)) -> String {
    let text =
        panic.downcast_ref::<&str>().copied().or_else(|| panic.downcast_ref::<String>().map(String::as_str));
    format!("the handler panicked: {}", text.unwrap_or("no text"))
}

impl Consumer {
    /// Runs a handler for each message until the consumer or the bus is closed; `concurrency` at once, on this task.
    ///
    /// `Ok` is an ack. `Err` is a retry after `backoff`, and a dead letter after `max_deliver` attempts; so is a panic.
    /// A handler may as well return [`Handled`], to reject a message or to choose its delay. In core mode there is
    /// nothing to settle: a failure is counted and logged.
    ///
    /// Once closed, running handlers have `drain_timeout` to finish. Those that are left then, and all when the future
    /// is dropped, are dropped where they wait, and another worker has their messages at once. Closing the bus waits
    /// for the run, so a handler that closes the bus must not wait for that: spawn it.
    ///
    /// # Errors
    /// When the consumer cannot continue: its durable or stream is gone, a right is missing, reconnecting was given up.
    pub async fn run<F, Fut>(&self, handler: F) -> Result<()>
    where
        F: Fn(Delivery) -> Fut,
        Fut: Future,
        Fut::Output: Into<Handled>,
    {
        let inner = &self.inner;
        let _run = Run::begin(self);
        let mut stop = inner.stop.subscribe();
        let drained = async {
            stopped(&mut stop).await;
            tokio::time::sleep(inner.shared.config.drain_timeout).await;
        };
        let mut drained = std::pin::pin!(drained);
        let (mut running, mut ended) = (FuturesUnordered::new(), None);
        loop {
            if running.is_empty()
                && let Some(ended) = ended
            {
                return ended;
            }
            let more = ended.is_none() && running.len() < self.concurrency();
            tokio::select! {
                biased;
                () = &mut drained => return ended.unwrap_or(Ok(())),
                Some(()) = running.next() => {}
                next = self.next(), if more => match next {
                    Ok(Some(d)) => running.push(self.one(&handler, d)),
                    Ok(None) => ended = Some(Ok(())),
                    Err(e) => ended = Some(Err(e)),
                },
            }
        }
    }

    async fn one<F, Fut>(&self, handler: &F, d: Delivery)
    where
        F: Fn(Delivery) -> Fut,
        Fut: Future,
        Fut::Output: Into<Handled>,
    {
        let held = Held { consumer: self, delivery: Some(d.clone()) };
        let work = async { handler(d).await.into() };
        let how = AssertUnwindSafe(work).catch_unwind().await;
        held.finish(how.unwrap_or_else(|panic| Handled::Failed(panic_text(&*panic))));
    }
}
