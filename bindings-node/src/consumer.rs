//! The consumer.

use crate::{
    convert::{self, Time},
    errors::OrRaise,
    pack::{self, Pack},
    results::Results,
};
use napi::{Env, bindgen_prelude::*};
use napi_derive::napi;
use nats_eventbus::{Delivery, Handled, Settle};
use parking_lot::Mutex;
use std::{collections::HashMap, sync::Arc};

/// Receives the messages of a topic for a group.
#[napi]
pub struct Consumer {
    inner: nats_eventbus::Consumer,
    results: Arc<Results>,
    /// Kept from take to take for its room.
    taken: Mutex<Vec<Delivery>>,
    /// In handler mode: what handlers have, by token.
    handled: Mutex<Option<HashMap<u64, Delivery>>>,
}

impl Consumer {
    pub(crate) fn new(inner: nats_eventbus::Consumer, results: Arc<Results>) -> Self {
        Self { inner, results, taken: Mutex::default(), handled: Mutex::default() }
    }

    /// Messages whose handler's end will not come.
    fn over(&self, tokens: impl Iterator<Item = u64>) {
        if let Some(handled) = &mut *self.handled.lock() {
            tokens.for_each(|token| drop(handled.remove(&token)));
        }
    }

    fn settle(&self, token: u64, how: &Settle) -> bool {
        self.over(std::iter::once(token));
        self.inner.settle(token, how)
    }
}

#[napi]
impl Consumer {
    /// The stream; none in core mode.
    #[napi(getter)]
    pub fn stream(&self) -> Option<String> {
        self.inner.stream().map(|s| s.as_ref().to_owned())
    }

    /// What is buffered, up to `max` messages; true when there is nothing now, false once the consumer was closed.
    #[napi(catch_unwind)]
    pub fn take_packed(&self, max: u32) -> Result<Either<Pack, bool>> {
        let mut taken = self.taken.lock();
        let open = self.inner.take_ahead(max as usize, &mut taken).or_raise()?;
        let mut handled = self.handled.lock();
        if taken.is_empty() {
            return Ok(Either::B(open));
        }
        let pack = pack::pack(&taken);
        match &mut *handled {
            Some(handled) => handled.extend(taken.drain(..).filter(|d| d.token != 0).map(|d| (d.token, d))),
            None => taken.clear(),
        }
        Ok(Either::A(pack))
    }

    /// From now on messages are settled by [`finish`](Self::finish), and count against the prefetch until then. Says how
    /// many handlers may run at once.
    #[napi(catch_unwind)]
    pub fn handle(&self) -> u32 {
        self.handled.lock().get_or_insert_default();
        self.inner.handle();
        u32::try_from(self.inner.concurrency()).unwrap_or(u32::MAX)
    }

    /// The end of [`handle`](Self::handle).
    #[napi(catch_unwind)]
    pub fn handled(&self) {
        self.inner.handled();
    }

    /// A caller waits for this many messages. They are asked for even beyond the prefetch.
    #[napi(catch_unwind)]
    pub fn want(&self, messages: u32) {
        self.inner.want(messages as usize);
    }

    /// Settles by how the handler failed: "failed" or "rejected" with a text, or "retry" after a delay.
    #[napi(catch_unwind)]
    pub fn finish(
        &self,
        low: u32,
        high: u32,
        #[napi(ts_arg_type = "'failed' | 'rejected' | 'retry'")] how: String,
        text: Option<String>,
        delay: Option<Time>,
    ) -> Result<()> {
        let how = match (how.as_str(), delay) {
            ("rejected", _) => Handled::Rejected(text.unwrap_or_default()),
            ("retry", Some(delay)) => Handled::RetryAfter(convert::time(&delay, "RetryAfter")?),
            _ => Handled::Failed(text.unwrap_or_default()),
        };
        let delivery = self.handled.lock().as_mut().and_then(|h| h.remove(&convert::whole(low, high)));
        match delivery {
            Some(d) => self.inner.finish(&d, how),
            // Core mode settles nothing, and counts all the same.
            None if self.inner.stream().is_none() => self.inner.count(&how),
            None => {}
        }
        Ok(())
    }

    /// Registers the token for something to take, or for the end. False when either is there already.
    #[napi(catch_unwind)]
    pub fn arm(&self, token: f64) -> bool {
        self.inner.arm(self.results.completion(token))
    }

    /// Acks many: the halves of their tokens.
    #[napi(catch_unwind)]
    pub fn ack_many(&self, halves: &[u32]) {
        self.over(tokens(halves));
        self.inner.ack_many(tokens(halves));
    }

    /// Gives many back, to be delivered again at once: the halves of their tokens.
    #[napi(catch_unwind)]
    pub fn give_back(&self, halves: &[u32]) {
        self.over(tokens(halves));
        self.inner.give_back(tokens(halves));
    }

    /// To be delivered again, after a delay or at once.
    #[napi(catch_unwind)]
    pub fn nak(&self, low: u32, high: u32, delay: Option<Time>) -> Result<bool> {
        let delay = delay.map(|d| convert::time(&d, "delay")).transpose()?;
        Ok(self.settle(convert::whole(low, high), &Settle::Nak(delay)))
    }

    /// Never to be delivered again.
    #[napi(catch_unwind)]
    pub fn term(&self, low: u32, high: u32, reason: Option<String>) -> bool {
        self.settle(convert::whole(low, high), &Settle::Term(reason))
    }

    /// Still being worked on.
    #[napi(catch_unwind)]
    pub fn in_progress(&self, low: u32, high: u32) -> bool {
        self.inner.settle(convert::whole(low, high), &Settle::InProgress)
    }

    /// Acks; the server's word comes under the token.
    #[napi(catch_unwind)]
    pub fn ack_confirmed(&self, token: f64, low: u32, high: u32, timeout: Time) -> Result<()> {
        let timeout = convert::time(&timeout, "timeout")?;
        self.over(std::iter::once(convert::whole(low, high)));
        self.inner.start_ack_confirmed(convert::whole(low, high), timeout, self.results.completion(token));
        Ok(())
    }

    /// Stops pulling and gives back what is buffered in the core.
    #[napi(catch_unwind, ts_return_type = "Promise<void>")]
    pub fn close<'env>(&self, env: &'env Env) -> Result<Object<'env>> {
        let consumer = self.inner.clone();
        convert::promise(env, async move { consumer.close().await })
    }
}

fn tokens(halves: &[u32]) -> impl Iterator<Item = u64> {
    halves.as_chunks::<2>().0.iter().map(|[low, high]| convert::whole(*low, *high))
}
