//! Messages and acks as Python sees them.

use crate::{
    bridge::LoopBridge,
    bridges::{Bridges, Leaving},
    convert,
    errors::{OrRaise, raise},
    future::Waiting,
    later::later,
    settled::Settled,
};
use nats_eventbus::{
    Consumer, Delivery, Settle,
    host::{LOOK, TURN},
    runtime::Own,
};
use parking_lot::Mutex;
use pyo3::{
    prelude::*,
    types::{PyBytes, PyDict, PyString, PyTuple},
};
use std::{
    collections::VecDeque,
    fmt::Write,
    sync::{Arc, Weak},
    time::{Duration, Instant},
};

/// A wait for messages: where, its token and its future.
pub(crate) type Waited = (Arc<LoopBridge>, usize, Py<Waiting>);

impl Leaving for Origin {
    fn leave(&self) {
        if let Ok(consumer) = self.consumer.get() {
            consumer.stop();
        }
        self.give_back();
    }
}

/// Where a message came from, for settling it.
pub(crate) struct Origin {
    pub(crate) consumer: Own<Consumer>,
    pub(crate) bridges: Arc<Bridges>,
    /// Taken from the core and not yet handed out.
    pub(crate) local: Mutex<VecDeque<Delivery>>,
    /// The last wait.
    pub(crate) waited: Mutex<Option<Waited>>,
    turns: Mutex<Turns>,
}

/// When the loop's other work has its turn.
struct Turns {
    /// Since when messages are handed out without one.
    since: Instant,
    /// The last look at the clock.
    looked: Instant,
    /// Messages to hand out before the next look.
    unlooked: u32,
}

/// The time in which the messages between two looks at the clock are quick.
const BRIEF: Duration = Duration::from_micros(500);

impl Turns {
    fn new() -> Self {
        let now = Instant::now();
        Self { since: now, looked: now, unlooked: 0 }
    }
}

impl Origin {
    pub(crate) fn new(consumer: Own<Consumer>, bridges: Arc<Bridges>) -> Arc<Self> {
        let origin = Arc::new(Self {
            consumer,
            bridges,
            local: Mutex::default(),
            waited: Mutex::default(),
            turns: Mutex::new(Turns::new()),
        });
        let leaving: Weak<Self> = Arc::downgrade(&origin);
        origin.bridges.add(leaving);
        origin
    }

    /// Whether the loop is to have a turn before the next message.
    pub(crate) fn turn_due(&self) -> bool {
        let mut turns = self.turns.lock();
        if let Some(left) = turns.unlooked.checked_sub(1) {
            turns.unlooked = left;
            return false;
        }
        let now = Instant::now();
        turns.unlooked = if now.duration_since(turns.looked) < BRIEF { LOOK } else { 0 };
        turns.looked = now;
        let due = now.duration_since(turns.since) > TURN;
        if due {
            turns.since = now;
        }
        due
    }

    /// The loop has a turn now.
    pub(crate) fn turn(&self) {
        *self.turns.lock() = Turns::new();
    }

    /// Gives back what was taken and not handed out.
    pub(crate) fn give_back(&self) {
        let left: Vec<_> = self.local.lock().drain(..).collect();
        // Those of a forked child are the parent's, which has them, too.
        if let Ok(consumer) = self.consumer.get()
            && !left.is_empty()
        {
            consumer.put_back(left);
        }
    }
}

/// A message received.
#[pyclass(frozen, module = "nats_eventbus")]
pub(crate) struct Message {
    pub(crate) delivery: Delivery,
    body: Py<PyBytes>,
    origin: Option<Arc<Origin>>,
}

impl Message {
    pub(crate) fn new(py: Python<'_>, delivery: Delivery, origin: Option<Arc<Origin>>) -> Self {
        Self { body: PyBytes::new(py, &delivery.body).unbind(), delivery, origin }
    }
    /// The next one handed out is this one.
    pub(crate) fn hand_out_again(&self) {
        if let Some(o) = &self.origin {
            o.local.lock().push_front(self.delivery.clone());
        }
    }
    fn settle(&self, py: Python<'_>, how: &Settle) -> PyResult<Py<Settled>> {
        let settled = match &self.origin {
            Some(o) if self.delivery.token != 0 => {
                o.consumer.get().or_raise(py)?.settle(self.delivery.token, how)
            }
            _ => false,
        };
        Settled::of(py, settled)
    }
}

