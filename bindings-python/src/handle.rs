//! The rare call: every noun that is not on a hot path, by the name of its calls. See the core's `host::call`.

use crate::{bridges::Bridges, convert, errors::OrRaise};
use bytes::Bytes;
use nats_eventbus::{
    duration::Unit,
    host::{Handle as Inner, Reply, Started},
    runtime::Own,
};
use pyo3::{
    exceptions::{PyAttributeError, PyTypeError},
    prelude::*,
    types::{PyBytes, PyDict},
};
use std::sync::Arc;

/// A noun of the core.
#[pyclass(frozen, module = "nats_eventbus._native")]
pub(crate) struct Handle {
    inner: Own<Inner>,
    bridges: Arc<Bridges>,
    fields: Option<String>,
    body: Option<Py<PyBytes>>,
}

impl Handle {
    pub(crate) fn new(inner: Inner, bridges: Arc<Bridges>) -> Self {
        Self { inner: Own::new(inner), bridges, fields: None, body: None }
    }
}

#[pymethods]
impl Handle {
    /// Makes a call: its result, or an awaitable of it. `body` is the argument that is bytes.
    #[pyo3(signature = (call, body=None, /, **arguments))]
    fn call<'py>(
        &self,
        py: Python<'py>,
        call: &str,
        body: Option<&Bound<'py, PyAny>>,
        arguments: Option<&Bound<'py, PyDict>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let given = convert::json_object(arguments)?;
        let body = body.map(|b| convert::body(b, None)).transpose()?;
        let body = body.map(|b| Bytes::copy_from_slice(b.as_ref()));
        let bridges = self.bridges.clone();
        match self.inner.get().or_raise(py)?.call(call, given, body, Unit::Seconds).or_raise(py)? {
            Started::Done(reply) => Ok(answer(py, reply, bridges)?.into_bound(py)),
            Started::Later(work) => {
                self.bridges.current(py)?.call(py, work, |py, reply| answer(py, reply, bridges))
            }
        }
    }
    /// Refused by name.
    fn __reduce__(&self) -> PyResult<()> {
        let noun = self.inner.fixed().noun();
        let text = format!(
            "cannot pickle a {noun}: it belongs to this process, and another one connects for itself"
        );
        Err(PyTypeError::new_err(text))
    }
    /// The fields it came with.
    #[getter]
    fn fields<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let none = || PyAttributeError::new_err("it came without fields");
        convert::from_json(py, self.fields.as_deref().ok_or_else(none)?)
    }
    /// The bytes it came with.
    #[getter]
    fn body(&self, py: Python<'_>) -> Option<Py<PyBytes>> {
        self.body.as_ref().map(|b| b.clone_ref(py))
    }
}

fn answer(py: Python<'_>, mut reply: Reply, bridges: Arc<Bridges>) -> PyResult<Py<PyAny>> {
    reply.accept();
    let Some(inner) = reply.handle.take() else {
        return match reply.json.take() {
            Some(json) => Ok(convert::from_json(py, &json)?.unbind()),
            None => Ok(py.None()),
        };
    };
    let body = reply.body.take().map(|b| PyBytes::new(py, &b).unbind());
    let handle = Handle { inner: Own::new(inner), bridges, fields: reply.json.take(), body };
    Ok(Py::new(py, handle)?.into_any())
}
