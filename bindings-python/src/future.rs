//! The future of a call whose result comes by the mailbox: all that asyncio asks of one, without an asyncio future,
//! a handle and a turn of the loop behind it.
//!
//! A coroutine to `create_task`, a future to `gather`, `wait_for` and `shield`. It is completed by the drain, which is a
//! callback of the loop: it calls every waiter back, without a turn of the loop for each.

use crate::{errors::thrown, ready};
use parking_lot::Mutex;
use pyo3::{
    PyTraverseError, PyVisit,
    exceptions::{
        PyRuntimeError, PyStopIteration,
        asyncio::{CancelledError, InvalidStateError},
    },
    intern,
    prelude::*,
    sync::PyOnceLock,
    types::{PyDict, PyTuple},
};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// A function to be called, and its arguments.
pub(crate) type Call = (Py<PyAny>, Py<PyTuple>);

/// What a future asks of its event loop.
pub(crate) trait EventLoop: Send + Sync {
    /// The loop itself.
    fn event_loop(&self) -> &Py<PyAny>;
    /// Tells the loop's exception handler.
    fn tell_loop(&self, py: Python<'_>, message: &str, exception: Py<PyAny>) -> PyResult<()>;
}

enum Outcome {
    Value(Py<PyAny>),
    Failed { exception: Py<PyAny>, retrieved: bool },
    Cancelled(Option<Py<PyAny>>),
}

struct Callback {
    function: Py<PyAny>,
    context: Py<PyAny>,
}

#[derive(Default)]
struct State {
    outcome: Option<Outcome>,
    callbacks: Vec<Callback>,
}

/// A future on one event loop.
#[pyclass(frozen, weakref, module = "nats_eventbus._native")]
pub(crate) struct Waiting {
    bridge: Arc<dyn EventLoop>,
    state: Mutex<State>,
    /// What tells a task that this was awaited, and not only yielded.
    blocking: AtomicBool,
    /// Whether it has served as its own iterator.
    begun: AtomicBool,
}

static COPY_CONTEXT: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

fn copy_context(py: Python<'_>) -> PyResult<Py<PyAny>> {
    let copy = COPY_CONTEXT.get_or_try_init(py, || {
        Ok::<_, PyErr>(py.import("contextvars")?.getattr("copy_context")?.unbind())
    })?;
    copy.call0(py)
}

impl Waiting {
    pub(crate) fn new(py: Python<'_>, bridge: Arc<dyn EventLoop>) -> PyResult<Py<Self>> {
        let (blocking, begun) = (AtomicBool::new(false), AtomicBool::new(false));
        Py::new(py, Self { bridge, state: Mutex::default(), blocking, begun })
    }

    /// Tells which of these have no waiter: they were cancelled, or only the bridge holds them, `held` times.
    pub(crate) fn abandoned<'a>(
        py: Python<'_>,
        all: impl IntoIterator<Item = &'a Py<Self>>,
        held: usize,
    ) -> PyResult<Vec<bool>> {
        // The interpreter counts what asking adds, too: the same for one that only we have.
        let count = py.import("sys")?.getattr("getrefcount")?;
        let references = |of: &Py<Self>| count.call1((of,))?.extract::<usize>();
        let mut alone = None;
        let mut gone = Vec::new();
        for this in all {
            let waited_for = !this.get().state.lock().callbacks.is_empty();
            if this.get().is_cancelled() || waited_for {
                gone.push(!waited_for);
                continue;
            }
            let fresh = || references(&Self::new(py, this.get().bridge.clone())?);
            let own = alone.map_or_else(|| fresh().map(|n| n + held - 1), Ok)?;
            alone = Some(own);
            gone.push(references(this)? == own);
        }
        Ok(gone)
    }

    pub(crate) fn is_done(&self) -> bool {
        self.state.lock().outcome.is_some()
    }
    pub(crate) fn is_cancelled(&self) -> bool {
        matches!(self.state.lock().outcome, Some(Outcome::Cancelled(_)))
    }

    /// About to be yielded to a task; false when there is nothing to wait for.
    pub(crate) fn block(&self) -> bool {
        let pending = !self.is_done();
        if pending {
            self.blocking.store(true, Ordering::Relaxed);
        }
        pending
    }

    /// The drain: this is the end of it. The calls to make for its waiters; it must not have been done before.
    pub(crate) fn complete(slf: &Bound<'_, Self>, result: PyResult<Bound<'_, PyAny>>) -> PyResult<Vec<Call>> {
        let py = slf.py();
        let outcome = match result {
            Ok(value) => Outcome::Value(value.unbind()),
            Err(e) => Outcome::Failed { exception: e.into_value(py).into_any(), retrieved: false },
        };
        let callbacks = {
            let mut state = slf.get().state.lock();
            state.outcome = Some(outcome);
            std::mem::take(&mut state.callbacks)
        };
        let call = |Callback { function, context }| {
            let args = PyTuple::new(py, [function.bind(py), slf.as_any()])?;
            Ok((context.getattr(py, intern!(py, "run"))?, args.unbind()))
        };
        callbacks.into_iter().map(call).collect()
    }

