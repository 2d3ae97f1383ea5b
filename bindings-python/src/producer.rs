//! The producer.

use crate::{
    awaitable::{Polling, Step, Stepper},
    bridges::Bridges,
    convert::{self, Body, Extras},
    errors::OrRaise,
    later::later,
    ready,
};
use nats_eventbus::runtime::Own;
use pyo3::{
    PyTraverseError, PyVisit,
    prelude::*,
    types::{PyDict, PyTuple},
};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// Sends to one topic.
#[pyclass(frozen, module = "nats_eventbus")]
pub(crate) struct Producer {
    pub(crate) inner: Own<nats_eventbus::Producer>,
    pub(crate) bridges: Arc<Bridges>,
    /// Makes bytes of what is neither bytes-like nor a string; JSON without it.
    pub(crate) encoder: Option<Py<PyAny>>,
}

impl Producer {
    fn body<'a>(&self, value: &'a Bound<'_, PyAny>) -> PyResult<Body<'a>> {
        convert::body(value, self.encoder.as_ref())
    }

    fn start_send<'py>(
        &self,
        py: Python<'py>,
        body: &Bound<'py, PyAny>,
        extras: Extras<'_, 'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let producer = self.inner.get().or_raise(py)?;
        let body = self.body(body)?;
        if extras.is_empty() && producer.try_send_plain(body.as_ref()) {
            return ready::none(py);
        }
        let options = extras.options()?;
        let bridge = self.bridges.current(py)?;
        if producer.try_send_core(body.as_ref(), &options).or_raise(py)? {
            return ready::none(py);
        }
        let (future, token, started) =
            bridge.start_send(py, &self.inner, |done| producer.start_send(body.as_ref(), options, done))?;
        match started.or_raise(py) {
            Ok(true) => Ok(future.into_bound(py).into_any()),
            Ok(false) => {
                bridge.forget(token);
                ready::none(py)
            }
            Err(e) => {
                bridge.forget(token);
                Err(e)
            }
        }
    }

    fn start_send_many<'py>(
        &self,
        py: Python<'py>,
        bodies: &Bound<'py, PyAny>,
        extras: Extras<'_, 'py>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let producer = self.inner.get().or_raise(py)?;
        // First: without a loop the bodies are left for the call that is made in one.
        let bridge = self.bridges.current(py)?;
        let options = extras.options()?;
        let items = bodies.try_iter()?.collect::<PyResult<Vec<_>>>()?;
        let all = items.iter().map(|item| self.body(item)).collect::<PyResult<Vec<_>>>()?;
        let (future, token, started) = bridge.start_send(py, &self.inner, |done| {
            producer.start_send_many(all.iter().map(AsRef::as_ref), &options, done)
        })?;
        if let Err(e) = started.or_raise(py) {
            bridge.forget(token);
            return Err(e);
        }
        Ok(future.into_bound(py).into_any())
    }

    fn start_flush<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let producer = self.inner.get().or_raise(py)?;
        let bridge = self.bridges.current(py)?;
        let coming = bridge.abandon(py, producer)?;
        let (future, _, ()) = bridge.start_send(py, &self.inner, |done| producer.start_flush(done))?;
        if coming.is_empty() {
            return Ok(future.into_bound(py).into_any());
        }
        // The failure of a cancelled send may arrive here just now: the flush after its letter tells of it.
        let (inner, last) = (self.inner.clone(), AtomicBool::new(false));
        let step: Stepper = Box::new(move |py| {
            if last.load(Ordering::Relaxed) {
                return Ok(Step::Done(py.None()));
            }
            last.store(!bridge.awaits_any(&coming), Ordering::Relaxed);
            let producer = inner.get().or_raise(py)?;
            let (future, _, ()) = bridge.start_send(py, &inner, |done| producer.start_flush(done))?;
            Ok(Step::Wait(future))
        });
        Polling::on(py, step, future)
    }
}

