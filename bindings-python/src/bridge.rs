//! One mailbox per event loop, and the drain that completes its futures.
//!
//! Owns the table of who waits. A batch of results costs one wake-up, which is the business of `waking`.

use crate::{
    errors::raise,
    future::{Call, EventLoop, Waiting},
    question::Question,
    waking::{self, Slot, Watched, Woken, woken},
};
use nats_eventbus::{
    CredentialsSource, Producer,
    host::{
        Completion, LETTERS, Listener, Mailbox,
        mailbox::{Body, Letter},
    },
    runtime::Own,
};
use parking_lot::Mutex;
use pyo3::{
    prelude::*,
    types::{PyCFunction, PyDict, PyTuple},
};
use slab::Slab;
use std::{
    collections::{HashSet, VecDeque},
    sync::Arc,
};

/// A rare call's result, made Python's on the loop's thread.
pub(crate) type Convert = Box<dyn FnOnce(Python<'_>) -> PyResult<Py<PyAny>> + Send>;

/// Makes Python's of what a letter brings.
pub(crate) type ToPython = fn(Python<'_>, Body) -> PyResult<Bound<'_, PyAny>>;

const CALLBACK_FAILED: &str = "a callback of a nats-eventbus call failed";

/// What a letter's token stands for.
enum Waiter {
    /// A future to complete.
    Future(Py<Waiting>),
    /// A send's, or a flush's: a failure without a waiter is kept for the next flush.
    Send(Py<Waiting>, Own<Producer>),
    /// A function to call with each error, until a letter without one. It keeps the bridge, without which its letters
    /// would not be read; so do futures.
    Listener(Py<PyAny>, #[allow(dead_code)] Arc<LoopBridge>),
}

/// What a core listener holds: with it goes the loop's.
struct Told {
    mailbox: Arc<Mailbox>,
    token: u64,
}

impl Told {
    fn post(&self, body: Body) {
        Completion::Host { mailbox: self.mailbox.clone(), token: self.token }.complete(body);
    }
}

impl Drop for Told {
    fn drop(&mut self) {
        self.post(Body::Done(Ok(())));
    }
}

/// The bridge to one event loop.
pub(crate) struct LoopBridge {
    event_loop: Py<PyAny>,
    call_soon: Py<PyAny>,
    /// Makes the calls that [`LoopBridge::next_call`] gives.
    deliver: Py<PyAny>,
    mailbox: Own<Arc<Mailbox>>,
    waiters: Mutex<Slab<Waiter>>,
    /// Taken from the mailbox and not yet delivered.
    letters: Mutex<VecDeque<Letter>>,
    /// Of the last letter delivered, and not yet made.
    calls: Mutex<VecDeque<Call>>,
    to_python: ToPython,
    #[cfg_attr(not(target_os = "linux"), allow(dead_code))]
    fd: Watched,
}

impl LoopBridge {
    pub(crate) fn new(event_loop: &Bound<'_, PyAny>, to_python: ToPython) -> PyResult<Arc<Self>> {
        // Made before the bridge, which they must know; the bridge ends without them, and not they without it.
        let slot = Slot::<Self>::default();
        let (py, taken, told) = (event_loop.py(), slot.clone(), slot.clone());
        let take = PyCFunction::new_closure(py, None, None, move |args, _| {
            let first = args.get_item(0)?.is_truthy()?;
            woken(&taken).map_or(Ok(None), |b| b.next_call(args.py(), first))
        })?;
        let failed = PyCFunction::new_closure(py, None, None, move |args, _| {
            let exception = args.get_item(0)?;
            woken(&told).map_or(Ok(()), |b| b.tell_loop(args.py(), CALLBACK_FAILED, exception.unbind()))
        })?;
        let deliver = py.import("nats_eventbus._deliver")?.getattr("deliverer")?.call1((take, failed))?;
        let (mailbox, fd) = waking::mailbox(event_loop, slot.clone())?;
        let made = Arc::new(Self {
            event_loop: event_loop.clone().unbind(),
            call_soon: event_loop.getattr("call_soon")?.unbind(),
            deliver: deliver.unbind(),
            mailbox: Own::new(mailbox),
            waiters: Mutex::default(),
            letters: Mutex::default(),
            calls: Mutex::default(),
            to_python,
            fd,
        });
        let _ = slot.set(Arc::downgrade(&made));
        Ok(made)
    }

    pub(crate) fn is_of(&self, event_loop: &Bound<'_, PyAny>) -> bool {
        self.event_loop.is(event_loop)
    }

    pub(crate) fn is_closed(&self, py: Python<'_>) -> bool {
        self.event_loop.call_method0(py, "is_closed").and_then(|v| v.extract(py)).unwrap_or(true)
    }

    fn completion(&self, waiter: Waiter) -> Completion {
        let token = self.waiters.lock().insert(waiter) as u64;
        Completion::Host { mailbox: self.mailbox().clone(), token }
    }

    /// Starts something that ends by a letter. When it does not start, or is done at once, nothing is left behind.
    fn start<T>(
        self: &Arc<Self>,
        py: Python<'_>,
        waiter: impl FnOnce(Py<Waiting>) -> Waiter,
        f: impl FnOnce(Completion) -> T,
    ) -> PyResult<(Py<Waiting>, usize, T)> {
        let future = Waiting::new(py, self.clone())?;
        let completion = self.completion(waiter(future.clone_ref(py)));
        let token = match &completion {
            Completion::Host { token, .. } => usize::try_from(*token).unwrap_or(usize::MAX),
            _ => usize::MAX,
        };
        Ok((future, token, f(completion)))
    }

    pub(crate) fn forget(&self, token: usize) {
        let forgotten = self.waiters.lock().try_remove(token);
        // Dropped here, with the lock free.
        drop(forgotten);
    }

    /// Only for callers with a handle of this process.
    pub(crate) fn mailbox(&self) -> &Arc<Mailbox> {
        self.mailbox.fixed()
    }

    /// A send: its future, its token, and what starting it said.
    pub(crate) fn start_send<T>(
        self: &Arc<Self>,
        py: Python<'_>,
        producer: &Own<Producer>,
        f: impl FnOnce(Completion) -> T,
    ) -> PyResult<(Py<Waiting>, usize, T)> {
        let producer = producer.clone();
        self.start(py, |future| Waiter::Send(future, producer), f)
    }

    /// Tells a producer which of its sends were cancelled or dropped, so that a flush counts those failures. Says of which
    /// of them the result is on its way here.
    pub(crate) fn abandon(&self, py: Python<'_>, producer: &Producer) -> PyResult<HashSet<u64>> {
        let sends: Vec<_> = {
            let waiters = self.waiters.lock();
            let send = |(token, waiter): (usize, &Waiter)| match waiter {
                Waiter::Send(future, p) if p.fixed().is(producer) => {
                    Some((token as u64, future.clone_ref(py)))
                }
                _ => None,
            };
            waiters.iter().filter_map(send).collect()
        };
        // Held by the table, and here.
        let gone = Waiting::abandoned(py, sends.iter().map(|(_, future)| future), 2)?;
        let mut abandoned: HashSet<u64> =
            sends.iter().zip(gone).filter(|(_, gone)| *gone).map(|((token, _), _)| *token).collect();
        for token in producer.abandon(self.mailbox(), &abandoned) {
            abandoned.remove(&token);
            self.forget(usize::try_from(token).unwrap_or(usize::MAX));
        }
        Ok(abandoned)
    }

    /// Whether the letter of one of these calls has still to come.
    pub(crate) fn awaits_any(&self, tokens: &HashSet<u64>) -> bool {
        let waiters = self.waiters.lock();
        tokens.iter().any(|t| usize::try_from(*t).is_ok_and(|t| waiters.contains(t)))
    }

    /// A function to be called on this loop with errors.
    pub(crate) fn listener(self: &Arc<Self>, f: Py<PyAny>) -> Listener {
        let token = self.waiters.lock().insert(Waiter::Listener(f, self.clone())) as u64;
        let told = Told { mailbox: self.mailbox().clone(), token };
        Listener::new(move |e| told.post(Body::Done(Err(e))))
    }

    /// A function to be called on this loop with questions for credentials.
    pub(crate) fn source(self: &Arc<Self>, f: Py<PyAny>) -> CredentialsSource {
        let token = self.waiters.lock().insert(Waiter::Listener(f, self.clone())) as u64;
        let told = Told { mailbox: self.mailbox().clone(), token };
        CredentialsSource::asking(move |question| {
            let convert: Convert = Box::new(move |py| Ok(Py::new(py, Question::new(question))?.into_any()));
            told.post(Body::Host(Box::new(convert)));
        })
    }

    /// Anything else.
    pub(crate) fn start_call<T>(
        self: &Arc<Self>,
        py: Python<'_>,
        f: impl FnOnce(Completion) -> T,
    ) -> PyResult<(Py<Waiting>, usize, T)> {
        self.start(py, Waiter::Future, f)
    }

    /// A rare call: a future of the core's, run on its runtime, whose result comes by the mailbox as all others do.
    ///
    /// No thread but the loop's touches Python: a worker that did could be caught by the interpreter's end.
    pub(crate) fn call<'py, T: Send + 'static>(
        self: &Arc<Self>,
        py: Python<'py>,
        work: impl Future<Output = nats_eventbus::Result<T>> + Send + 'static,
        convert: impl FnOnce(Python<'_>, T) -> PyResult<Py<PyAny>> + Send + 'static,
    ) -> PyResult<Bound<'py, PyAny>> {
        let (future, _, ()) = self.start_call(py, |done| {
            nats_eventbus::runtime::handle().spawn(async move {
                let result = work.await;
                let convert: Convert = Box::new(move |py| match result {
                    Ok(value) => convert(py, value),
                    Err(e) => Err(raise(py, &e)),
                });
                done.complete(Body::Host(Box::new(convert)));
            });
        })?;
        Ok(future.into_bound(py).into_any())
    }

    fn deliver_soon(&self, py: Python<'_>) -> PyResult<()> {
        self.call_soon.call1(py, (&self.deliver,)).map(drop)
    }

    /// The next call to make; none when all is delivered. Python makes it: see `_deliver.py`.
    fn next_call(&self, py: Python<'_>, first: bool) -> PyResult<Option<Call>> {
        let many = self.calls.lock().len() + self.letters.lock().len() > 1;
        if first && many {
            // Delivers the rest from a loop run within a call, or after one that ends the loop; else this finds nothing.
            self.deliver_soon(py)?;
        }
        loop {
            if let Some(call) = { self.calls.lock().pop_front() } {
                return Ok(Some(call));
            }
            let Some(letter) = ({ self.letters.lock().pop_front() }) else { return Ok(None) };
            let calls = self.deliver(py, letter)?;
            if first && !many && calls.len() > 1 {
                self.deliver_soon(py)?;
            }
            self.calls.lock().extend(calls);
        }
    }

    /// Completes what a letter is for. Returns the calls to make.
    fn deliver(&self, py: Python<'_>, Letter { token, body }: Letter) -> PyResult<Vec<Call>> {
        let told = |f: Py<PyAny>, what: Py<PyAny>| Ok(vec![(f, PyTuple::new(py, [what])?.unbind())]);
        let waiter = {
            let mut waiters = self.waiters.lock();
            let token = usize::try_from(token).unwrap_or(usize::MAX);
            match (waiters.get(token), &body) {
                (Some(Waiter::Listener(f, _)), Body::Done(Err(e))) => {
                    let f = f.clone_ref(py);
                    drop(waiters);
                    return told(f, raise(py, e).into_value(py).into_any());
                }
                (Some(Waiter::Listener(f, _)), Body::Host(_)) => {
                    let f = f.clone_ref(py);
                    drop(waiters);
                    return told(f, (self.to_python)(py, body)?.unbind());
                }
                _ => waiters.try_remove(token),
            }
        };
        let (future, producer) = match waiter {
            Some(Waiter::Future(f)) => (f, None),
            Some(Waiter::Send(f, p)) => (f, Some(p)),
            Some(Waiter::Listener(..)) | None => return Ok(Vec::new()),
        };
        if let Some(p) = producer {
            let gone = future.get().is_done();
            if gone || (has_failures(&body) && Waiting::abandoned(py, [&future], 1)?.contains(&true)) {
                // Cancelled, or dropped: the wait, not the message.
                unheard(p.fixed(), body);
                return Ok(Vec::new());
            }
        }
        if future.get().is_done() {
            return Ok(Vec::new());
        }
        Waiting::complete(future.bind(py), (self.to_python)(py, body))
    }
}

impl EventLoop for LoopBridge {
    fn event_loop(&self) -> &Py<PyAny> {
        &self.event_loop
    }

    /// Tells the loop's exception handler.
    fn tell_loop(&self, py: Python<'_>, message: &str, exception: Py<PyAny>) -> PyResult<()> {
        let context = PyDict::new(py);
        context.set_item(pyo3::intern!(py, "message"), message)?;
        context.set_item(pyo3::intern!(py, "exception"), exception)?;
        self.event_loop.call_method1(py, pyo3::intern!(py, "call_exception_handler"), (context,)).map(drop)
    }
}

impl Woken for LoopBridge {
    /// Whether this process made it.
    fn is_ours(&self) -> bool {
        self.mailbox.is_ours()
    }

    /// The loop was woken. Letters are delivered in a turn of their own: a waiter may run the loop within it, as
    /// notebooks do, and the loop must be able to call this again then.
    fn drain(&self, py: Python<'_>) -> PyResult<()> {
        let mut arrived = Vec::new();
        self.mailbox().drain(LETTERS, &mut arrived);
        let mut letters = self.letters.lock();
        let idle = letters.is_empty();
        letters.extend(arrived);
        let deliver = idle && !letters.is_empty();
        drop(letters);
        if deliver { self.deliver_soon(py) } else { Ok(()) }
    }

    /// The loop is closed, and its letters are no longer read: waits are dropped, and what fails from now on is the
    /// next flush's.
    fn retire(&self) {
        if !self.is_ours() {
            return;
        }
        let waiters = std::mem::take(&mut *self.waiters.lock());
        let mut sends: Vec<(&Producer, HashSet<u64>)> = Vec::new();
        for (token, waiter) in &waiters {
            let Waiter::Send(_, p) = waiter else { continue };
            match sends.iter_mut().find(|(known, _)| known.is(p.fixed())) {
                Some((_, tokens)) => drop(tokens.insert(token as u64)),
                None => sends.push((p.fixed(), HashSet::from([token as u64]))),
            }
        }
        for (producer, tokens) in &sends {
            producer.abandon(self.mailbox(), tokens);
        }
        let late = std::mem::take(&mut *self.letters.lock());
        for Letter { token, body } in late.into_iter().chain(self.mailbox().close()) {
            let token = usize::try_from(token).unwrap_or(usize::MAX);
            if let Some(Waiter::Send(_, p)) = waiters.get(token) {
                unheard(p.fixed(), body);
            }
        }
    }
}

#[cfg(target_os = "linux")]
impl Drop for LoopBridge {
    fn drop(&mut self) {
        // In a forked child the loop, and what wakes it, are the parent's.
        if let Some(fd) = self.fd.as_ref().filter(|_| self.is_ours()) {
            waking::unwatch(&self.event_loop, fd);
        }
    }
}

fn has_failures(body: &Body) -> bool {
    match body {
        Body::Sent(result) => result.is_err(),
        Body::Done(result) => result.is_err(),
        Body::Many(results) => results.iter().any(Result::is_err),
        _ => false,
    }
}

/// The failures of a send without a waiter: the next flush reports them.
fn unheard(producer: &Producer, body: Body) {
    let failures = match body {
        Body::Sent(Err(e)) | Body::Done(Err(e)) => vec![e],
        Body::Many(results) => results.into_iter().filter_map(Result::err).collect(),
        _ => Vec::new(),
    };
    failures.into_iter().for_each(|e| producer.unreported(e));
}