    fn cancellation(&self, py: Python<'_>) -> PyErr {
        match &self.state.lock().outcome {
            Some(Outcome::Cancelled(Some(message))) => CancelledError::new_err((message.clone_ref(py),)),
            _ => CancelledError::new_err(()),
        }
    }

    /// Its value; none while it must be waited for.
    fn next_step(slf: &Bound<'_, Self>) -> PyResult<Option<Py<PyAny>>> {
        let this = slf.get();
        let begun = this.begun.swap(true, Ordering::Relaxed);
        if this.is_done() {
            return this.result(slf.py()).map(Some);
        }
        if begun {
            return Err(PyRuntimeError::new_err("await wasn't used with future"));
        }
        this.block();
        Ok(None)
    }

    /// Calls back in a turn of the loop's own: what happens outside of the drain must not call anybody at once.
    fn call_soon(slf: &Bound<'_, Self>, function: &Py<PyAny>, context: &Py<PyAny>) -> PyResult<()> {
        let py = slf.py();
        let kwargs = PyDict::new(py);
        kwargs.set_item(intern!(py, "context"), context)?;
        let event_loop = slf.get().bridge.event_loop().bind(py);
        event_loop.call_method(intern!(py, "call_soon"), (function, slf), Some(&kwargs)).map(drop)
    }
}

