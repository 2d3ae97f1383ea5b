//! The consumer.

use crate::{
    awaitable::{Polling, Step, Stepper},
    bridges::{Bridges, Leaving},
    errors::OrRaise,
    future::Waiting,
    message::{Message, Origin},
    ready,
};
use nats_eventbus::{Delivery, Error, ErrorKind, Handled, runtime::Own};
use pyo3::{exceptions::PyStopAsyncIteration, prelude::*};
use std::sync::Arc;

/// Taken from the core in one go: one lock for many messages.
const BATCH: usize = 64;

/// Receives the messages of a topic for a group.
#[pyclass(frozen, module = "nats_eventbus._native")]
pub(crate) struct Consumer {
    inner: Own<nats_eventbus::Consumer>,
    origin: Arc<Origin>,
}

/// The next message if there is one now: `None` when there is none, an error at the end.
fn pop(origin: &Origin, py: Python<'_>) -> PyResult<Option<Delivery>> {
    let consumer = origin.consumer.get().or_raise(py)?;
    if let Some(d) = origin.local.lock().pop_front() {
        return Ok(Some(d));
    }
    let mut batch = Vec::with_capacity(BATCH);
    if !consumer.take_ahead(BATCH, &mut batch).or_raise(py)? {
        return Err(PyStopAsyncIteration::new_err(()));
    }
    let mut local = origin.local.lock();
    local.extend(batch);
    Ok(local.pop_front())
}

impl Consumer {
    pub(crate) fn new(inner: nats_eventbus::Consumer, bridges: Arc<Bridges>) -> Self {
        let inner = Own::new(inner);
        let origin = Origin::new(inner.clone(), bridges);
        Self { inner, origin }
    }

    /// A future that is done when there is something to take, or none when there is already.
    fn wait(origin: &Origin, py: Python<'_>) -> PyResult<Option<Py<Waiting>>> {
        let consumer = origin.consumer.get().or_raise(py)?;
        let bridge = origin.bridges.current(py)?;
        let last = origin.waited.lock().take();
        if let Some((bridge, token, future)) = last {
            // A cancelled wait leaves nothing behind; one that has ended was read already, or will be.
            if future.get().is_cancelled() && consumer.disarm(bridge.mailbox(), token as u64) {
                bridge.forget(token);
            }
        }
        let (future, token, armed) = bridge.start_call(py, |done| consumer.arm(done))?;
        if !armed {
            bridge.forget(token);
            return Ok(None);
        }
        *origin.waited.lock() = Some((bridge, token, future.clone_ref(py)));
        Ok(Some(future))
    }
}

#[pymethods]
impl Consumer {
    #[getter]
    fn topic(&self) -> &str {
        self.inner.fixed().topic()
    }
    #[getter]
    fn group(&self) -> &str {
        self.inner.fixed().group()
    }
    #[getter]
    fn stream(&self) -> Option<&str> {
        self.inner.fixed().stream().map(AsRef::as_ref)
    }
    fn __aiter__(slf: PyRef<'_, Self>) -> PyRef<'_, Self> {
        slf
    }

    /// The next message, without suspending while there is one.
    fn __anext__<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        if let Some(d) = pop(&self.origin, py)? {
            let m = Message::new(py, d, Some(self.origin.clone()));
            return ready::message(py, Py::new(py, m)?.into_any(), self.origin.turn_due());
        }
        self.origin.turn();
        let origin = self.origin.clone();
        let step: Stepper = Box::new(move |py| {
            loop {
                if let Some(d) = pop(&origin, py)? {
                    let m = Message::new(py, d, Some(origin.clone()));
                    return Ok(Step::Done(Py::new(py, m)?.into_any()));
                }
                if let Some(future) = Self::wait(&origin, py)? {
                    return Ok(Step::Wait(future));
                }
            }
        });
        match step(py)? {
            Step::Done(m) => ready::message(py, m, false),
            Step::Wait(future) => Polling::on(py, step, future),
        }
    }

    /// Up to `max` messages that are there now.
    fn take(&self, py: Python<'_>, max: usize) -> PyResult<Vec<Message>> {
        let consumer = self.inner.get().or_raise(py)?;
        let mut out: Vec<_> = {
            let mut local = self.origin.local.lock();
            let n = local.len().min(max);
            local.drain(..n).collect()
        };
        if out.len() < max && !consumer.take(max - out.len(), &mut out).or_raise(py)? && out.is_empty() {
            return Err(crate::errors::raise(
                py,
                &Error::new(ErrorKind::Closed, "the consumer is closed")
                    .topic(consumer.topic())
                    .group(consumer.group()),
            ));
        }
        if out.len() < max {
            // They are asked for whatever the prefetch.
            consumer.want(max - out.len());
        }
        Ok(out.into_iter().map(|d| Message::new(py, d, Some(self.origin.clone()))).collect())
    }

    /// Done when there is something to take, or the end.
    fn ready<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        match Self::wait(&self.origin, py)? {
            Some(future) if self.origin.local.lock().is_empty() => Ok(future.into_bound(py).into_any()),
            _ => ready::none(py),
        }
    }

    /// Gives back messages taken and not handled.
    fn put_back(&self, py: Python<'_>, messages: Vec<PyRef<'_, Message>>) -> PyResult<()> {
        let consumer = self.inner.get().or_raise(py)?;
        consumer.put_back(messages.iter().map(|m| m.delivery.clone()).collect());
        Ok(())
    }

    /// Handlers get what is handed out from now on, until `handled`.
    fn handle(&self, py: Python<'_>) -> PyResult<()> {
        self.inner.get().or_raise(py)?.handle();
        Ok(())
    }

    /// The end of `handle`. In a forked child nothing was begun.
    fn handled(&self) {
        if let Ok(consumer) = self.inner.get() {
            consumer.handled();
        }
    }

    /// Handlers: settles by how the handler failed: a failure's text, a rejection's, or a delay. Without any it is done.
    #[pyo3(signature = (m, *, failed=None, rejected=None, retry_after=None))]
    fn finish(
        &self,
        py: Python<'_>,
        m: &Message,
        failed: Option<String>,
        rejected: Option<String>,
        retry_after: Option<&Bound<'_, PyAny>>,
    ) -> PyResult<()> {
        let how = match (failed, rejected, retry_after) {
            (Some(text), ..) => Handled::Failed(text),
            (None, Some(text), _) => Handled::Rejected(text),
            (None, None, Some(delay)) => Handled::RetryAfter(crate::convert::time(delay, "RetryAfter")?),
            (None, None, None) => Handled::Done,
        };
        self.inner.get().or_raise(py)?.finish(&m.delivery, how);
        Ok(())
    }

    #[getter]
    fn concurrency(&self) -> usize {
        self.inner.fixed().concurrency()
    }

    /// Whether this process opened it.
    fn is_ours(&self) -> bool {
        self.inner.is_ours()
    }

    /// In a forked child nothing is open, and nothing is done.
    fn close<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let Ok(inner) = self.inner.get().cloned() else { return ready::none(py) };
        self.origin.leave();
        self.origin.bridges.current(py)?.call(py, async move { inner.close().await }, |py, ()| Ok(py.None()))
    }

    fn __repr__(&self) -> String {
        let i = self.inner.fixed();
        format!("<Consumer topic={:?} group={:?}>", i.topic(), i.group())
    }
}

impl Drop for Consumer {
    fn drop(&mut self) {
        self.origin.give_back();
    }
}
