//! Calls whose failure is raised where they are awaited. See `_later.py`.

use pyo3::{
    prelude::*,
    types::{PyDict, PyTuple},
};

/// What a call returns that failed when it was made: its failure is raised where it is awaited. One made where no loop
/// runs is made again there. See `_later.py`.
pub(crate) fn later<'py>(
    e: PyErr,
    of: &Bound<'py, PyAny>,
    method: &str,
    args: Bound<'py, PyTuple>,
    named: Bound<'py, PyDict>,
) -> PyResult<Bound<'py, PyAny>> {
    let py = of.py();
    let given = (e.into_value(py), of.getattr(method)?, args, named);
    py.import("nats_eventbus._later")?.call_method1("later", given)
}
