//! What happens to a connection.

use crate::{bridge::Office, convert, errors::OrRaise};
use napi::bindgen_prelude::*;
use napi_derive::napi;
use std::sync::Arc;

/// The events of one listener.
#[napi]
pub struct Events {
    inner: nats_eventbus::Events,
    office: Arc<Office>,
}

impl Events {
    pub(crate) fn new(inner: nats_eventbus::Events, office: Arc<Office>) -> Self {
        Self { inner, office }
    }
}

#[napi]
impl Events {
    /// An event that is there already, as JSON.
    #[napi(catch_unwind)]
    pub fn take(&self) -> Result<Option<String>> {
        self.inner.take().map(|e| convert::json(&e)).transpose().or_raise()
    }
    /// Whether none is left and none will come.
    #[napi(catch_unwind)]
    pub fn is_over(&self) -> bool {
        self.inner.is_over()
    }
    /// Asks to be told under the token when there is something to take; false when there is already, or the end.
    #[napi(catch_unwind)]
    pub fn arm(&self, token: f64) -> bool {
        self.inner.arm(self.office.completion(token))
    }
    /// Ends the listening.
    #[napi(catch_unwind)]
    pub fn close(&self) {
        self.inner.close();
    }
}
