//! The bridges of a bus, by loop.
//!
//! Owns which loop a call belongs to, and what closing the bus must give back. Its locks are only ever taken by a thread
//! that has the interpreter's, so that a forked child finds them free.

use crate::{
    bridge::{LoopBridge, ToPython},
    waking::Woken,
};
use parking_lot::Mutex;
use pyo3::{prelude::*, sync::PyOnceLock};
use std::sync::{Arc, Weak};

/// What hands out messages, and must stop before its bus closes.
pub(crate) trait Leaving: Send + Sync {
    /// Hands out no more, and gives back what was taken.
    fn leave(&self);
}

/// The bridges of a bus, by loop; the last one used first.
pub(crate) struct Bridges {
    loops: Mutex<Vec<Arc<LoopBridge>>>,
    leaving: Mutex<Vec<Weak<dyn Leaving>>>,
    to_python: ToPython,
}

static RUNNING_LOOP: PyOnceLock<Py<PyAny>> = PyOnceLock::new();

/// What a call fails with where no loop runs: the cause, and the way out.
fn no_loop(py: Python<'_>) -> PyErr {
    let made = py.import("nats_eventbus._loops").and_then(|m| m.call_method0("no_loop"));
    made.map_or_else(|e| e, PyErr::from_value)
}

impl Bridges {
    pub(crate) fn new(to_python: ToPython) -> Arc<Self> {
        Arc::new(Self { loops: Mutex::default(), leaving: Mutex::default(), to_python })
    }

    /// The bridge of the running loop.
    pub(crate) fn current(&self, py: Python<'_>) -> PyResult<Arc<LoopBridge>> {
        let get = RUNNING_LOOP.get_or_try_init(py, || {
            Ok::<_, PyErr>(py.import("asyncio")?.getattr("get_running_loop")?.unbind())
        })?;
        let running = get.bind(py).call0().map_err(|_| no_loop(py))?;
        let mut all = self.loops.lock();
        if let Some(found) = all.iter().position(|b| b.is_of(&running)) {
            if found > 0 {
                all.swap(0, found);
            }
            return Ok(all[0].clone());
        }
        drop(all);
        let made = LoopBridge::new(&running, self.to_python)?;
        // Asking a loop runs Python, which must not happen under the lock.
        let known = self.loops.lock().clone();
        let closed: Vec<_> = known.into_iter().filter(|b| b.is_closed(py)).collect();
        let mut all = self.loops.lock();
        all.retain(|b| !closed.iter().any(|c| Arc::ptr_eq(b, c)));
        all.insert(0, made.clone());
        drop(all);
        closed.iter().for_each(|b| b.retire());
        Ok(made)
    }

    /// A consumer of the bus, whose messages must be given back before the bus closes.
    pub(crate) fn add(&self, part: Weak<dyn Leaving>) {
        let mut all = self.leaving.lock();
        all.retain(|o| o.strong_count() > 0);
        all.push(part);
    }

    /// Ends the handing out of all consumers.
    pub(crate) fn leave(&self) {
        let all: Vec<_> = self.leaving.lock().iter().filter_map(Weak::upgrade).collect();
        all.iter().for_each(|o| o.leave());
    }

    /// Letters and wake-ups of all loops.
    pub(crate) fn counts(&self) -> (u64, u64) {
        self.loops.lock().iter().map(|b| b.mailbox().counts()).fold((0, 0), |a, b| (a.0 + b.0, a.1 + b.1))
    }
}
