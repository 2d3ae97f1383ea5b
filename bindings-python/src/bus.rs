//! The bus.

use crate::{
    bridges::Bridges, consumer::Consumer, convert, errors::OrRaise, events::Events, handle::Handle,
    letter::to_python, producer::Producer, ready,
};
use nats_eventbus::{Config, duration::Unit, host::from_host, runtime::Own};
use pyo3::{prelude::*, types::PyDict};
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
    let given = from_host::<Config>(convert::json_object(settings)?, Unit::Seconds).or_raise(py)?;
    let bridges = Bridges::new(to_python);
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

#[pymethods]
impl Bus {
    /// Whether this process opened it.
    fn is_ours(&self) -> bool {
        self.inner.is_ours()
    }
    /// For its rare calls.
    fn handle(&self, py: Python<'_>) -> PyResult<Handle> {
        Ok(Handle::new(self.inner.get().or_raise(py)?.clone().into(), self.bridges.clone()))
    }
    fn events(&self, py: Python<'_>) -> PyResult<Events> {
        Ok(Events::new(self.inner.get().or_raise(py)?.events(), self.bridges.clone()))
    }
    /// What operators should read in the logs.
    fn notices(&self, py: Python<'_>) -> PyResult<Events> {
        Ok(Events::new(self.inner.get().or_raise(py)?.notices(), self.bridges.clone()))
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

    fn close<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let Ok(bus) = self.inner.get().cloned() else { return ready::none(py) };
        self.bridges.leave();
        self.bridges.current(py)?.call(py, async move { bus.close().await }, |py, ()| Ok(py.None()))
    }
}
