//! The core's error as the Python class of its kind.

use nats_eventbus::Error;
use pyo3::{prelude::*, sync::PyOnceLock, types::PyDict, types::PyTuple};

static CLASSES: PyOnceLock<Py<PyDict>> = PyOnceLock::new();

/// The exception for an error, ready to be raised or handed out as a result.
pub(crate) fn raise(py: Python<'_>, e: &Error) -> PyErr {
    match build(py, e) {
        Ok(value) => PyErr::from_value(value),
        Err(failed) => failed,
    }
}

fn build<'py>(py: Python<'py>, e: &Error) -> PyResult<Bound<'py, PyAny>> {
    let classes = CLASSES.get_or_try_init(py, || {
        let by_name = py.import("nats_eventbus.errors")?.getattr("CLASSES")?;
        by_name.cast_into::<PyDict>().map(Bound::unbind).map_err(PyErr::from)
    })?;
    let class = classes.bind(py).as_any().get_item(e.kind().class())?;
    let failures = e.failures().iter().map(|f| build(py, f)).collect::<PyResult<Vec<_>>>()?;
    let fields = PyDict::new(py);
    fields.set_item("topic", e.topic_name())?;
    fields.set_item("stream", e.stream_name())?;
    fields.set_item("group", e.group_name())?;
    fields.set_item("server", e.server_text())?;
    fields.set_item("id", e.message_id())?;
    fields.set_item("failures", failures)?;
    class.call((e.to_string(),), Some(&fields))
}

/// `?` for core results.
pub(crate) trait OrRaise<T> {
    fn or_raise(self, py: Python<'_>) -> PyResult<T>;
}

impl<T> OrRaise<T> for nats_eventbus::Result<T> {
    fn or_raise(self, py: Python<'_>) -> PyResult<T> {
        self.map_err(|e| raise(py, &e))
    }
}

/// What was given to `throw`.
pub(crate) fn thrown(exc: &Bound<'_, PyTuple>) -> PyErr {
    match exc.get_item(0) {
        Ok(e) => PyErr::from_value(e),
        Err(e) => e,
    }
}
