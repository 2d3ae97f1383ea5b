//! `local://PATH`: one embedded nats-server per directory, shared by every process that names the directory.
//!
//! Owns `PATH/.nats-eventbus`, the server process started from it, and the count of its owners. Kernel file locks show
//! which processes are alive, because a crash releases them: `lock` is held during every change, each owner holds its
//! own file in `owners/`, and the server holds `server.log`, which it inherits as its standard output. Pids in files
//! serve for signals only, and only while the lock on `server.log` shows that the server is running.
//!
//! It never listens beyond 127.0.0.1, never changes what JetStream stores, never stops a server with another owner, and
//! does nothing in a forked copy of the owning process.

mod folder;
mod lock;
mod process;

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;

use parking_lot::Mutex;

use crate::error::{Error, ErrorKind, Result};
use folder::{failed, prepare};
use lock::{FileLock, exclusive, live_owners, register};
use process::{ServerRecord, start};

/// How long to wait for the lock. Its holder may have to stop a hung server and start another.
const LOCK_TIMEOUT: Duration = Duration::from_secs(40);

/// One owner's share of the embedded server of a directory.
///
/// Dropping it releases the share without waiting. [`leave`](Self::leave) also waits for the server to stop.
#[derive(Debug)]
pub struct LocalServer(Arc<Share>);

#[derive(Debug)]
struct Share {
    dir: PathBuf,
    port: u16,
    server: Mutex<ServerRecord>,
    owner: Mutex<Option<FileLock>>,
}

impl LocalServer {
    /// Joins the server running in `dir`, or starts one there; `dir` is created if it is missing.
    ///
    /// The binary is `NATS_SERVER_BIN`, else `nats-server` in `PATH`, else the first usable one of `candidates`, of the
    /// Python environment in use (`VIRTUAL_ENV`) and of `.venv` here, else the one that ran here before.
    pub async fn open(dir: &Path, candidates: &[PathBuf]) -> Result<LocalServer> {
        let (dir, candidates) = (dir.to_path_buf(), candidates.to_vec());
        blocking(move || open(&dir, &candidates)).await
    }

    /// The server's address, `nats://127.0.0.1:PORT`. It stays the same while there is an owner.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.0.port)
    }

    /// The pid of the server's process, even after another owner has restarted it.
    pub fn pid(&self) -> u32 {
        let known = self.0.server.lock().clone();
        known.on_disk(&self.0.dir).filter(|s| s.pid != 0).unwrap_or(known).pid
    }

    /// Restarts the server on the same port if its process has died. `Ok(false)` when it still runs.
    ///
    /// When several owners call it at once, one of them starts the server and the others get `Ok(false)`.
    pub async fn revive(&self) -> Result<bool> {
        let share = self.0.clone();
        blocking(move || share.revive()).await
    }

    /// Releases the share. The last live owner stops the server (SIGTERM, after 5 s SIGKILL). Idempotent.
    pub async fn leave(&self) -> Result<()> {
        let share = self.0.clone();
        blocking(move || if share.release() { share.stop_if_unowned(LOCK_TIMEOUT, true) } else { Ok(()) })
            .await
    }
}

impl Drop for LocalServer {
    fn drop(&mut self) {
        if self.0.release() && self.0.stop_if_unowned(Duration::ZERO, false).is_err() {
            // Another process holds the lock, and may have counted this owner as alive: check again after it.
            let share = self.0.clone();
            let later = move || share.stop_if_unowned(LOCK_TIMEOUT, false);
            let _ = std::thread::Builder::new().name("local-server-drop".into()).spawn(later);
        }
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let failed = |e| Err(Error::new(ErrorKind::Internal, format!("the local server's task failed: {e}")));
    tokio::task::spawn_blocking(work).await.unwrap_or_else(failed)
}

fn open(dir: &Path, candidates: &[PathBuf]) -> Result<LocalServer> {
    let dir = prepare(dir)?;
    let lock = exclusive(&dir, LOCK_TIMEOUT)?;
    let others = live_owners(&dir);
    // Register before the start: if this process is killed right after it, the next owner finds an orphan.
    let owner = register(&dir)?;
    let (known, mut joined) = (ServerRecord::read(&dir), None);
    if let Some(found) = known.as_ref().filter(|s| s.running(&dir)) {
        match found.wait_ready(&dir) {
            Ok(()) if !found.stopping => joined = Some(found.clone()),
            Err(e) if others && found.running(&dir) => return Err(e),
            // It is stopping, or hung without an owner: the directory is free once it has ended.
            _ => found.stop(&dir, true)?,
        }
    }
    let server = joined.map_or_else(|| start(&dir, candidates, known, others), Ok)?;
    tracing::debug!(dir = %dir.display(), pid = server.pid, port = server.port, "joined the local nats-server");
    drop(lock);
    let (port, server, owner) = (server.port, Mutex::new(server), Mutex::new(Some(owner)));
    Ok(LocalServer(Arc::new(Share { dir, port, server, owner })))
}

impl Share {
    /// Releases the share once. Not in a forked copy of the process: its exit must not end the share of its parent.
    fn release(&self) -> bool {
        self.owner.lock().take().is_some_and(|owner| owner.process == std::process::id())
    }

    /// Stops the server if it has no owner left.
    fn stop_if_unowned(&self, timeout: Duration, wait: bool) -> Result<()> {
        let lock = exclusive(&self.dir, timeout);
        let known = self.server.lock().clone();
        match (known.on_disk(&self.dir), &lock) {
            (Some(_), Err(e)) => Err(e.clone()),
            (Some(_), _) if live_owners(&self.dir) => Ok(()),
            (Some(current), _) => current.stop(&self.dir, wait),
            // The directory was deleted or replaced, so no other process can find this server.
            (None, _) => known.stop(&self.dir, wait),
        }
    }

    fn revive(&self) -> Result<bool> {
        let known = self.server.lock().clone();
        prepare(&self.dir)?; // the directory may have been deleted
        let _lock = exclusive(&self.dir, LOCK_TIMEOUT)?;
        match &mut *self.owner.lock() {
            Some(owner) if owner.path.exists() => {}
            Some(owner) => *owner = register(&self.dir)?,
            None => return Err(Error::closed("local server")),
        }
        let disk = ServerRecord::read(&self.dir);
        if disk.as_ref().is_some_and(|s| s.name != known.name) {
            return Err(failed(format!(
                "another server has taken over {}: open it again",
                self.dir.display()
            )));
        }
        let current = disk.unwrap_or(known);
        if current.running(&self.dir) {
            *self.server.lock() = current;
            return Ok(false);
        }
        let restarted = start(&self.dir, &[], Some(current), true)?;
        tracing::warn!(dir = %self.dir.display(), pid = restarted.pid, "the local nats-server had died: restarted it");
        *self.server.lock() = restarted;
        Ok(true)
    }
}
