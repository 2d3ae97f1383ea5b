//! The tokio runtime of the process, what is spawned on it, and what becomes of both in a forked child.
//!
//! One worker thread: on few cores it beats two for publishing and latency. `NATS_EVENTBUS_THREADS` changes it.
//!
//! A forked child has a copy of its parent's memory and none of its threads: the runtime there would run nothing, and a
//! lock that a thread held would stay locked. So the host says when it was forked. The child gets a runtime of its own,
//! and what was made before, an [`Own`], is neither used nor dropped there.

use crate::error::{Error, ErrorKind, Result};
use std::sync::{
    OnceLock,
    atomic::{AtomicUsize, Ordering},
};
use tokio::{
    runtime::{Builder, Handle, Runtime},
    task::JoinHandle,
};

/// The runtime of one process in a line of forks, and the one after it. Nothing here ever waits for a lock that a thread
/// may have held when it was copied.
#[derive(Default)]
struct Process {
    runtime: OnceLock<Option<Runtime>>,
    child: OnceLock<Box<Process>>,
}

static FIRST: Process = Process { runtime: OnceLock::new(), child: OnceLock::new() };

/// How many forks lie between the process that was started and this one.
static FORKS: AtomicUsize = AtomicUsize::new(0);

fn process(forks: usize) -> &'static Process {
    (0..forks).fold(&FIRST, |at, _| at.child.get_or_init(Box::default))
}

/// Hosts that can be forked: to be called in the child, before anything else of ours and before it has other threads.
pub fn forked() {
    let forks = FORKS.load(Ordering::Relaxed) + 1;
    // Made now, while nobody else can be at it: a child of this one must not find it half made.
    process(forks);
    FORKS.store(forks, Ordering::Relaxed);
}

/// The runtime of the process; `None` where its threads cannot be started.
pub fn get() -> Option<&'static Runtime> {
    let threads =
        || std::env::var("NATS_EVENTBUS_THREADS").ok()?.parse().ok().filter(|n| (1..=64).contains(n));
    let build = || {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(threads().unwrap_or(1)).thread_name("nats-eventbus").enable_all().build()
    };
    process(FORKS.load(Ordering::Relaxed)).runtime.get_or_init(|| build().ok()).as_ref()
}

/// What everything of ours is spawned on; the caller's own runtime where ours cannot be started.
///
/// # Panics
/// When there is neither.
pub fn handle() -> Handle {
    get().map_or_else(Handle::current, |runtime| runtime.handle().clone())
}

/// Runs a task on the runtime, whatever thread calls.
pub(crate) fn spawn<F: Future<Output = ()> + Send + 'static>(task: F) -> JoinHandle<()> {
    handle().spawn(task)
}

/// A handle that belongs to the process that made it. In a forked child it gives an error, and dropping it does nothing:
/// both could wait for ever for a lock.
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

    /// Whether this is the process that made it.
    pub fn is_ours(&self) -> bool {
        self.forks == FORKS.load(Ordering::Relaxed)
    }

    /// The handle, to be used.
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

    /// The handle in any process: for what never changes, and can be read without a lock.
    pub fn fixed(&self) -> &T {
        &self.value
    }
}

impl<T: Clone> Drop for Own<T> {
    fn drop(&mut self) {
        if !self.is_ours() {
            // One more than can ever be dropped.
            std::mem::forget(self.value.clone());
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::sync::Arc;

    /// Ours is the only test that counts forks: the others of the core have no `Own`, and any runtime will do for them.
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