#[pymethods]
impl Producer {
    // An encoder may hold the producer.
    fn __traverse__(&self, visit: PyVisit<'_>) -> Result<(), PyTraverseError> {
        visit.call(&self.encoder)
    }

    /// The topic it sends to.
    #[getter]
    fn topic(&self) -> &str {
        self.inner.fixed().topic()
    }

    /// Sends one message; await it for its outcome. What cannot be sent is raised there, too.
    #[allow(clippy::too_many_arguments)] // by name
    #[pyo3(signature = (body, *, key=None, id=None, headers=None, ttl=None, expected_last_sequence=None, expected_last_subject_sequence=None))]
    fn send<'py>(
        slf: &Bound<'py, Self>,
        body: &Bound<'py, PyAny>,
        key: Option<&Bound<'py, PyAny>>,
        id: Option<&Bound<'py, PyAny>>,
        headers: Option<&Bound<'py, PyAny>>,
        ttl: Option<&Bound<'py, PyAny>>,
        expected_last_sequence: Option<&Bound<'py, PyAny>>,
        expected_last_subject_sequence: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let (last, of_topic) = (expected_last_sequence, expected_last_subject_sequence);
        let extras = Extras { key, id, headers, ttl, last, of_topic };
        slf.get()
            .start_send(py, body, extras)
            .or_else(|e| later(e, slf.as_any(), "send", PyTuple::new(py, [body])?, extras.named(py)?))
    }

    /// Enqueues one message without waiting.
    #[allow(clippy::too_many_arguments)] // by name
    #[pyo3(signature = (body, *, key=None, id=None, headers=None, ttl=None, expected_last_sequence=None, expected_last_subject_sequence=None))]
    fn send_nowait<'py>(
        &self,
        py: Python<'py>,
        body: &Bound<'py, PyAny>,
        key: Option<&Bound<'py, PyAny>>,
        id: Option<&Bound<'py, PyAny>>,
        headers: Option<&Bound<'py, PyAny>>,
        ttl: Option<&Bound<'py, PyAny>>,
        expected_last_sequence: Option<&Bound<'py, PyAny>>,
        expected_last_subject_sequence: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<()> {
        let producer = self.inner.get().or_raise(py)?;
        let (last, of_topic) = (expected_last_sequence, expected_last_subject_sequence);
        let (body, extras) = (self.body(body)?, Extras { key, id, headers, ttl, last, of_topic });
        if extras.is_empty() && producer.try_send_plain(body.as_ref()) {
            return Ok(());
        }
        producer.send_nowait(body.as_ref(), extras.options()?).or_raise(py)
    }

    /// Sends many messages; await it for one `PubAck` or exception each, in order.
    #[pyo3(signature = (bodies, *, key=None, headers=None, ttl=None))]
    fn send_many<'py>(
        slf: &Bound<'py, Self>,
        bodies: &Bound<'py, PyAny>,
        key: Option<&Bound<'py, PyAny>>,
        headers: Option<&Bound<'py, PyAny>>,
        ttl: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let extras = Extras { key, headers, ttl, ..Extras::default() };
        slf.get()
            .start_send_many(py, bodies, extras)
            .or_else(|e| later(e, slf.as_any(), "send_many", PyTuple::new(py, [bodies])?, extras.named(py)?))
    }

    /// Waits until everything sent before is settled; raises what failed unreported.
    fn flush<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let args = PyTuple::empty(py);
        slf.get().start_flush(py).or_else(|e| later(e, slf.as_any(), "flush", args, PyDict::new(py)))
    }

    /// Refuses further sends; those in flight continue.
    fn close(&self) {
        // In a forked child nothing is open.
        if let Ok(producer) = self.inner.get() {
            producer.close();
        }
    }

    fn __repr__(&self) -> String {
        format!("<Producer topic={:?}>", self.inner.fixed().topic())
    }
}
