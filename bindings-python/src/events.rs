//! What happens to a connection.

use crate::{bridges::Bridges, convert, errors::OrRaise, ready};
use nats_eventbus::{HostFeed, duration::Unit, runtime::Own};
use pyo3::prelude::*;
use std::sync::Arc;

/// The feed of one listener: events or notices.
#[pyclass(frozen, module = "nats_eventbus._native")]
pub(crate) struct Events {
    inner: Own<Arc<dyn HostFeed>>,
    bridges: Arc<Bridges>,
}

impl Events {
    pub(crate) fn new(inner: impl HostFeed + 'static, bridges: Arc<Bridges>) -> Self {
        let inner: Arc<dyn HostFeed> = Arc::new(inner);
        Self { inner: Own::new(inner), bridges }
    }
}

#[pymethods]
impl Events {
    /// An event that is there already, as a dict.
    fn take<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let found = self.inner.get().or_raise(py)?.take_json(Unit::Seconds);
        found.map(|text| convert::from_json(py, &text)).transpose()
    }
    /// Whether none is left and none will come.
    fn is_over(&self, py: Python<'_>) -> PyResult<bool> {
        Ok(self.inner.get().or_raise(py)?.is_over())
    }
    /// Done when there is something to take, or the end.
    fn ready<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let events = self.inner.get().or_raise(py)?;
        let bridge = self.bridges.current(py)?;
        let (future, token, armed) = bridge.start_call(py, |done| events.arm(done))?;
        if armed {
            return Ok(future.into_bound(py).into_any());
        }
        bridge.forget(token);
        ready::none(py)
    }
    fn close(&self) {
        if let Ok(events) = self.inner.get() {
            events.close();
        }
    }
}
