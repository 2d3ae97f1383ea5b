//! What settling returns: as good as a bool, and an error for who awaits it, as other clients have it.

use pyo3::{exceptions::PyTypeError, prelude::*, sync::PyOnceLock};

/// Whether this settled the message.
#[pyclass(frozen, module = "nats_eventbus._native")]
pub(crate) struct Settled(bool);

/// The two there are, shared by all.
static BOTH: PyOnceLock<[Py<Settled>; 2]> = PyOnceLock::new();

impl Settled {
    pub(crate) fn of(py: Python<'_>, settled: bool) -> PyResult<Py<Self>> {
        let both = BOTH
            .get_or_try_init(py, || Ok::<_, PyErr>([Py::new(py, Self(false))?, Py::new(py, Self(true))?]))?;
        Ok(both[usize::from(settled)].clone_ref(py))
    }
}

#[pymethods]
impl Settled {
    fn __bool__(&self) -> bool {
        self.0
    }
    fn __index__(&self) -> u8 {
        self.0.into()
    }
    fn __eq__(&self, other: &Bound<'_, PyAny>) -> PyResult<bool> {
        match other.cast::<Self>() {
            Ok(other) => Ok(self.0 == other.get().0),
            Err(_) => other.eq(self.0),
        }
    }
    /// As a bool's.
    fn __hash__(&self) -> u64 {
        self.0.into()
    }
    /// For `sum`.
    fn __radd__<'py>(&self, other: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
        other.add(self.0)
    }
    fn __repr__(&self) -> &'static str {
        if self.0 { "True" } else { "False" }
    }
    fn __await__(&self) -> PyResult<()> {
        Err(PyTypeError::new_err(
            "settling is immediate: leave out await; `await m.ack_confirmed()` waits for the server's word",
        ))
    }
}
