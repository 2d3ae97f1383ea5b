//! What calls return: awaitables that never cost a task.
//!
//! [`Ready`] is done already, [`Waiting`] is a future that the drain completes, [`Polling`] waits for one after another.
//! All speak the coroutine protocol, so that `create_task` and `TaskGroup` take them too.

use crate::{future::Waiting, message::Message};
use parking_lot::Mutex;
use pyo3::{PyTraverseError, PyVisit};
use pyo3::{
    exceptions::{PyRuntimeError, PyStopIteration},
    prelude::*,
    sync::PyOnceLock,
    types::PyTuple,
};
use std::sync::atomic::{AtomicBool, Ordering};

/// An awaitable whose result is there.
#[pyclass(frozen, module = "nats_eventbus._native")]
pub(crate) struct Ready {
    value: Mutex<Option<Py<PyAny>>>,
    /// Whether the loop has a turn first.
    turn: AtomicBool,
}

static READY_NONE: PyOnceLock<Py<Ready>> = PyOnceLock::new();

impl Ready {
    pub(crate) fn value(py: Python<'_>, value: Py<PyAny>) -> PyResult<Bound<'_, PyAny>> {
        Self::after_turn(py, value, false)
    }
    /// The same; with `turn` the loop's other work comes first, once.
    pub(crate) fn after_turn(py: Python<'_>, value: Py<PyAny>, turn: bool) -> PyResult<Bound<'_, PyAny>> {
        let ready = Self { value: Mutex::new(Some(value)), turn: AtomicBool::new(turn) };
        Ok(Bound::new(py, ready)?.into_any())
    }
    /// The one that gives `None`, shared by all who need it.
    pub(crate) fn none(py: Python<'_>) -> PyResult<Bound<'_, PyAny>> {
        let make = || Py::new(py, Self { value: Mutex::new(None), turn: AtomicBool::new(false) });
        let none = READY_NONE.get_or_try_init(py, make)?;
        Ok(none.bind(py).clone().into_any())
    }
}

#[pymethods]
impl Ready {
    fn __await__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }
    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }
    fn __next__(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        if self.turn.swap(false, Ordering::Relaxed) {
            return Ok(py.None());
        }
        match self.value.lock().take() {
            Some(value) => Err(PyStopIteration::new_err((value,))),
            None => Err(PyStopIteration::new_err(())),
        }
    }
    fn send(&self, py: Python<'_>, _value: Py<PyAny>) -> PyResult<Py<PyAny>> {
        self.__next__(py)
    }
    #[pyo3(signature = (*exc))]
    fn throw(&self, exc: &Bound<'_, PyTuple>) -> PyResult<()> {
        self.untaken();
        Err(thrown(exc))
    }
    fn close(&self) {
        self.untaken();
    }
    fn __repr__(&self) -> &'static str {
        "<nats_eventbus awaitable, done>"
    }
}

impl Ready {
    /// Cancelled before it was awaited: a message nobody has seen is handed out again.
    fn untaken(&self) {
        let Some(value) = self.value.lock().take() else { return };
        let _ = Python::try_attach(|py| {
            if let Ok(m) = value.bind(py).cast::<Message>() {
                m.get().hand_out_again();
            }
        });
    }
}

impl Drop for Ready {
    fn drop(&mut self) {
        self.untaken();
    }
}

/// What was given to `throw`.
pub(crate) fn thrown(exc: &Bound<'_, PyTuple>) -> PyErr {
    match exc.get_item(0) {
        Ok(e) => PyErr::from_value(e),
        Err(e) => e,
    }
}

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
    /// Goes on with what is waited for; when that is done, looks again.
    fn __next__(&self, py: Python<'_>) -> PyResult<Py<Waiting>> {
        loop {
            let Some(current) = self.current.lock().take() else {
                return Err(PyRuntimeError::new_err("this awaitable was awaited already"));
            };
            if current.get().block() {
                *self.current.lock() = Some(current.clone_ref(py));
                return Ok(current);
            }
            current.get().result(py)?;
            match (self.step)(py)? {
                Step::Done(value) => return Err(PyStopIteration::new_err((value,))),
                Step::Wait(next) => *self.current.lock() = Some(next),
            }
        }
    }
    fn send(&self, py: Python<'_>, _value: Py<PyAny>) -> PyResult<Py<Waiting>> {
        self.__next__(py)
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
