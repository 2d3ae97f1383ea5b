//! The bus.

use crate::{
    consumer::Consumer,
    convert::{self, Extras, Time},
    errors::OrRaise,
    events::Events,
    handle::Handle,
    producer::Producer,
    responder::Responder,
    results::Results,
};
use napi::{Env, bindgen_prelude::*};
use napi_derive::napi;
use std::sync::Arc;

/// An open bus.
#[napi]
pub struct Bus {
    inner: nats_eventbus::Bus,
    results: Arc<Results>,
}

impl Bus {
    pub(crate) fn new(inner: nats_eventbus::Bus, results: Arc<Results>) -> Self {
        Self { inner, results }
    }
}

#[napi]
impl Bus {
    /// For its rare calls.
    #[napi(catch_unwind)]
    pub fn handle(&self) -> Handle {
        Handle::new(self.inner.clone().into())
    }
    /// What happens to the connection from now on.
    #[napi(catch_unwind)]
    pub fn events(&self) -> Events {
        Events::new(self.inner.events(), self.results.clone())
    }
    /// What operators should read in the logs.
    #[napi(catch_unwind)]
    pub fn notices(&self) -> Events {
        Events::new(self.inner.notices(), self.results.clone())
    }
    /// A producer for one topic.
    #[napi(catch_unwind)]
    pub fn producer(&self, topic: String, settings: String) -> Result<Producer> {
        let inner = self.inner.producer(&topic, convert::set(&settings)?).or_raise()?;
        Ok(Producer::new(inner, self.results.clone()))
    }

    /// A consumer of a topic for a group.
    #[napi(catch_unwind, ts_return_type = "Promise<Consumer>")]
    pub fn consumer<'env>(&self, env: &'env Env, topic: String, settings: String) -> Result<Object<'env>> {
        let config = convert::set(&settings)?;
        let (bus, results) = (self.inner.clone(), self.results.clone());
        convert::promise(env, async move { Ok(Consumer::new(bus.consumer(&topic, config).await?, results)) })
    }

    /// The requests on a topic, shared among the responders of a group.
    #[napi(catch_unwind, ts_return_type = "Promise<Responder>")]
    pub fn respond<'env>(&self, env: &'env Env, topic: String, group: String) -> Result<Object<'env>> {
        let (bus, results) = (self.inner.clone(), self.results.clone());
        convert::promise(env, async move { Ok(Responder::new(bus.respond(&topic, &group).await?, results)) })
    }

    /// Starts a request; its reply comes under the token.
    #[napi(catch_unwind)]
    pub fn request(
        &self,
        token: f64,
        topic: String,
        body: &[u8],
        timeout: Time,
        extras: Option<Extras>,
    ) -> Result<()> {
        let options = convert::send_options(extras)?;
        let timeout = convert::time(&timeout, "timeout")?;
        self.inner.start_request(&topic, body, &options, timeout, self.results.completion(token)).or_raise()
    }

    /// Closes the connection and all that is on it.
    #[napi(catch_unwind, ts_return_type = "Promise<void>")]
    pub fn close<'env>(&self, env: &'env Env) -> Result<Object<'env>> {
        let bus = self.inner.clone();
        convert::promise(env, async move { bus.close().await })
    }
}
