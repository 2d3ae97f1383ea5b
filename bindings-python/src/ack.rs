//! The server's word that a message is stored.

use crate::errors::raise;
use pyo3::prelude::*;

/// The server's word that a message is stored.
#[pyclass(frozen, eq, hash, module = "nats_eventbus")]
#[derive(PartialEq, Eq, Hash)]
pub(crate) struct PubAck(nats_eventbus_ack::Ack);

mod nats_eventbus_ack {
    /// The core's ack, hashable.
    #[derive(PartialEq, Eq, Hash)]
    pub(crate) struct Ack {
        pub(crate) stream: std::sync::Arc<str>,
        pub(crate) sequence: u64,
        pub(crate) duplicate: bool,
    }
}

#[pymethods]
impl PubAck {
    /// The stream the message is stored in.
    #[getter]
    fn stream(&self) -> &str {
        &self.0.stream
    }
    /// Its sequence there.
    #[getter]
    fn sequence(&self) -> u64 {
        self.0.sequence
    }
    /// Whether it was already stored under the same id.
    #[getter]
    fn duplicate(&self) -> bool {
        self.0.duplicate
    }
    fn __repr__(&self) -> String {
        let duplicate = if self.0.duplicate { "True" } else { "False" };
        format!("PubAck(stream={:?}, sequence={}, duplicate={duplicate})", self.0.stream, self.0.sequence)
    }
}

pub(crate) fn sent(
    py: Python<'_>,
    result: nats_eventbus::Result<Option<nats_eventbus::PubAck>>,
) -> PyResult<Bound<'_, PyAny>> {
    match result {
        Ok(Some(a)) => {
            let ack =
                nats_eventbus_ack::Ack { stream: a.stream, sequence: a.sequence, duplicate: a.duplicate };
            Ok(Bound::new(py, PubAck(ack))?.into_any())
        }
        Ok(None) => Ok(py.None().into_bound(py)),
        Err(e) => Err(raise(py, &e)),
    }
}
