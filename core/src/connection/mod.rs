//! One connection: its client, its state, and how the rest of the bus learns of changes.
//!
//! It never retries messages; the pipeline does.

mod address;
mod control;
mod denial;
mod dial;
mod events;
#[cfg(any(test, feature = "fuzzing"))]
pub(crate) mod fuzz;
mod link;
mod options;
mod sign_in;
mod tls;

pub(crate) use denial::{Cause, Denied};
pub use events::{Event, EventKind, Events};
pub use link::State;
pub(crate) use link::{Link, LinkObserver, Reaction};

use crate::{
    config::Config,
    error::{Error, ErrorKind, Result},
    observe::Metrics,
};
use async_nats::{Client, ServerAddr};
use std::{sync::Arc, time::Duration};

/// A connected client and its state.
#[derive(Debug)]
pub(crate) struct Connection {
    pub(crate) client: Client,
    pub(crate) link: Arc<Link>,
    pub(crate) warnings: Vec<String>,
}

impl Connection {
    pub(crate) async fn open(config: &Config, metrics: Arc<Metrics>) -> Result<Self> {
        let link = Link::new(metrics);
        let seen = link.clone();
        let options::Plan { options, pool, sign_in, warnings } = options::build(config, link.clone())?;
        warnings.iter().for_each(|w| tracing::warn!("{w}"));
        let options = options.event_callback(move |event| {
            seen.on_event(&event);
            std::future::ready(())
        });
        if config.retry_on_initial_connect {
            let client = options.connect(pool.as_slice()).await.map_err(|e| options::explain(&e, config))?;
            return Ok(Self { client, link, warnings });
        }
        sign_in.prepare().await.map_err(|e| Error::new(ErrorKind::Auth, e))?;
        let known = resolved(&pool, config).await?;
        let this = Self {
            client: options.connect(known.as_slice()).await.map_err(|e| options::explain(&e, config))?,
            link,
            warnings,
        };
        let begun = async {
            if known.len() < pool.len() {
                // A host name that does not resolve now may resolve later.
                let _ = this.client.set_server_pool(pool.as_slice()).await;
            }
            let all = this.client.server_pool().await.unwrap_or_default();
            if let Some(server) = all.into_iter().find(|s| s.did_connect) {
                this.link.set_peer(&address::shown(&server.addr));
            }
            // The client sends its event a moment after it connects. Wait for it, so that the state is correct.
            let _ = this.link.watch().wait_for(|e| *e > 0).await;
            Ok(())
        };
        this.unless_refused(config.connect_timeout, begun).await?;
        Ok(this)
    }

    /// Runs the first calls on a connection. A server may accept a connection and then end it with an auth error, which
    /// becomes the error of these calls.
    pub(crate) async fn unless_refused(
        &self,
        timeout: Duration,
        work: impl Future<Output = Result<()>>,
    ) -> Result<()> {
        let events = self.link.events();
        let refused = async {
            loop {
                match events.next().await {
                    Some(e) if e.kind == EventKind::AuthFailed => return e.cause.unwrap_or_default(),
                    Some(_) => {}
                    None => std::future::pending().await,
                }
            }
        };
        tokio::select! {
            biased;
            cause = refused => {
                let text = "the server refused the credentials: they are expired, revoked or wrong";
                Err(Error::new(ErrorKind::Auth, text).server(cause))
            }
            done = tokio::time::timeout(timeout, work) => done.unwrap_or_else(|_| {
                Err(Error::new(ErrorKind::Connection, "the connection was lost while it was being set up"))
            }),
        }
    }
}

/// The servers whose names can be resolved within `connect_timeout`; an error when none can.
async fn resolved(pool: &[ServerAddr], config: &Config) -> Result<Vec<ServerAddr>> {
    let timeout = config.connect_timeout;
    let asked: Vec<_> = pool
        .iter()
        .map(|addr| {
            let addr = addr.clone();
            tokio::spawn(async move { address::resolves(&addr, timeout).await.map(|()| addr) })
        })
        .collect();
    let (mut known, mut why) = (Vec::new(), String::new());
    for one in asked {
        match one.await {
            Ok(Ok(addr)) => known.push(addr),
            Ok(Err(e)) => why = e,
            Err(e) => why = e.to_string(),
        }
    }
    if known.is_empty() {
        let text = format!("{why} ({})", config.servers);
        return Err(Error::new(ErrorKind::Connection, text));
    }
    Ok(known)
}
