//! The bus.

use crate::{
    bridges::Bridges,
    consumer::Consumer,
    convert,
    dead_letters::DeadLetters,
    errors::{OrRaise, raise},
    events::Events,
    producer::Producer,
    ready,
};
use nats_eventbus::{Config, State, runtime::Own};
use pyo3::{
    prelude::*,
    types::{PyDict, PyString},
};
use std::{path::PathBuf, sync::Arc};

/// Connects: settings by name, places where a `nats-server` for `local://` may be, and a function that is called with
/// each question for credentials.
#[pyfunction]
#[pyo3(signature = (candidates, source=None, **settings))]
pub(crate) fn connect<'py>(
    py: Python<'py>,
    candidates: Vec<PathBuf>,
    source: Option<Py<PyAny>>,
    settings: Option<&Bound<'py, PyDict>>,
) -> PyResult<Bound<'py, PyAny>> {
    let given = convert::json_settings(settings)?;
    let bridges = Arc::<Bridges>::default();
    let bridge = bridges.current(py)?;
    let source = source.map(|f| bridge.source(f));
    let config = Config::load_with(given, |name| std::env::var(name).ok(), source).or_raise(py)?;
    let work = async move { nats_eventbus::Bus::connect(config, &candidates).await };
    bridge.call(py, work, |py, inner| Ok(Py::new(py, Bus { inner: Own::new(inner), bridges })?.into_any()))
}

/// An open bus.
#[pyclass(frozen, module = "nats_eventbus._native")]
pub(crate) struct Bus {
    inner: Own<nats_eventbus::Bus>,
    bridges: Arc<Bridges>,
}

/// A struct of the core as a dict.
pub(crate) fn dict<'py, T: serde::Serialize>(py: Python<'py>, value: &T) -> PyResult<Bound<'py, PyAny>> {
    let text = serde_json::to_string(value).map_err(|e| {
        raise(py, &nats_eventbus::Error::new(nats_eventbus::ErrorKind::Internal, e.to_string()))
    })?;
    py.import("json")?.call_method1("loads", (PyString::new(py, &text),))
}

