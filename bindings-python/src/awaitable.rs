//! What calls return: awaitables that never cost a task.
//!
//! [`Ready`] is done already. [`Waiting`] is an asyncio future that the drain completes. Both speak the coroutine
//! protocol, so that `create_task` and `TaskGroup` take them too.

use crate::message::Message;
use parking_lot::Mutex;
use pyo3::{PyTraverseError, PyVisit};
use pyo3::{
    exceptions::{PyRuntimeError, PyStopIteration},
    prelude::*,
    sync::PyOnceLock,
    types::{PyDict, PyString, PyTuple},
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

fn thrown(exc: &Bound<'_, PyTuple>) -> PyErr {
    match exc.get_item(0) {
        Ok(e) => PyErr::from_value(e),
        Err(e) => e,
    }
}

/// An awaitable behind an asyncio future: a coroutine to `create_task`, a future to `gather` and `wait_for`.
#[pyclass(frozen, module = "nats_eventbus._native")]
pub(crate) struct Waiting {
    future: Py<PyAny>,
    iter: Mutex<Option<Py<PyAny>>>,
}

impl Waiting {
    pub(crate) fn on(py: Python<'_>, future: Py<PyAny>) -> PyResult<Bound<'_, PyAny>> {
        Ok(Bound::new(py, Self { future, iter: Mutex::new(None) })?.into_any())
    }
    fn steps<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        if let Some(iter) = &*self.iter.lock() {
            return Ok(iter.bind(py).clone());
        }
        let iter = future_iter(self.future.bind(py))?;
        *self.iter.lock() = Some(iter.clone().unbind());
        Ok(iter)
    }
}

/// What awaiting a future iterates over.
pub(crate) fn future_iter<'py>(future: &Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>> {
    future.call_method0(pyo3::intern!(future.py(), "__await__"))
}

#[pymethods]
impl Waiting {
    // A failure's traceback holds the frame that awaits, and the frame this: a circle that the collector must see.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.future)?;
        self.iter.try_lock().map_or(Ok(()), |iter| visit.call(&*iter))
    }
    fn __await__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        future_iter(self.future.bind(py))
    }
    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }
    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.send(py, py.None())
    }
    fn send<'py>(&self, py: Python<'py>, value: Py<PyAny>) -> PyResult<Bound<'py, PyAny>> {
        self.steps(py)?.call_method1(pyo3::intern!(py, "send"), (value,))
    }
    #[pyo3(signature = (*exc))]
    fn throw<'py>(&self, py: Python<'py>, exc: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
        if self.iter.lock().is_none() {
            // A task cancelled before it began: nobody waits for the future any more.
            self.future.call_method0(py, pyo3::intern!(py, "cancel"))?;
            return Err(thrown(exc));
        }
        self.steps(py)?.call_method1(pyo3::intern!(py, "throw"), exc)
    }
    fn close(&self, py: Python<'_>) -> PyResult<()> {
        if let Some(iter) = self.iter.lock().take() {
            iter.call_method0(py, "close")?;
        }
        Ok(())
    }

    // What asyncio asks of a future, so that `gather` and its kin wait for it without a task.
    #[getter]
    fn _asyncio_future_blocking<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.future.bind(py).getattr(pyo3::intern!(py, "_asyncio_future_blocking"))
    }
    /// All but its callbacks, which are told of this object, is the future's own.
    fn __getattr__<'py>(&self, py: Python<'py>, name: &Bound<'py, PyString>) -> PyResult<Bound<'py, PyAny>> {
        self.future.bind(py).getattr(name)
    }
    #[pyo3(signature = (callback, **context))]
    fn add_done_callback(
        slf: &Bound<'_, Self>,
        callback: Py<PyAny>,
        context: Option<&Bound<'_, PyDict>>,
    ) -> PyResult<()> {
        let (py, of) = (slf.py(), slf.clone().unbind());
        let name = pyo3::intern!(py, "add_done_callback");
        slf.get().future.bind(py).call_method(name, (Told { callback, of },), context).map(drop)
    }
    fn remove_done_callback<'py>(slf: &Bound<'py, Self>, callback: Py<PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let (py, of) = (slf.py(), slf.clone().unbind());
        let name = pyo3::intern!(py, "remove_done_callback");
        slf.get().future.bind(py).call_method1(name, (Told { callback, of },))
    }
    fn __repr__(&self, py: Python<'_>) -> PyResult<String> {
        Ok(format!("<nats_eventbus awaitable on {}>", self.future.bind(py).repr()?))
    }
}