#[pymethods]
impl Waiting {
    // A failure's traceback holds the frame that awaits, and the frame this: a circle that the collector must see.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        let Some(state) = self.state.try_lock() else { return Ok(()) };
        match &state.outcome {
            Some(Outcome::Value(value)) => visit.call(value)?,
            Some(Outcome::Failed { exception, .. }) => visit.call(exception)?,
            Some(Outcome::Cancelled(message)) => visit.call(message)?,
            None => {}
        }
        for Callback { function, context } in &state.callbacks {
            visit.call(function)?;
            visit.call(context)?;
        }
        Ok(())
    }

    #[getter]
    fn _asyncio_future_blocking(&self) -> bool {
        self.blocking.load(Ordering::Relaxed)
    }
    #[setter]
    #[pyo3(name = "_asyncio_future_blocking")]
    fn set_blocking(&self, blocking: bool) {
        self.blocking.store(blocking, Ordering::Relaxed);
    }
    #[getter]
    fn _loop(&self, py: Python<'_>) -> Py<PyAny> {
        self.get_loop(py)
    }
    /// The event loop it belongs to.
    fn get_loop(&self, py: Python<'_>) -> Py<PyAny> {
        self.bridge.event_loop().clone_ref(py)
    }
    /// Whether it has ended, in whatever way.
    fn done(&self) -> bool {
        self.is_done()
    }
    /// Whether the wait was cancelled.
    fn cancelled(&self) -> bool {
        self.is_cancelled()
    }
    /// The result, or its failure raised.
    pub(crate) fn result(&self, py: Python<'_>) -> PyResult<Py<PyAny>> {
        let mut state = self.state.lock();
        match &mut state.outcome {
            Some(Outcome::Value(value)) => Ok(value.clone_ref(py)),
            Some(Outcome::Failed { exception, retrieved }) => {
                *retrieved = true;
                let exception = exception.bind(py).clone();
                drop(state);
                // Each that it is raised to begins a traceback of its own.
                exception.setattr(intern!(py, "__traceback__"), py.None())?;
                Err(PyErr::from_value(exception))
            }
            Some(Outcome::Cancelled(_)) => {
                drop(state);
                Err(self.cancellation(py))
            }
            None => Err(InvalidStateError::new_err("Result is not set.")),
        }
    }
    /// The failure, if it is one.
    fn exception(&self, py: Python<'_>) -> PyResult<Option<Py<PyAny>>> {
        if let Some(Outcome::Failed { exception, retrieved }) = &mut self.state.lock().outcome {
            *retrieved = true;
            return Ok(Some(exception.clone_ref(py)));
        }
        self.result(py).map(|_| None)
    }
    /// What `gather` asks a cancelled one for.
    fn _make_cancelled_error(&self, py: Python<'_>) -> Py<PyAny> {
        self.cancellation(py).into_value(py).into_any()
    }
    /// Stops the wait, not what was started. False when it has ended already.
    #[pyo3(signature = (msg=None))]
    fn cancel(slf: &Bound<'_, Self>, msg: Option<Py<PyAny>>) -> PyResult<bool> {
        let callbacks = {
            let mut state = slf.get().state.lock();
            if state.outcome.is_some() {
                return Ok(false);
            }
            state.outcome = Some(Outcome::Cancelled(msg));
            std::mem::take(&mut state.callbacks)
        };
        callbacks.iter().try_for_each(|c| Self::call_soon(slf, &c.function, &c.context))?;
        Ok(true)
    }
    /// Calls a function with this, in its context, once it has ended.
    #[pyo3(name = "add_done_callback", signature = (function, *, context=None))]
    fn call_when_done(
        slf: &Bound<'_, Self>,
        function: Py<PyAny>,
        context: Option<Py<PyAny>>,
    ) -> PyResult<()> {
        let context = context.map_or_else(|| copy_context(slf.py()), Ok)?;
        let mut state = slf.get().state.lock();
        if state.outcome.is_none() {
            state.callbacks.push(Callback { function, context });
            return Ok(());
        }
        drop(state);
        Self::call_soon(slf, &function, &context)
    }
    /// Takes callbacks back; how many.
    fn remove_done_callback(&self, py: Python<'_>, function: &Bound<'_, PyAny>) -> PyResult<usize> {
        // Comparing runs Python, which must not happen under the lock.
        let callbacks = std::mem::take(&mut self.state.lock().callbacks);
        let before = callbacks.len();
        let mut kept = Vec::with_capacity(before);
        for c in callbacks {
            if !c.function.bind(py).eq(function)? {
                kept.push(c);
            }
        }
        let removed = before - kept.len();
        let mut state = self.state.lock();
        kept.append(&mut state.callbacks);
        state.callbacks = kept;
        Ok(removed)
    }

    fn __await__<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        if slf.get().begun.load(Ordering::Relaxed) {
            return Ok(Bound::new(slf.py(), Again { of: slf.clone().unbind() })?.into_any());
        }
        Ok(slf.clone().into_any())
    }
    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }
    fn __next__<'py>(slf: &Bound<'py, Self>) -> PyResult<Option<Bound<'py, Self>>> {
        match Self::next_step(slf)? {
            None => Ok(Some(slf.clone())),
            Some(value) => ready::end(value.into_bound(slf.py())),
        }
    }
    fn send<'py>(slf: &Bound<'py, Self>, _value: Py<PyAny>) -> PyResult<Bound<'py, Self>> {
        match Self::next_step(slf)? {
            None => Ok(slf.clone()),
            Some(value) => Err(PyStopIteration::new_err((value,))),
        }
    }
    #[pyo3(signature = (*exc))]
    fn throw(slf: &Bound<'_, Self>, exc: &Bound<'_, PyTuple>) -> PyResult<()> {
        if !slf.get().begun.swap(true, Ordering::Relaxed) {
            // A task cancelled before it began: this has no waiter.
            Self::cancel(slf, None)?;
        }
        Err(thrown(exc))
    }
    fn close(&self) {}
    fn __repr__(&self) -> &'static str {
        match self.state.lock().outcome {
            None => "<nats_eventbus awaitable, pending>",
            Some(Outcome::Value(_)) => "<nats_eventbus awaitable, done>",
            Some(Outcome::Failed { .. }) => "<nats_eventbus awaitable, failed>",
            Some(Outcome::Cancelled(_)) => "<nats_eventbus awaitable, cancelled>",
        }
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        if let Some(Outcome::Failed { exception, retrieved: false }) = self.state.get_mut().outcome.take() {
            let told = Python::try_attach(|py| {
                let exception = exception.clone_ref(py);
                self.bridge.tell_loop(
                    py,
                    "the exception of a nats-eventbus call was never retrieved",
                    exception,
                )
            });
            drop((told, exception));
        }
    }
}

/// One more wait for the same.
#[pyclass(frozen, module = "nats_eventbus._native")]
struct Again {
    of: Py<Waiting>,
}

#[pymethods]
impl Again {
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.of)
    }
    fn __iter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }
    fn __next__(&self, py: Python<'_>) -> PyResult<Option<Py<Waiting>>> {
        if self.of.get().block() {
            return Ok(Some(self.of.clone_ref(py)));
        }
        ready::end(self.of.get().result(py)?.into_bound(py))
    }
    fn send(&self, py: Python<'_>, _value: Py<PyAny>) -> PyResult<Py<Waiting>> {
        if self.of.get().block() {
            return Ok(self.of.clone_ref(py));
        }
        Err(PyStopIteration::new_err((self.of.get().result(py)?,)))
    }
    #[pyo3(signature = (*exc))]
    fn throw(&self, exc: &Bound<'_, PyTuple>) -> PyResult<()> {
        Err(thrown(exc))
    }
    fn close(&self) {}
}
