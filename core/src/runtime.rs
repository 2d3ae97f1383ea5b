//! The one tokio runtime of the process, and what is spawned on it.
//!
//! One worker thread: on few cores it beats two for publishing and latency. `NATS_EVENTBUS_THREADS` changes it.

use std::sync::OnceLock;
use tokio::{
    runtime::{Builder, Handle, Runtime},
    task::JoinHandle,
};

static RUNTIME: OnceLock<Option<Runtime>> = OnceLock::new();

/// The runtime everything of ours runs on; the caller's own where threads cannot be started.
///
/// # Panics
/// When threads cannot be started and the caller has no runtime of its own.
pub fn handle() -> Handle {
    let threads =
        || std::env::var("NATS_EVENTBUS_THREADS").ok()?.parse().ok().filter(|n| (1..=64).contains(n));
    let build = || {
        Builder::new_multi_thread()
            .worker_threads(threads().unwrap_or(1))
            .thread_name("nats-eventbus")
            .enable_all()
            .build()
    };
    match RUNTIME.get_or_init(|| build().ok()) {
        Some(runtime) => runtime.handle().clone(),
        None => Handle::current(),
    }
}

/// Runs a task on the runtime, whatever thread calls.
pub(crate) fn spawn<F: Future<Output = ()> + Send + 'static>(task: F) -> JoinHandle<()> {
    handle().spawn(task)
}
