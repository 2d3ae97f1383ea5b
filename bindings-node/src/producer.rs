//! The producer.

use crate::{
    convert::{self, Extras},
    errors::OrRaise,
    results::Results,
};
use napi::{Env, bindgen_prelude::*};
use napi_derive::napi;
use nats_eventbus::{SendOptions, host::Listener};
use std::sync::Arc;

/// Sends to one topic.
#[napi]
pub struct Producer {
    inner: nats_eventbus::Producer,
    results: Arc<Results>,
}

impl Producer {
    pub(crate) fn new(inner: nats_eventbus::Producer, results: Arc<Results>) -> Self {
        Self { inner, results }
    }
}

#[napi]
impl Producer {
    /// Sends in core mode, without options: true when that is done, false where `send` has to be asked. A function of its
    /// own, for a call of a method takes longer than all the rest of it; null with JetStream.
    #[napi(catch_unwind, ts_return_type = "((body: Uint8Array) => boolean) | null")]
    pub fn plain<'env>(&self, env: &'env Env) -> Result<Option<Function<'env, Uint8Array, bool>>> {
        if self.inner.is_durable() {
            return Ok(None);
        }
        let inner = self.inner.clone();
        let send = move |call: FunctionCallContext<'_>| {
            let body: Uint8ArraySlice<'_> = call.first_arg()?;
            Ok(inner.try_send_plain(&body))
        };
        env.create_function_from_closure("plain", send).map(Some)
    }

    /// As `send`, without options and as a function of its own.
    #[napi(catch_unwind, ts_return_type = "(body: Uint8Array, token: number) => boolean")]
    pub fn starter<'env>(&self, env: &'env Env) -> Result<Function<'env, (Uint8Array, f64), bool>> {
        let (inner, results) = (self.inner.clone(), self.results.clone());
        let send = move |call: FunctionCallContext<'_>| {
            let (body, token): (Uint8ArraySlice<'_>, f64) = (call.get(0)?, call.get(1)?);
            inner.start_send(&body, SendOptions::default(), results.completion(token)).or_raise()
        };
        env.create_function_from_closure("start", send)
    }

    /// Starts a send. True when its outcome comes under the token, false when it is done (core mode).
    #[napi(catch_unwind)]
    pub fn send(&self, token: f64, body: &[u8], extras: Option<Extras>) -> Result<bool> {
        if extras.is_none() && self.inner.try_send_plain(body) {
            return Ok(false);
        }
        let options = convert::send_options(extras)?;
        self.inner.start_send(body, options, self.results.completion(token)).or_raise()
    }

    /// From now on failures without a waiter come under the token, until a letter without one.
    #[napi(catch_unwind)]
    pub fn listen(&self, token: f64) {
        self.inner.on_error(self.results.listener(token));
    }

    /// Ends that.
    #[napi(catch_unwind)]
    pub fn unlisten(&self) {
        self.inner.on_error(Listener::new(|_| ()));
    }

    /// Enqueues a message; its failure goes to the listener, or shows at the next flush.
    #[napi(catch_unwind)]
    pub fn send_now(&self, body: &[u8], extras: Option<Extras>) -> Result<()> {
        if extras.is_none() && self.inner.try_send_plain(body) {
            return Ok(());
        }
        self.inner.send_nowait(body, convert::send_options(extras)?).or_raise()
    }

    /// Starts many sends: bodies one after the other, and where each ends.
    #[napi(catch_unwind)]
    pub fn send_many(&self, token: f64, bodies: &[u8], ends: &[u32], extras: Option<Extras>) -> Result<()> {
        let options = convert::send_options(extras)?;
        let mut start = 0;
        let each = ends.iter().map(|end| {
            let end = *end as usize;
            let body = bodies.get(start..end).unwrap_or_default();
            start = end;
            body
        });
        self.inner.start_send_many(each, &options, self.results.completion(token)).or_raise()
    }

    /// The caller stopped waiting for this send: a failure of it goes to the listener, or to the next flush. False when its
    /// result may be on its way already, and is counted when it arrives.
    #[napi(catch_unwind)]
    pub fn abandon(&self, token: f64) -> bool {
        self.results.abandon(token, &self.inner)
    }

    /// Starts a flush.
    #[napi(catch_unwind)]
    pub fn flush(&self, token: f64) {
        self.inner.start_flush(self.results.completion(token));
    }

    /// Refuses further sends.
    #[napi(catch_unwind)]
    pub fn close(&self) {
        self.inner.close();
    }
}
