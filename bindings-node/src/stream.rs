//! A stream by name.

use crate::convert;
use napi::{Env, bindgen_prelude::*};
use napi_derive::napi;

/// A stream by name.
#[napi]
pub struct Stream(nats_eventbus::Stream);

impl Stream {
    pub(crate) fn new(inner: nats_eventbus::Stream) -> Self {
        Self(inner)
    }
}

#[napi]
impl Stream {
    /// Its name.
    #[napi(getter)]
    pub fn name(&self) -> String {
        self.0.name().to_owned()
    }
    /// What the server says of it, as JSON.
    #[napi(catch_unwind, ts_return_type = "Promise<string>")]
    pub fn info<'env>(&self, env: &'env Env) -> Result<Object<'env>> {
        let stream = self.0.clone();
        convert::promise(env, async move { convert::json(&stream.info().await?) })
    }
}
