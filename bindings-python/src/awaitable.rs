//! What calls return: awaitables that never cost a task.
//!
//! Those of [`crate::ready`] are done already, [`Waiting`] is a future that the drain completes, [`Polling`] waits for one after another.
//! All speak the coroutine protocol, so that `create_task` and `TaskGroup` take them too.

use crate::{errors::thrown, future::Waiting, ready};
use parking_lot::Mutex;
use pyo3::{PyTraverseError, PyVisit};
use pyo3::{
    exceptions::{PyRuntimeError, PyStopIteration},
    prelude::*,
    types::PyTuple,
};

/// A wait that looks again after each wake-up: `step` gives a value, or registers a wait and gives its future.
///
/// What it waits for is taken only when the waiter runs again, so a cancelled wait takes nothing.
pub(crate) enum Step {
    Done(Py<PyAny>),
    Wait(Py<Waiting>),
}

pub(crate) type Stepper = Box<dyn Fn(Python<'_>) -> PyResult<Step> + Send + Sync>;

#[pyclass(frozen, module = "nats_eventbus._native")]
pub(crate) struct Polling {
    step: Stepper,
    /// What is waited for; none at the end.
    current: Mutex<Option<Py<Waiting>>>,
}

impl Polling {
    pub(crate) fn on(py: Python<'_>, step: Stepper, first: Py<Waiting>) -> PyResult<Bound<'_, PyAny>> {
        Ok(Bound::new(py, Self { step, current: Mutex::new(Some(first)) })?.into_any())
    }

    /// Continues the wait; when that is done, looks again.
    fn next_step(&self, py: Python<'_>) -> PyResult<Step> {
        loop {
            let Some(current) = self.current.lock().take() else {
                return Err(PyRuntimeError::new_err("this awaitable was awaited already"));
            };
            if current.get().block() {
                *self.current.lock() = Some(current.clone_ref(py));
                return Ok(Step::Wait(current));
            }
            current.get().result(py)?;
            match (self.step)(py)? {
                Step::Wait(next) => *self.current.lock() = Some(next),
                done @ Step::Done(_) => return Ok(done),
            }
        }
    }
}

#[pymethods]
impl Polling {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.current.try_lock().map_or(Ok(()), |current| visit.call(&*current))
    }
    fn __await__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }
    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }
    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<Waiting>>> {
        match self.next_step(py)? {
            Step::Wait(future) => Ok(Some(future)),
            Step::Done(value) => ready::end(value.into_bound(py)),
        }
    }
    fn send(&self, py: Python<'_>, _value: Py<PyAny>) -> PyResult<Py<Waiting>> {
        match self.next_step(py)? {
            Step::Wait(future) => Ok(future),
            Step::Done(value) => Err(PyStopIteration::new_err((value,))),
        }
    }
    #[pyo3(signature = (*exc))]
    fn throw(&self, exc: &Bound<'_, PyTuple>) -> PyResult<()> {
        drop(self.current.lock().take());
        Err(thrown(exc))
    }
    fn close(&self) {
        drop(self.current.lock().take());
    }
}
