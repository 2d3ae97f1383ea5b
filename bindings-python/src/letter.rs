//! What a letter brings, as Python has it.

use crate::{ack::sent, bridge::Convert, errors::raise, message::Message};
use nats_eventbus::host::mailbox::Body;
use pyo3::{prelude::*, types::PyList};

pub(crate) fn to_python(py: Python<'_>, body: Body) -> PyResult<Bound<'_, PyAny>> {
    match body {
        Body::Sent(result) => sent(py, result),
        Body::Many(results) => {
            let items = results
                .into_iter()
                .map(|r| sent(py, r).or_else(|e| Ok::<_, PyErr>(e.into_value(py).into_bound(py).into_any())));
            Ok(PyList::new(py, items.collect::<PyResult<Vec<_>>>()?)?.into_any())
        }
        Body::Host(value) => match value.downcast::<Convert>() {
            Ok(convert) => convert(py).map(|v| v.into_bound(py)),
            Err(_) => Ok(py.None().into_bound(py)),
        },
        Body::Done(Ok(())) | Body::Ready => Ok(py.None().into_bound(py)),
        Body::Done(Err(e)) | Body::Reply(Err(e)) => Err(raise(py, &e)),
        Body::Reply(Ok(delivery)) => Ok(Bound::new(py, Message::new(py, *delivery, None))?.into_any()),
    }
}