#[pymethods]
impl Bus {
    /// Whether this process opened it.
    fn is_ours(&self) -> bool {
        self.inner.is_ours()
    }
    /// In a forked child nothing is open.
    #[getter]
    fn state(&self) -> &'static str {
        self.inner.get().map_or(State::Closed, nats_eventbus::Bus::state).as_str()
    }
    #[getter]
    fn name(&self) -> &str {
        &self.inner.fixed().config().name
    }
    #[getter]
    fn jetstream(&self) -> bool {
        self.inner.fixed().config().jetstream
    }
    #[getter]
    fn server<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        dict(py, &self.inner.get().or_raise(py)?.server())
    }
    #[getter]
    fn drain_timeout(&self) -> f64 {
        self.inner.fixed().config().drain_timeout.as_secs_f64()
    }
    /// What the settings allow and is still unwise.
    #[getter]
    fn warnings(&self) -> Vec<String> {
        self.inner.fixed().warnings()
    }
    fn events(&self, py: Python<'_>) -> PyResult<Events> {
        Ok(Events::new(self.inner.get().or_raise(py)?.events(), self.bridges.clone()))
    }
    fn force_reconnect<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let bus = self.inner.get().or_raise(py)?.clone();
        self.bridges.current(py)?.call(py, async move { bus.force_reconnect().await }, |py, ()| Ok(py.None()))
    }
    fn health<'py>(&self, py: Python<'py>, timeout: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let (bus, timeout) = (self.inner.get().or_raise(py)?.clone(), convert::time(timeout, "timeout")?);
        let work = async move { Ok(bus.health(timeout).await) };
        self.bridges.current(py)?.call(py, work, |py, health| dict(py, &health).map(Bound::unbind))
    }
    fn metrics<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        dict(py, &self.inner.get().or_raise(py)?.metrics())
    }
    /// Results handed to event loops, and the wake-ups they took.
    fn bridge_counts(&self) -> (u64, u64) {
        self.bridges.counts()
    }

    #[pyo3(signature = (topic, on_error=None, encoder=None, **settings))]
    fn producer(
        &self,
        py: Python<'_>,
        topic: &str,
        on_error: Option<Py<PyAny>>,
        encoder: Option<Py<PyAny>>,
        settings: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<Producer> {
        let bus = self.inner.get().or_raise(py)?;
        let inner = bus.producer(topic, convert::config(settings, py)?).or_raise(py)?;
        if let Some(listener) = on_error {
            inner.on_error(self.bridges.current(py)?.listener(listener));
        }
        Ok(Producer { inner: Own::new(inner), bridges: self.bridges.clone(), encoder })
    }

    #[pyo3(signature = (topic, **settings))]
    fn consumer<'py>(
        &self,
        py: Python<'py>,
        topic: String,
        settings: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let config = convert::config(settings, py)?;
        let (bus, bridges) = (self.inner.get().or_raise(py)?.clone(), self.bridges.clone());
        let work = async move { bus.consumer(&topic, config).await };
        self.bridges
            .current(py)?
            .call(py, work, |py, inner| Ok(Py::new(py, Consumer::new(inner, bridges))?.into_any()))
    }

    #[pyo3(signature = (topic, group, stream=None))]
    fn dead_letters(
        &self,
        py: Python<'_>,
        topic: &str,
        group: &str,
        stream: Option<&str>,
    ) -> PyResult<DeadLetters> {
        let letters = self.inner.get().or_raise(py)?.dead_letters(topic, group, stream).or_raise(py)?;
        Ok(DeadLetters::new(letters, self.bridges.clone()))
    }

    fn respond<'py>(&self, py: Python<'py>, topic: String, group: String) -> PyResult<Bound<'py, PyAny>> {
        let (bus, bridges) = (self.inner.get().or_raise(py)?.clone(), self.bridges.clone());
        let work = async move { bus.respond(&topic, &group).await };
        self.bridges
            .current(py)?
            .call(py, work, |py, inner| Ok(Py::new(py, Consumer::new(inner, bridges))?.into_any()))
    }

    #[pyo3(signature = (topic, body, timeout, headers=None))]
    fn request<'py>(
        &self,
        py: Python<'py>,
        topic: &str,
        body: &Bound<'py, PyAny>,
        timeout: &Bound<'py, PyAny>,
        headers: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let bus = self.inner.get().or_raise(py)?;
        let (body, options) = (
            convert::body(body, None)?,
            convert::Extras { headers, ..convert::Extras::default() }.options()?,
        );
        let timeout = convert::time(timeout, "timeout")?;
        let bridge = self.bridges.current(py)?;
        let (future, token, started) =
            bridge.start_call(py, |done| bus.start_request(topic, body.as_ref(), &options, timeout, done))?;
        if let Err(e) = started.or_raise(py) {
            bridge.forget(token);
            return Err(e);
        }
        Ok(future.into_bound(py).into_any())
    }

    fn streams<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let bus = self.inner.get().or_raise(py)?.clone();
        self.bridges
            .current(py)?
            .call(py, async move { bus.streams().await }, |py, all| dict(py, &all).map(Bound::unbind))
    }

    fn stream(&self, py: Python<'_>, name: &str) -> PyResult<Stream> {
        let inner = Own::new(self.inner.get().or_raise(py)?.stream(name));
        Ok(Stream { inner, bridges: self.bridges.clone() })
    }

    fn declare_stream<'py>(
        &self,
        py: Python<'py>,
        name: String,
        subjects: Vec<String>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let bus = self.inner.get().or_raise(py)?.clone();
        let work = async move { bus.declare_stream(&name, &subjects).await };
        self.bridges.current(py)?.call(py, work, |py, info| dict(py, &info).map(Bound::unbind))
    }

    fn close<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let Ok(bus) = self.inner.get().cloned() else { return ready::none(py) };
        self.bridges.leave();
        self.bridges.current(py)?.call(py, async move { bus.close().await }, |py, ()| Ok(py.None()))
    }
}

/// A stream by name.
#[pyclass(frozen, module = "nats_eventbus._native")]
pub(crate) struct Stream {
    inner: Own<nats_eventbus::Stream>,
    bridges: Arc<Bridges>,
}

#[pymethods]
impl Stream {
    #[getter]
    fn name(&self) -> &str {
        self.inner.fixed().name()
    }
    fn info<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let stream = self.inner.get().or_raise(py)?.clone();
        let work = async move { stream.info().await };
        self.bridges.current(py)?.call(py, work, |py, info| dict(py, &info).map(Bound::unbind))
    }
}
