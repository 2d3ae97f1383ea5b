//! What happens to a connection, and its questions for credentials.

use crate::{
    bridges::Bridges,
    convert,
    errors::{OrRaise, raise},
    ready,
};
use nats_eventbus::{Credentials, Error, ErrorKind, HostFeed, duration::Unit, runtime::Own};
use parking_lot::Mutex;
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

/// A question for credentials, to be answered once.
#[pyclass(frozen, module = "nats_eventbus._native")]
pub(crate) struct Question(Mutex<Option<nats_eventbus::Question>>);

impl Question {
    pub(crate) fn new(question: nats_eventbus::Question) -> Self {
        Self(Mutex::new(Some(question)))
    }
    fn end(&self, answer: nats_eventbus::Result<Credentials>) {
        if let Some(question) = self.0.lock().take() {
            question.answer(answer);
        }
    }
}

#[pymethods]
impl Question {
    /// Credentials by name, or the text of a credentials file.
    fn answer(&self, py: Python<'_>, given: &Bound<'_, PyAny>) -> PyResult<()> {
        let read = Credentials::read(convert::json(given)?);
        let failed = read.as_ref().err().cloned();
        self.end(read);
        failed.map_or(Ok(()), |e| Err(raise(py, &e)))
    }
    /// There are none, because of this.
    fn fail(&self, why: String) {
        self.end(Err(Error::new(ErrorKind::Config, why)));
    }
}
