//! Dead letters.

use crate::{
    awaitable::later,
    bridges::Bridges,
    convert,
    errors::{OrRaise, raise},
};
use nats_eventbus::{DeadLetter as Letter, DeadLetters as Letters, Error, ErrorKind, runtime::Own};
use pyo3::{
    prelude::*,
    types::{PyBytes, PyDict, PyTuple},
};
use std::sync::Arc;

/// The dead letters of a topic and a group.
#[pyclass(frozen, module = "nats_eventbus._native")]
pub(crate) struct DeadLetters {
    inner: Own<Letters>,
    bridges: Arc<Bridges>,
}

impl DeadLetters {
    pub(crate) fn new(inner: Letters, bridges: Arc<Bridges>) -> Self {
        Self { inner: Own::new(inner), bridges }
    }
}

#[pymethods]
impl DeadLetters {
    #[getter]
    fn topic(&self) -> &str {
        self.inner.fixed().topic()
    }
    #[getter]
    fn group(&self) -> &str {
        self.inner.fixed().group()
    }
    /// The last position there is now.
    fn last<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let letters = self.inner.get().or_raise(py)?.clone();
        self.bridges.current(py)?.call(py, async move { letters.last().await }, number)
    }
    /// The first letter behind a position, or None.
    fn next_after<'py>(&self, py: Python<'py>, position: u64) -> PyResult<Bound<'py, PyAny>> {
        let (letters, bridges) = (self.inner.get().or_raise(py)?.clone(), self.bridges.clone());
        let of = self.inner.clone();
        let work = async move { letters.next_after(position).await };
        self.bridges.current(py)?.call(py, work, |py, found| match found {
            Some(letter) => Ok(Py::new(py, DeadLetter { letter, of, bridges })?.into_any()),
            None => Ok(py.None()),
        })
    }
    /// Replays all there are now; how many.
    fn replay<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let letters = self.inner.get().or_raise(py)?.clone();
        self.bridges.current(py)?.call(py, async move { letters.replay_all().await }, number)
    }
    /// Removes all there are now; how many.
    fn discard<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let letters = self.inner.get().or_raise(py)?.clone();
        self.bridges.current(py)?.call(py, async move { letters.discard_all().await }, number)
    }
}

#[allow(clippy::unnecessary_wraps)] // a conversion
fn number(py: Python<'_>, n: u64) -> PyResult<Py<PyAny>> {
    Ok(n.into_pyobject(py)?.into_any().unbind())
}

/// A message that could not be handled, and why.
#[pyclass(frozen, module = "nats_eventbus")]
pub(crate) struct DeadLetter {
    letter: Letter,
    of: Own<Letters>,
    bridges: Arc<Bridges>,
}

#[pymethods]
impl DeadLetter {
    #[getter]
    fn position(&self) -> u64 {
        self.letter.position
    }
    #[getter]
    fn topic(&self) -> &str {
        &self.letter.topic
    }
    #[getter]
    fn stream(&self) -> &str {
        &self.letter.stream
    }
    #[getter]
    fn sequence(&self) -> u64 {
        self.letter.sequence
    }
    #[getter]
    fn group(&self) -> &str {
        &self.letter.group
    }
    #[getter]
    fn reason(&self) -> &str {
        &self.letter.reason
    }
    #[getter]
    fn attempts(&self) -> u64 {
        self.letter.attempts
    }
    /// How often handlers failed on it, or died with it.
    #[getter]
    fn failures(&self) -> u64 {
        self.letter.failures
    }
    #[getter]
    fn time<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        convert::datetime(py, self.letter.time_ms.saturating_mul(1_000_000))
    }
    #[getter]
    fn key(&self) -> Option<&str> {
        self.letter.key.as_deref()
    }
    #[getter]
    fn id(&self) -> Option<&str> {
        self.letter.id.as_deref()
    }
    #[getter]
    fn headers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let all = self.letter.headers.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        convert::received_headers(py, all.collect())
    }
    #[getter]
    fn body<'py>(&self, py: Python<'py>) -> Bound<'py, PyBytes> {
        PyBytes::new(py, &self.letter.body)
    }
    #[getter]
    fn truncated(&self) -> Option<u64> {
        self.letter.truncated
    }
    /// The body as text.
    fn text(&self, py: Python<'_>) -> PyResult<&str> {
        std::str::from_utf8(&self.letter.body).map_err(|_| self.undecodable(py, "the body is not UTF-8"))
    }
    /// The body decoded as JSON; integers are exact.
    fn json<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        convert::loads(&self.body(py))
            .map_err(|e| self.undecodable(py, &format!("the body is not JSON: {e}")))
    }
    /// Sends it to its group again; then it is removed.
    fn replay<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let args = PyTuple::empty(py);
        slf.get().start_replay(py).or_else(|e| later(e, slf.as_any(), "replay", args, PyDict::new(py)))
    }
    /// Removes it. False when it was removed already.
    fn discard<'py>(slf: &Bound<'py, Self>) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        let args = PyTuple::empty(py);
        slf.get().start_discard(py).or_else(|e| later(e, slf.as_any(), "discard", args, PyDict::new(py)))
    }
    fn __repr__(&self) -> String {
        let l = &self.letter;
        format!(
            "<DeadLetter topic={:?} group={:?} sequence={} attempts={} reason={:?}>",
            l.topic, l.group, l.sequence, l.attempts, l.reason
        )
    }
}

impl DeadLetter {
    fn start_replay<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let (of, letter) = (self.of.get().or_raise(py)?.clone(), self.letter.clone());
        let work = async move { of.replay(&letter).await };
        self.bridges.current(py)?.call(py, work, |py, ()| Ok(py.None()))
    }

    fn start_discard<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let (of, letter) = (self.of.get().or_raise(py)?.clone(), self.letter.clone());
        let work = async move { of.discard(&letter).await };
        let convert =
            |py: Python<'_>, removed: bool| Ok(removed.into_pyobject(py)?.to_owned().into_any().unbind());
        self.bridges.current(py)?.call(py, work, convert)
    }

    fn undecodable(&self, py: Python<'_>, why: &str) -> PyErr {
        raise(py, &Error::new(ErrorKind::Decode, why).topic(&*self.letter.topic))
    }
}
