//! The tokio runtime of the process, and what a fork does to it.
//!
//! It has one worker thread: on few cores one beats two for throughput and latency. `NATS_EVENTBUS_THREADS` changes it.
//!
//! A forked child has a copy of its parent's memory and none of its threads. Its copy of the runtime would run nothing,
//! and a lock that a thread held would stay locked. So the host calls [`forked`] in the child. The child then gets a new
//! runtime, and the parent's handles, each in an [`Own`], are neither used nor dropped there.

use crate::error::{Error, ErrorKind, Result};
use std::sync::{
    OnceLock,
    atomic::{AtomicUsize, Ordering},
};
use tokio::{
    runtime::{Builder, Handle, Runtime},
    task::JoinHandle,
};

/// The runtime of a process, and that of its forked child. Nothing here waits for a lock that a thread may have held at
/// the fork.
#[derive(Default)]
struct Process {
    runtime: OnceLock<Option<Runtime>>,
    child: OnceLock<Box<Process>>,
}

static FIRST: Process = Process { runtime: OnceLock::new(), child: OnceLock::new() };

/// The number of forks between the first process and this one.
static FORKS: AtomicUsize = AtomicUsize::new(0);

fn process(forks: usize) -> &'static Process {
    (0..forks).fold(&FIRST, |at, _| at.child.get_or_init(Box::default))
}

/// Hosts that can fork: call this in the child, before any other call to this library and before the child has threads.
pub fn forked() {
    let forks = FORKS.load(Ordering::Relaxed) + 1;
    // Create it now, while the process has one thread: a child of this process must not find it half initialised.
    process(forks);
    FORKS.store(forks, Ordering::Relaxed);
}

/// The runtime of the process. `None` when its threads cannot start.
pub fn get() -> Option<&'static Runtime> {
    let threads =
        || std::env::var("NATS_EVENTBUS_THREADS").ok()?.parse().ok().filter(|n| (1..=64).contains(n));
    let build = || {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(threads().unwrap_or(1)).thread_name("nats-eventbus").enable_all().build()
    };
    process(FORKS.load(Ordering::Relaxed)).runtime.get_or_init(|| build().ok()).as_ref()
}

/// The runtime that all our tasks run on: ours, or the caller's when ours cannot start.
///
/// # Panics
/// When there is neither.
pub fn handle() -> Handle {
    get().map_or_else(Handle::current, |runtime| runtime.handle().clone())
}

/// Runs a task on the runtime. Any thread may call it.
pub(crate) fn spawn<F: Future<Output = ()> + Send + 'static>(task: F) -> JoinHandle<()> {
    handle().spawn(task)
}

/// A handle that belongs to the process that created it. In a forked child, using it is an error and dropping it does
/// nothing, because either could wait for ever for a lock.
#[derive(Clone, Debug)]
pub struct Own<T: Clone> {
    value: T,
    forks: usize,
}

impl<T: Clone> Own<T> {
    /// A handle of this process.
    pub fn new(value: T) -> Self {
        Self { value, forks: FORKS.load(Ordering::Relaxed) }
    }

    /// Whether this process created it.
    pub fn is_ours(&self) -> bool {
        self.forks == FORKS.load(Ordering::Relaxed)
    }

    /// The handle.
    ///
    /// # Errors
    /// `Closed` in a forked child.
    pub fn get(&self) -> Result<&T> {
        if self.is_ours() {
            return Ok(&self.value);
        }
        let text = "this belongs to the process that this one was forked from: \
                    connect again here, and leave the parent's bus alone";
        Err(Error::new(ErrorKind::Closed, text))
    }

    /// The handle in any process, for reading what never changes and needs no lock.
    pub fn fixed(&self) -> &T {
        &self.value
    }
}

impl<T: Clone> Drop for Own<T> {
    fn drop(&mut self) {
        if !self.is_ours() {
            // Keeps one reference for ever, so that the value is never dropped.
            std::mem::forget(self.value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    /// Only this test counts forks. The other tests have no `Own`, and any runtime works for them.
    #[test]
    fn a_child_has_a_runtime_of_its_own_and_its_parents_handles_do_nothing() -> Result<()> {
        let (held, made) = (Arc::new(()), get().map(std::ptr::from_ref));
        let own = Own::new(held.clone());
        own.get()?;
        assert!(made.is_some() && made == get().map(std::ptr::from_ref));
        forked();
        assert!(get().map(std::ptr::from_ref) != made);
        let e = own.get().err().map(|e| (e.kind(), e.to_string()));
        assert!(matches!(e, Some((ErrorKind::Closed, text)) if text.contains("connect again here")));
        drop((own.clone(), own));
        assert!(Arc::strong_count(&held) > 1, "it was dropped");
        Own::new(held).get().map(drop)
    }
}
