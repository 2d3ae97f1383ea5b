//! Questions for credentials.

use crate::{convert, errors::raise};
use nats_eventbus::{Credentials, Error, ErrorKind};
use parking_lot::Mutex;
use pyo3::prelude::*;

/// A question for credentials, to be answered once.
#[pyclass(frozen, module = "nats_eventbus._native")]
pub(crate) struct Question(Mutex<Option<nats_eventbus::Question>>);

impl Question {
    pub(crate) fn new(question: nats_eventbus::Question) -> Self {
        Self(Mutex::new(Some(question)))
    }
    fn end(&self, answer: nats_eventbus::Result<Credentials>) {
        if let Some(question) = self.0.lock().take() {
            question.answer(answer);
        }
    }
}

#[pymethods]
impl Question {
    /// Credentials by name, or the text of a credentials file.
    fn answer(&self, py: Python<'_>, given: &Bound<'_, PyAny>) -> PyResult<()> {
        let read = Credentials::read(convert::json(given)?);
        let failed = read.as_ref().err().cloned();
        self.end(read);
        failed.map_or(Ok(()), |e| Err(raise(py, &e)))
    }
    /// There are none, because of this.
    fn fail(&self, why: String) {
        self.end(Err(Error::new(ErrorKind::Config, why)));
    }
}
