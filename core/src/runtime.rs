//! The one tokio runtime of the process, and what is spawned on it.
//!
//! One worker thread: on few cores it beats two for publishing and latency. `NATS_EVENTBUS_THREADS` changes it.

use std::sync::OnceLock;
use tokio::{
    runtime::{Builder, Handle, Runtime},
    task::JoinHandle,
};

static RUNTIME: OnceLock<Option<Runtime>> = OnceLock::new();

/// The runtime of the process; `None` where its threads cannot be started.
pub fn get() -> Option<&'static Runtime> {
    let threads =
        || std::env::var("NATS_EVENTBUS_THREADS").ok()?.parse().ok().filter(|n| (1..=64).contains(n));
    let build = || {
        let mut builder = Builder::new_multi_thread();
        builder.worker_threads(threads().unwrap_or(1)).thread_name("nats-eventbus").enable_all().build()
    };
    RUNTIME.get_or_init(|| build().ok()).as_ref()
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