#[pymethods]
impl Message {
    /// The topic it was sent to.
    #[getter]
    fn topic(&self) -> &str {
        &self.delivery.topic
    }
    /// The group it was received for; None for a reply.
    #[getter]
    fn group(&self) -> Option<&str> {
        self.origin.as_ref().map(|o| o.consumer.fixed().group())
    }
    /// The body.
    #[getter]
    fn body(&self, py: Python<'_>) -> Py<PyBytes> {
        self.body.clone_ref(py)
    }
    /// Headers: a dict of first values, looked up in any case.
    #[getter]
    fn headers<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        let each = self.delivery.headers.iter().flat_map(|h| h.iter());
        let all = each
            .flat_map(|(name, values)| values.iter().map(move |v| (AsRef::<str>::as_ref(name), v.as_str())));
        convert::received_headers(py, all.collect())
    }
    /// The key that orders it, if any.
    #[getter]
    fn key(&self) -> Option<&str> {
        self.delivery.key()
    }
    /// The message id, if any.
    #[getter]
    fn id(&self) -> Option<&str> {
        self.delivery.id()
    }
    /// The server's delivery count, from 1.
    #[getter]
    fn attempt(&self) -> u64 {
        self.delivery.attempt()
    }
    /// How often handlers failed on it, or died with it, before. Counted for handlers; 0 where messages are taken
    /// one by one.
    #[getter]
    fn failures(&self) -> u64 {
        self.delivery.failures
    }
    /// Its sequence in the stream; None in core mode.
    #[getter]
    fn sequence(&self) -> Option<u64> {
        self.delivery.meta.as_ref().map(|m| m.sequence)
    }
    /// The stream it is stored in; None in core mode.
    #[getter]
    fn stream(&self) -> Option<&str> {
        self.origin.as_ref()?.consumer.fixed().stream().map(AsRef::as_ref)
    }
    /// When it was stored, as a UTC datetime; None in core mode.
    #[getter]
    fn timestamp<'py>(&self, py: Python<'py>) -> PyResult<Option<Bound<'py, PyAny>>> {
        let Some(meta) = &self.delivery.meta else { return Ok(None) };
        convert::datetime(py, meta.timestamp_ns).map(Some)
    }
    /// The body as text.
    fn text(&self, py: Python<'_>) -> PyResult<Py<PyString>> {
        match std::str::from_utf8(&self.delivery.body) {
            Ok(text) => Ok(PyString::new(py, text).unbind()),
            Err(_) => Err(self.undecodable(py, "the body is not UTF-8")),
        }
    }
    /// The body decoded as JSON; integers are exact.
    fn json<'py>(&self, py: Python<'py>) -> PyResult<Bound<'py, PyAny>> {
        convert::loads(self.body.bind(py))
            .map_err(|e| self.undecodable(py, &format!("the body is not JSON: {e}")))
    }
    /// Done. Batched on the wire; returns at once. False if it was settled before, or has nothing to settle.
    fn ack(&self, py: Python<'_>) -> PyResult<Py<Settled>> {
        self.settle(py, &Settle::Ack)
    }
    /// To be delivered again, after `delay` (seconds or timedelta) or at once.
    #[pyo3(signature = (delay=None))]
    fn nak(&self, py: Python<'_>, delay: Option<&Bound<'_, PyAny>>) -> PyResult<Py<Settled>> {
        let delay = delay.map(|d| convert::time(d, "delay")).transpose()?;
        self.settle(py, &Settle::Nak(delay))
    }
    /// Never to be delivered again.
    #[pyo3(signature = (reason=None))]
    fn term(&self, py: Python<'_>, reason: Option<String>) -> PyResult<Py<Settled>> {
        self.settle(py, &Settle::Term(reason))
    }
    /// A handler still works on it: the ack wait starts again.
    fn in_progress(&self, py: Python<'_>) -> PyResult<Py<Settled>> {
        self.settle(py, &Settle::InProgress)
    }
    /// Acks and waits for the server's word, up to `timeout` seconds (default 5).
    #[pyo3(signature = (timeout=None))]
    fn ack_confirmed<'py>(
        slf: &Bound<'py, Self>,
        timeout: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let py = slf.py();
        slf.get().start_ack_confirmed(py, timeout).or_else(|e| {
            later(e, slf.as_any(), "ack_confirmed", PyTuple::new(py, [timeout])?, PyDict::new(py))
        })
    }
    /// Answers a request: a body, or a failure's text.
    #[pyo3(signature = (body=None, *, error=None))]
    fn _reply(&self, py: Python<'_>, body: Option<&Bound<'_, PyAny>>, error: Option<String>) -> PyResult<()> {
        let Some(o) = &self.origin else { return Ok(()) };
        let consumer = o.consumer.get().or_raise(py)?;
        match (error, body) {
            (Some(text), _) => consumer.reply(&self.delivery, Err(&text)),
            (None, Some(body)) => consumer.reply(&self.delivery, Ok(convert::body(body, None)?.as_ref())),
            (None, None) => consumer.reply(&self.delivery, Ok(b"")),
        }
        .or_raise(py)
    }
    fn __repr__(&self) -> String {
        let d = &self.delivery;
        let mut out = format!("<Message topic={:?}", d.topic.as_str());
        if let Some(meta) = &d.meta {
            let _ = write!(out, " sequence={} attempt={}", meta.sequence, meta.attempt);
        }
        if let Some(key) = d.key() {
            let _ = write!(out, " key={key:?}");
        }
        out + &format!(" body={} bytes>", d.body.len())
    }
}

impl Message {
    fn start_ack_confirmed<'py>(
        &self,
        py: Python<'py>,
        timeout: Option<&Bound<'py, PyAny>>,
    ) -> PyResult<Bound<'py, PyAny>> {
        let timeout = timeout.map_or(Ok(Duration::from_secs(5)), |t| convert::time(t, "timeout"))?;
        let Some(o) = &self.origin else { return crate::ready::none(py) };
        let consumer = o.consumer.get().or_raise(py)?;
        let (future, _, ()) = o
            .bridges
            .current(py)?
            .start_call(py, |done| consumer.start_ack_confirmed(self.delivery.token, timeout, done))?;
        Ok(future.into_bound(py).into_any())
    }

    fn undecodable(&self, py: Python<'_>, why: &str) -> PyErr {
        let e = nats_eventbus::Error::new(nats_eventbus::ErrorKind::Decode, why).topic(self.topic());
        raise(py, &e)
    }
}

/// A message that was never looked at is handed out again.
pub(crate) fn hand_out_again(value: &Bound<'_, PyAny>) {
    if let Ok(m) = value.cast::<Message>() {
        m.get().hand_out_again();
    }
}
