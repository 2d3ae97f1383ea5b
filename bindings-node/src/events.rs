//! What happens to a connection.

use crate::results::Results;
use napi_derive::napi;
use nats_eventbus::{HostFeed, duration::Unit};
use std::sync::Arc;

/// The feed of one listener: events or notices.
#[napi]
pub struct Events {
    inner: Box<dyn HostFeed>,
    results: Arc<Results>,
}

impl Events {
    pub(crate) fn new(inner: impl HostFeed + 'static, results: Arc<Results>) -> Self {
        Self { inner: Box::new(inner), results }
    }
}

#[napi]
impl Events {
    /// An event that is there already, as JSON.
    #[napi(catch_unwind)]
    pub fn take(&self) -> Option<String> {
        self.inner.take_json(Unit::Milliseconds)
    }
    /// Whether none is left and none will come.
    #[napi(catch_unwind)]
    pub fn is_over(&self) -> bool {
        self.inner.is_over()
    }
    /// Registers the token for something to take, or for the end. False when either is there already.
    #[napi(catch_unwind)]
    pub fn arm(&self, token: f64) -> bool {
        self.inner.arm(self.results.completion(token))
    }
    /// Ends the listening.
    #[napi(catch_unwind)]
    pub fn close(&self) {
        self.inner.close();
    }
}
