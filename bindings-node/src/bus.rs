//! The bus.

use crate::{
    bridge::Office,
    consumer::Consumer,
    convert::{self, Extras, Time},
    dead_letters::DeadLetters,
    errors::OrRaise,
    events::Events,
    producer::Producer,
    responder::Responder,
    stream::Stream,
};
use napi::{Env, bindgen_prelude::*};
use napi_derive::napi;
use std::sync::Arc;

/// An open bus.
#[napi]
pub struct Bus {
    inner: nats_eventbus::Bus,
    office: Arc<Office>,
}

impl Bus {
    pub(crate) fn new(inner: nats_eventbus::Bus, office: Arc<Office>) -> Self {
        Self { inner, office }
    }
}

#[napi]
impl Bus {
    /// Connecting, connected, disconnected or closed.
    #[napi(getter, catch_unwind)]
    pub fn state(&self) -> &'static str {
        self.inner.state().as_str()
    }
    /// The connection's name.
    #[napi(getter)]
    pub fn name(&self) -> String {
        self.inner.config().name.clone()
    }
    /// Whether messages are stored and acked.
    #[napi(getter)]
    pub fn jetstream(&self) -> bool {
        self.inner.config().jetstream
    }
    /// How long closing may wait for handlers, in milliseconds.
    #[napi(getter)]
    pub fn drain_timeout(&self) -> f64 {
        self.inner.config().drain_timeout.as_secs_f64() * 1e3
    }
    /// The server, as JSON.
    #[napi(catch_unwind)]
    pub fn server(&self) -> Result<String> {
        convert::json(&self.inner.server()).or_raise()
    }
    /// What the settings allow and is still unwise.
    #[napi(getter, catch_unwind)]
    pub fn warnings(&self) -> Vec<String> {
        self.inner.warnings()
    }
    /// What happens to the connection from now on.
    #[napi(catch_unwind)]
    pub fn events(&self) -> Events {
        Events::new(self.inner.events(), self.office.clone())
    }
    /// Drops the connection and makes a new one.
    #[napi(catch_unwind, ts_return_type = "Promise<void>")]
    pub fn force_reconnect<'env>(&self, env: &'env Env) -> Result<Object<'env>> {
        let bus = self.inner.clone();
        convert::promise(env, async move { bus.force_reconnect().await })
    }
    /// How the bus is, as JSON.
    #[napi(catch_unwind, ts_return_type = "Promise<string>")]
    pub fn health<'env>(&self, env: &'env Env, timeout: Time) -> Result<Object<'env>> {
        let (bus, timeout) = (self.inner.clone(), convert::time(&timeout, "timeout")?);
        convert::promise(env, async move { convert::json(&bus.health(timeout).await) })
    }
    /// What was counted, as JSON.
    #[napi(catch_unwind)]
    pub fn metrics(&self) -> Result<String> {
        convert::json(&self.inner.metrics()).or_raise()
    }

    /// A producer for one topic.
    #[napi(catch_unwind)]
    pub fn producer(&self, topic: String, settings: String) -> Result<Producer> {
        let inner = self.inner.producer(&topic, convert::set(&settings)?).or_raise()?;
        Ok(Producer::new(inner, self.office.clone()))
    }

    /// A consumer of a topic for a group.
    #[napi(catch_unwind, ts_return_type = "Promise<Consumer>")]
    pub fn consumer<'env>(&self, env: &'env Env, topic: String, settings: String) -> Result<Object<'env>> {
        let config = convert::set(&settings)?;
        let (bus, office) = (self.inner.clone(), self.office.clone());
        convert::promise(env, async move { Ok(Consumer::new(bus.consumer(&topic, config).await?, office)) })
    }

    /// The dead letters of a topic and a group.
    #[napi(catch_unwind)]
    pub fn dead_letters(&self, topic: String, group: String, stream: Option<String>) -> Result<DeadLetters> {
        self.inner.dead_letters(&topic, &group, stream.as_deref()).map(DeadLetters::new).or_raise()
    }

    /// The requests on a topic, shared among the responders of a group.
    #[napi(catch_unwind, ts_return_type = "Promise<Responder>")]
    pub fn respond<'env>(&self, env: &'env Env, topic: String, group: String) -> Result<Object<'env>> {
        let (bus, office) = (self.inner.clone(), self.office.clone());
        convert::promise(env, async move { Ok(Responder::new(bus.respond(&topic, &group).await?, office)) })
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
        self.inner.start_request(&topic, body, &options, timeout, self.office.completion(token)).or_raise()
    }

    /// All streams, as JSON.
    #[napi(catch_unwind, ts_return_type = "Promise<string>")]
    pub fn streams<'env>(&self, env: &'env Env) -> Result<Object<'env>> {
        let bus = self.inner.clone();
        convert::promise(env, async move { convert::json(&bus.streams().await?) })
    }

    /// A stream by name.
    #[napi(catch_unwind)]
    pub fn stream(&self, name: String) -> Stream {
        Stream::new(self.inner.stream(&name))
    }

    /// Declares a stream; its description, as JSON.
    #[napi(catch_unwind, ts_return_type = "Promise<string>")]
    pub fn declare_stream<'env>(
        &self,
        env: &'env Env,
        name: String,
        subjects: Vec<String>,
    ) -> Result<Object<'env>> {
        let bus = self.inner.clone();
        convert::promise(env, async move { convert::json(&bus.declare_stream(&name, &subjects).await?) })
    }

    /// Closes the connection and all that is on it.
    #[napi(catch_unwind, ts_return_type = "Promise<void>")]
    pub fn close<'env>(&self, env: &'env Env) -> Result<Object<'env>> {
        let bus = self.inner.clone();
        convert::promise(env, async move { bus.close().await })
    }
}
