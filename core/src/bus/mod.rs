//! The bus: one connection, and the producers, consumers and streams on it.
//!
//! Owns opening and closing. Everything that a bus hands out works until the bus is closed, then fails with `Closed`.

mod health;
pub(crate) mod shared;

use crate::{
    config::{Config, ConsumerConfig, ProducerConfig},
    connection::{Connection, State},
    consume::Consumer,
    dead_letters::DeadLetters,
    error::{Error, ErrorKind, Result},
    host::{
        mailbox::{Body, Completion, Post},
        schema::record,
    },
    jetstream::stream::{Stream, StreamInfo},
    kv::{Kv, KvConfig},
    local_server::LocalServer,
    message::{Delivery, SendOptions},
    observe::{Metrics, MetricsSnapshot, Notice, NoticeKind},
    publish::{Pipeline, Producer},
};
use parking_lot::Mutex;
use shared::Shared;
use std::{
    path::{Path, PathBuf},
    sync::{
        Arc, Weak,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    time::{Duration, Instant},
};
use tokio::task::JoinSet;

record! {
    /// The server a bus talks to.
    pub struct ServerInfo {
        /// Its name.
        name: String,
        /// Its version.
        version: String,
        /// Its host, as the server reports it.
        host: String,
        /// Its port.
        port: u16,
        /// The largest message it takes, in bytes.
        max_payload: usize,
        /// Whether JetStream is enabled.
        jetstream: bool,
        /// The cluster it belongs to.
        cluster: Option<String>,
    }
}

/// An open bus.
#[derive(Clone, Debug)]
pub struct Bus {
    pub(crate) shared: Arc<Shared>,
}

const LOCAL: &str = "local://";
/// The time that a run gets, after `drain_timeout`, to return its unfinished messages.
const RETURN_TIME: Duration = Duration::from_millis(500);

/// A connection with its pipeline, before it becomes a bus.
struct Opened {
    config: Config,
    connection: Connection,
    pipeline: Arc<Pipeline>,
    metrics: Arc<Metrics>,
    tasks: JoinSet<()>,
}

impl Bus {
    /// Connects. `candidates` are further `nats-server` binaries to try for `local://`.
    ///
    /// # Errors
    /// `Config` for a wrong setting; `Connection`, `Auth` or `Tls` when no server can be used; `NotFound` when
    /// the settings need JetStream and the server has none.
    pub async fn connect(mut config: Config, candidates: &[PathBuf]) -> Result<Self> {
        let local = Self::join_local_server(&mut config, candidates).await?;
        // The client's tasks run on our runtime, because the caller's runtime may end before the bus.
        let opened = crate::runtime::handle().spawn(Self::open(config)).await;
        let opened = opened.unwrap_or_else(|e| {
            Err(Error::new(ErrorKind::Internal, format!("connecting failed unexpectedly: {e}")))
        });
        let bus = match (opened, local) {
            (Ok(opened), local) => Self::assemble(opened, local),
            (Err(e), Some(server)) => {
                server.leave().await?;
                return Err(e);
            }
            (Err(e), None) => return Err(e),
        };
        match bus.check_jetstream().await {
            Ok(()) => Ok(bus),
            Err(e) => {
                bus.close().await?;
                Err(e)
            }
        }
    }

    /// Joins or starts the server of a `local://` address, and puts its address into the settings.
    async fn join_local_server(config: &mut Config, candidates: &[PathBuf]) -> Result<Option<LocalServer>> {
        let Some(dir) = config.servers.reveal().strip_prefix(LOCAL) else { return Ok(None) };
        if dir.is_empty() {
            return Err(Error::config("servers: local:// needs a folder, such as local://./data"));
        }
        if dir.contains("://") {
            return Err(Error::config("servers: local:// stands alone: keep one kind of address"));
        }
        let server = LocalServer::open(Path::new(dir), candidates).await?;
        tracing::info!(pid = server.pid(), url = server.url(), "embedded server");
        config.servers = server.url().into();
        Ok(Some(server))
    }

    fn assemble(opened: Opened, local: Option<LocalServer>) -> Self {
        let Opened { config, connection: c, pipeline, metrics, tasks } = opened;
        let shared = Arc::new(Shared {
            config,
            client: c.client,
            link: c.link,
            pipeline,
            metrics,
            consumers: Mutex::default(),
            failed_consumers: Mutex::default(),
            warnings: Mutex::new(c.warnings),
            account_denied_on: AtomicU64::new(0),
            closed: AtomicBool::new(false),
            tasks: Mutex::new(tasks),
            local,
        });
        let observer: Weak<Shared> = Arc::downgrade(&shared);
        shared.link.observe(observer);
        let bus = Self { shared };
        bus.supervise();
        bus
    }

    async fn open(config: Config) -> Result<Opened> {
        let metrics = Arc::new(Metrics::default());
        let c = Connection::open(&config, metrics.clone()).await?;
        let mut tasks = JoinSet::new();
        let pipeline = Pipeline::start(&c, metrics.clone(), &mut tasks).await?;
        if c.link.is_connected() {
            // Without a reply inbox no call would get an answer, so find a denial now.
            c.unless_refused(config.api_timeout * 2, pipeline.check_inbox(config.api_timeout)).await?;
        }
        Ok(Opened { config, connection: c, pipeline, metrics, tasks })
    }

    /// Restarts the embedded server when it dies. Every bus that shares the server does this; the first one restarts it.
    fn supervise(&self) {
        if self.shared.local.is_none() {
            return;
        }
        let (weak, mut epoch) = (Arc::downgrade(&self.shared), self.shared.link.watch());
        self.shared.spawn(async move {
            while epoch.changed().await.is_ok() {
                loop {
                    let Some(shared) = weak.upgrade() else { return };
                    let Some(server) = &shared.local else { return };
                    if shared.link.state() != State::Disconnected {
                        break;
                    }
                    if let Err(e) = server.revive().await {
                        tracing::warn!(error = %e, "the embedded server could not be started again");
                    }
                    drop(shared);
                    tokio::time::sleep(Duration::from_millis(200)).await;
                }
            }
        });
    }

    async fn check_jetstream(&self) -> Result<()> {
        let s = &self.shared;
        if !s.config.jetstream || (s.config.retry_on_initial_connect && !s.link.is_connected()) {
            return Ok(());
        }
        s.check_jetstream().await
    }

    /// The settings in force.
    pub fn config(&self) -> &Config {
        &self.shared.config
    }
    /// Connecting, connected, disconnected or closed.
    pub fn state(&self) -> State {
        self.shared.link.state()
    }
    /// The server connected to, or last connected to.
    pub fn server(&self) -> ServerInfo {
        let i = self.shared.client.server_info();
        ServerInfo {
            name: i.server_name,
            version: i.version,
            host: i.host,
            port: i.port,
            max_payload: i.max_payload,
            jetstream: i.jetstream,
            cluster: i.cluster,
        }
    }
    /// The counters since the bus was opened.
    pub fn metrics(&self) -> MetricsSnapshot {
        self.shared.metrics.snapshot()
    }

    /// A producer for one topic. The first message looks up, or declares, the topic's stream.
    pub fn producer(&self, topic: &str, config: ProducerConfig) -> Result<Producer> {
        self.open_or_closed()?;
        Producer::open(&self.shared, topic, config)
    }

    /// A consumer of a topic for a group.
    pub async fn consumer(&self, topic: &str, config: ConsumerConfig) -> Result<Consumer> {
        self.open_or_closed()?;
        Consumer::open(&self.shared, topic, config).await
    }

    /// A responder: it receives the requests on a topic, shared with the other responders of its group. Answer with
    /// [`Consumer::reply`].
    pub async fn respond(&self, topic: &str, group: &str) -> Result<Consumer> {
        self.open_or_closed()?;
        let config = ConsumerConfig { group: group.to_owned(), ..ConsumerConfig::default() };
        Consumer::open_core(&self.shared, topic, config).await
    }

    /// The dead letters of a topic and a group. This call does not ask the server. `stream` is the stream of a group that
    /// reads one by name ([`ConsumerConfig::stream`]).
    ///
    /// # Errors
    /// `Config` without JetStream.
    pub fn dead_letters(&self, topic: &str, group: &str, stream: Option<&str>) -> Result<DeadLetters> {
        self.open_or_closed()?;
        DeadLetters::open(&self.shared, topic, group, stream)
    }

    /// Removes failed consumers from [`health`](Self::health), all of them or those of a topic and a group. Returns how
    /// many it removed.
    pub fn dismiss(&self, topic: Option<&str>, group: Option<&str>) -> usize {
        let mut failed = self.shared.failed_consumers.lock();
        let before = failed.len();
        failed.retain(|c| topic.is_some_and(|t| t != c.topic) || group.is_some_and(|g| g != c.group));
        before - failed.len()
    }

    /// Sends a request and waits for its reply.
    ///
    /// # Errors
    /// `NoResponders` at once when no responder listens; `Timeout`; `RequestFailed` with the responder's message.
    pub async fn request(
        &self,
        topic: &str,
        body: &[u8],
        options: &SendOptions,
        timeout: Duration,
    ) -> Result<Delivery> {
        let (done, rx) = Completion::task();
        self.start_request(topic, body, options, timeout, done)?;
        match rx.await {
            Ok(Body::Reply(result)) => result.map(|delivery| *delivery),
            _ => Err(Error::closed("bus")),
        }
    }

    /// Hosts: starts a request. `done` receives its reply.
    pub fn start_request(
        &self,
        topic: &str,
        body: &[u8],
        options: &SendOptions,
        timeout: Duration,
        done: Completion,
    ) -> Result<()> {
        self.open_or_closed()?;
        self.shared.start_request(topic, body, options, timeout, done)
    }

    /// Opens a key-value bucket, or creates it when `create` says how. A bucket that exists stays as it is.
    ///
    /// # Errors
    /// `NotFound` without `create` when there is none; `Conflict` when it exists with other settings; `NotSupported` for a
    /// setting that the server does not have.
    pub async fn kv(&self, bucket: &str, create: Option<KvConfig>) -> Result<Kv> {
        self.open_or_closed()?;
        Kv::open(&self.shared, bucket, create).await
    }

    /// All streams.
    pub async fn streams(&self) -> Result<Vec<StreamInfo>> {
        self.shared.streams(None).await
    }
    /// A stream by name. This call does not ask the server.
    pub fn stream(&self, name: &str) -> Stream {
        Stream { shared: self.shared.clone(), name: name.to_owned() }
    }
    /// Declares a stream over these subjects with the platform's settings, or finds the existing one.
    ///
    /// # Errors
    /// `Conflict` when a stream of that name stores other subjects.
    pub async fn declare_stream(&self, name: &str, subjects: &[String]) -> Result<StreamInfo> {
        self.shared.declare_stream(name, subjects).await
    }

    /// Returns buffered messages, waits up to `drain_timeout` for handlers, unsettled sends and acks, then disconnects.
    pub async fn close(&self) -> Result<()> {
        let s = &self.shared;
        if s.closed.load(Ordering::Acquire) {
            return Ok(());
        }
        let until = Instant::now() + s.config.drain_timeout;
        let consumers: Vec<_> = s.consumers.lock().drain(..).filter_map(|w| w.upgrade()).collect();
        consumers.iter().for_each(|c| c.stop());
        for c in &consumers {
            c.close().await;
        }
        // Runs end by the same time. They then get a moment to return their unfinished messages.
        for c in &consumers {
            let mut runs = c.runs();
            let _ = tokio::time::timeout_at((until + RETURN_TIME).into(), runs.wait_for(|n| *n == 0)).await;
        }
        // Retries continue while the connection comes and goes. Polling ends with the last outcome or at the deadline.
        while Instant::now() < until {
            if s.pipeline.state().is_idle() {
                break;
            }
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        if s.link.is_connected() {
            let left = until.saturating_duration_since(Instant::now()).min(Duration::from_secs(2));
            if let Err(e) = s.round_trip(left.max(Duration::from_millis(1))).await {
                tracing::warn!(error = %e, "the last messages may not have reached the server");
            }
        }
        let unseen = s.pipeline.state().all_unreported();
        if let Some(e) = unseen {
            let text = format!("sends failed, and no flush or on_error reported them: {e}");
            s.link.notice(&Notice::warning(NoticeKind::FailuresUnseen, text));
        }
        s.closed.store(true, Ordering::Release);
        s.link.close();
        s.pipeline.change(|state| state.close(&mut Post::default()));
        // The client's drain comes last, because it ends the connection.
        if let Err(e) = s.client.drain().await {
            tracing::debug!(error = %e, "disconnecting");
        }
        s.tasks.lock().abort_all();
        match &s.local {
            Some(server) => server.leave().await,
            None => Ok(()),
        }
    }

    pub(crate) fn open_or_closed(&self) -> Result<()> {
        match self.state() {
            State::Closed => Err(self.shared.link.failure().unwrap_or_else(|| Error::closed("bus"))),
            _ => Ok(()),
        }
    }
}