/// A done callback, told of the awaitable and not of the future behind it.
#[pyclass(frozen, module = "nats_eventbus._native")]
struct Told {
    callback: Py<PyAny>,
    of: Py<Waiting>,
}

#[pymethods]
impl Told {
    fn __call__(&self, py: Python<'_>, _future: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        self.callback.call1(py, (&self.of,))
    }
    fn __eq__(&self, py: Python<'_>, other: &Bound<'_, PyAny>) -> PyResult<bool> {
        other.cast::<Self>().map_or(Ok(false), |o| self.callback.bind(py).eq(&o.get().callback))
    }
}

/// A wait that looks again after each wake-up: `step` gives a value, or registers a wait and gives its future.
///
/// What it waits for is taken only when the waiter runs again, so a cancelled wait takes nothing.
pub(crate) enum Step<'py> {
    Done(Py<PyAny>),
    Wait(Bound<'py, PyAny>),
}

pub(crate) type Stepper = Box<dyn for<'py> Fn(Python<'py>) -> PyResult<Step<'py>> + Send + Sync>;

#[pyclass(frozen, module = "nats_eventbus._native")]
pub(crate) struct Polling {
    step: Stepper,
    iter: Mutex<Option<Py<PyAny>>>,
}

impl Polling {
    pub(crate) fn on(py: Python<'_>, step: Stepper, first: &Bound<'_, PyAny>) -> PyResult<Py<PyAny>> {
        let iter = Mutex::new(Some(future_iter(first)?.unbind()));
        Ok(Py::new(py, Self { step, iter })?.into_any())
    }

    /// Goes on with the future waited for; when it is done, looks again.
    fn advance<'py>(
        &self,
        py: Python<'py>,
        mut resume: impl FnMut(Bound<'py, PyAny>) -> PyResult<Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        loop {
            let Some(iter) = self.iter.lock().take() else {
                return Err(PyRuntimeError::new_err("this awaitable was awaited already"));
            };
            match resume(iter.bind(py).clone()) {
                Ok(yielded) => {
                    *self.iter.lock() = Some(iter);
                    return Ok(yielded);
                }
                Err(e) if e.is_instance_of::<PyStopIteration>(py) => match (self.step)(py)? {
                    Step::Done(value) => return Err(PyStopIteration::new_err((value,))),
                    Step::Wait(future) => {
                        // A fresh future yields itself on its first step; one that is done already is looked past.
                        let iter = future_iter(&future)?;
                        let yielded = iter.call_method1(pyo3::intern!(py, "send"), (py.None(),));
                        *self.iter.lock() = Some(iter.unbind());
                        if let Ok(yielded) = yielded {
                            return Ok(yielded);
                        }
                    }
                },
                Err(e) => return Err(e),
            }
        }
    }
}

#[pymethods]
impl Polling {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        self.iter.try_lock().map_or(Ok(()), |iter| visit.call(&*iter))
    }
    fn __await__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }
    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }
    fn __next__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        self.send(py, py.None())
    }
    fn send<'py>(&self, py: Python<'py>, value: Py<PyAny>) -> PyResult<Bound<'py, PyAny>> {
        let value = value.into_bound(py);
        self.advance(py, |iter| iter.call_method1(pyo3::intern!(py, "send"), (value.clone(),)))
    }
    #[pyo3(signature = (*exc))]
    fn throw<'py>(&self, py: Python<'py>, exc: &Bound<'py, PyTuple>) -> PyResult<Bound<'py, PyAny>> {
        self.advance(py, |iter| iter.call_method1(pyo3::intern!(py, "throw"), exc))
    }
    fn close(&self) {
        self.iter.lock().take();
    }
}
