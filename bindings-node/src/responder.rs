//! The responder: requests out, replies back.

use crate::{
    convert,
    errors::OrRaise,
    pack::{self, Pack},
    results::Results,
};
use napi::{Env, bindgen_prelude::*};
use napi_derive::napi;
use nats_eventbus::Delivery;
use parking_lot::Mutex;
use std::{collections::HashMap, sync::Arc};

/// Receives the requests on a topic.
#[napi]
pub struct Responder {
    inner: nats_eventbus::Consumer,
    results: Arc<Results>,
    asked: Mutex<Asked>,
}

/// Requests being handled, by the number JavaScript answers them under.
#[derive(Default)]
struct Asked {
    last: u64,
    open: HashMap<u64, Delivery>,
}

impl Responder {
    pub(crate) fn new(inner: nats_eventbus::Consumer, results: Arc<Results>) -> Self {
        Self { inner, results, asked: Mutex::default() }
    }
    fn end(&self, low: u32, high: u32) -> Option<Delivery> {
        self.asked.lock().open.remove(&convert::whole(low, high))
    }
}

/// What an answer needs of a request: not its body.
fn kept(d: &Delivery) -> Delivery {
    let (body, headers, meta) = (<_>::default(), None, None);
    Delivery {
        token: d.token,
        topic: d.topic.clone(),
        body,
        headers,
        reply: d.reply.clone(),
        meta,
        failures: 0,
    }
}

#[napi]
impl Responder {
    /// Requests that are buffered, up to `max`; true when there is none now, false once the responder was closed.
    #[napi(catch_unwind)]
    pub fn take_packed(&self, max: u32) -> Result<Either<Pack, bool>> {
        let mut taken = Vec::new();
        let open = self.inner.take(max as usize, &mut taken).or_raise()?;
        if taken.is_empty() {
            return Ok(Either::B(open));
        }
        let mut asked = self.asked.lock();
        for d in &mut taken {
            asked.last += 1;
            d.token = asked.last;
            asked.open.insert(d.token, kept(d));
        }
        Ok(Either::A(pack::pack(&taken)))
    }

    /// Registers the token for something to take, or for the end. False when either is there already.
    #[napi(catch_unwind)]
    pub fn arm(&self, token: f64) -> bool {
        self.inner.arm(self.results.completion(token))
    }

    /// Answers a request.
    #[napi(catch_unwind)]
    pub fn reply(&self, low: u32, high: u32, body: &[u8]) -> Result<()> {
        self.end(low, high).map_or(Ok(()), |d| self.inner.reply(&d, Ok(body)).or_raise())
    }

    /// Tells the asker of a failure.
    #[napi(catch_unwind)]
    pub fn fail(&self, low: u32, high: u32, text: String) -> Result<()> {
        self.end(low, high).map_or(Ok(()), |d| self.inner.reply(&d, Err(&text)).or_raise())
    }

    /// Takes no more requests.
    #[napi(catch_unwind, ts_return_type = "Promise<void>")]
    pub fn close<'env>(&self, env: &'env Env) -> Result<Object<'env>> {
        let consumer = self.inner.clone();
        convert::promise(env, async move { consumer.close().await })
    }
}
