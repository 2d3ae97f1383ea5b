//! The producer.

use crate::{
    awaitable::{Polling, Step, Stepper},
    bridges::Bridges,
    convert::{Extras, body},
    errors::OrRaise,
    ready,
};
use nats_eventbus::runtime::Own;
use pyo3::{prelude::*, types::PyDict};
use std::sync::{
    Arc,
    atomic::{AtomicBool, Ordering},
};

/// Sends to one topic.
#[pyclass(frozen, module = "nats_eventbus")]
pub(crate) struct Producer {
    pub(crate) inner: Own<nats_eventbus::Producer>,
    pub(crate) bridges: Arc<Bridges>,
}

#[pymethods]
impl Producer {
    /// The topic it sends to.
    #[getter]
    fn topic(&self) -> &str {
        self.inner.fixed().topic()
    }

    /// Sends one message; await it for its outcome.
    #[allow(clippy::too_many_arguments)] // by name
    #[pyo3(signature = (body, *, key=None, id=None, headers=None, ttl=None, expected_last_sequence=None, expected_last_subject_sequence=None))]
    fn send<'py>(
        &self,
        py: Python<'py>,
        body: &Bound<'py, PyAny>,
        key: Option<String>,
        id: Option<String>,
        headers: Option<&Bound<'py, PyDict>>,
        ttl: Option<&Bound<'py, PyAny>>,
        expected_last_sequence: Option<u64>,
        expected_last_subject_sequence: Option<u64>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let producer = self.inner.get().or_raise(py)?;
        let (last, of_topic) = (expected_last_sequence, expected_last_subject_sequence);
        let (body, extras) = (crate::convert::body(body)?, Extras { key, id, headers, ttl, last, of_topic });
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

    /// Enqueues one message without waiting.
    #[allow(clippy::too_many_arguments)] // by name
    #[pyo3(signature = (body, *, key=None, id=None, headers=None, ttl=None, expected_last_sequence=None, expected_last_subject_sequence=None))]
    fn send_nowait(
        &self,
        py: Python<'_>,
        body: &Bound<'_, PyAny>,
        key: Option<String>,
        id: Option<String>,
        headers: Option<&Bound<'_, PyDict>>,
        ttl: Option<&Bound<'_, PyAny>>,
        expected_last_sequence: Option<u64>,
        expected_last_subject_sequence: Option<u64>,
    ) -> PyResult<()> {
        let producer = self.inner.get().or_raise(py)?;
        let (last, of_topic) = (expected_last_sequence, expected_last_subject_sequence);
        let (body, extras) = (crate::convert::body(body)?, Extras { key, id, headers, ttl, last, of_topic });
        if extras.is_empty() && producer.try_send_plain(body.as_ref()) {
            return Ok(());
        }
        producer.send_nowait(body.as_ref(), extras.options()?).or_raise(py)
    }

    /// Sends many messages; await it for one `PubAck` or exception each, in order.
    #[pyo3(signature = (bodies, *, key=None, headers=None, ttl=None))]
    fn send_many<'py>(
        &self,
        py: Python<'py>,
        bodies: &Bound<'py, PyAny>,
        key: Option<String>,
        headers: Option<&Bound<'py, PyDict>>,
        ttl: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let producer = self.inner.get().or_raise(py)?;
        let options = Extras { key, headers, ttl, ..Extras::default() }.options()?;
        let items = bodies.try_iter()?.collect::<PyResult<Vec<_>>>()?;
        let all = items.iter().map(body).collect::<PyResult<Vec<_>>>()?;
        let bridge = self.bridges.current(py)?;
        let (future, token, started) = bridge.start_send(py, &self.inner, |done| {
            producer.start_send_many(all.iter().map(AsRef::as_ref), &options, done)
        })?;
        if let Err(e) = started.or_raise(py) {
            bridge.forget(token);
            return Err(e);
        }
        Ok(future.into_bound(py).into_any())
    }

    /// Waits until everything sent before is settled; raises what failed unreported.
    fn flush<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
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

    /// Refuses further sends; those under way go on.
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
