//! From settings to the client's options, and from the client's errors to ours.
//!
//! Owns what the client gets: addresses without secrets, credentials, TLS, ping and reconnect policy.

use super::{
    Link,
    address::{Address, addresses, is_loopback, needs_tls, shown},
    dial::{Dialler, Next},
    sign_in::{SignIn, is_exposed},
    tls,
};
use crate::{
    config::Config,
    error::{Error, ErrorKind, Result},
};
use async_nats::rustls::Error as TlsError;
use async_nats::{AuthError, ConnectError, ConnectErrorKind, ConnectOptions, ReconnectToServer, ServerAddr};
use std::{sync::Arc, time::Duration};

/// The capacity between the pipeline and the client. It holds the largest batch, so that a hand-over does not wait.
const CLIENT_CAPACITY: usize = 8192;
const SUBSCRIPTION_CAPACITY: usize = 1 << 19;

/// What a connection needs to start.
pub(super) struct Plan {
    pub(super) options: ConnectOptions,
    pub(super) pool: Vec<ServerAddr>,
    pub(super) sign_in: Arc<SignIn>,
    /// Settings that are allowed and unwise.
    pub(super) warnings: Vec<String>,
}

pub(super) fn build(config: &Config, link: Arc<Link>) -> Result<Plan> {
    let found = addresses(config)?;
    let sign_in = Arc::new(SignIn::of(config, &found)?);
    let warnings = warnings(config, &found, &sign_in);
    let dialler = Arc::new(Dialler::new(config, link, sign_in.clone()));
    let signer = sign_in.clone();
    let mut options = ConnectOptions::with_auth_callback(move |nonce| {
        let signer = signer.clone();
        async move { signer.auth(&nonce).map_err(AuthError::new) }
    });
    options = options
        .name(&config.name)
        .connection_timeout(config.connect_timeout)
        .ping_interval(config.ping_interval)
        .client_capacity(CLIENT_CAPACITY)
        .subscription_capacity(SUBSCRIPTION_CAPACITY)
        .custom_inbox_prefix(&config.inbox_prefix)
        .request_timeout(None)
        .skip_subject_validation(true)
        .max_reconnects(None)
        // This applies to the very first round only, in which no server waits for another.
        .reconnect_delay_callback(|_| Duration::ZERO)
        .reconnect_to_server_callback(move |pool, _| {
            let dialler = dialler.clone();
            // In a task of its own, because the client needs a `Sync` future.
            let asked = tokio::spawn(async move { dialler.next(pool).await });
            async move {
                match asked.await {
                    Ok(Next::Dial(addr)) => Some(ReconnectToServer { addr, delay: Some(Duration::ZERO) }),
                    Ok(Next::All) => None,
                    Ok(Next::Stop) | Err(_) => end_client_task().await,
                }
            }
        });
    if config.retry_on_initial_connect {
        options = options.retry_on_initial_connect();
    }
    // Servers announce their other ports, which a WebSocket client cannot use.
    if !config.discovered_servers || found.iter().any(|a| a.addr.is_websocket()) {
        options = options.ignore_discovered_servers();
    }
    if needs_tls(config, &found) {
        options = options.require_tls(true);
    }
    options = tls::apply(options, config)?;
    let pool = found.into_iter().map(|a| a.addr).collect();
    Ok(Plan { options, pool, sign_in, warnings })
}

/// Ends the client's task, which offers no other way to stop dialling. It unwinds without a panic message. When panics
/// abort, the task waits for ever instead.
async fn end_client_task() -> Option<ReconnectToServer> {
    if cfg!(panic = "unwind") {
        std::panic::resume_unwind(Box::new("the connection is closed"));
    }
    std::future::pending().await
}

fn warnings(config: &Config, pool: &[Address], sign_in: &SignIn) -> Vec<String> {
    let key = config.tls.as_ref().and_then(|t| t.key.clone()).filter(|k| is_exposed(k));
    let exposed = sign_in.exposed_files().into_iter().chain(key);
    let mut all: Vec<_> = exposed
        .map(|f| format!("the file {} holds a secret and is open to others: chmod 600 it", f.display()))
        .collect();
    if sign_in.reveals() && !needs_tls(config, pool) {
        let far: Vec<_> = pool.iter().map(|a| &a.addr).filter(|a| !is_loopback(a)).map(shown).collect();
        if !far.is_empty() {
            let text = "credentials may go unencrypted to {}: write tls:// (wss://), or set require_tls";
            all.push(text.replace("{}", &far.join(", ")));
        }
    }
    all
}

/// Whether TLS failed. The client may report that as an I/O error.
fn is_tls(e: &ConnectError) -> bool {
    let is = |e: &(dyn std::error::Error + 'static)| {
        let inner = e.downcast_ref::<std::io::Error>().and_then(std::io::Error::get_ref);
        e.is::<TlsError>() || inner.and_then(|i| i.downcast_ref::<TlsError>()).is_some()
    };
    let mut sources = std::iter::successors(std::error::Error::source(e), |e| e.source());
    e.kind() == ConnectErrorKind::Tls || sources.any(is)
}

/// Converts the client's error into ours, with the list of servers.
pub(super) fn explain(e: &ConnectError, config: &Config) -> Error {
    let source = std::error::Error::source(e).map(ToString::to_string);
    let (kind, what) = match e.kind() {
        ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => {
            (ErrorKind::Auth, "the server refused the credentials: check user, password, token or keys")
        }
        _ if source.as_deref().is_some_and(super::denial::is_auth) => {
            (ErrorKind::Auth, "the server refused the credentials: they are expired, revoked or wrong")
        }
        _ if is_tls(e) => (ErrorKind::Tls, "the TLS handshake failed: check the certificates"),
        ConnectErrorKind::ServerParse => (ErrorKind::Config, "servers is not a list of addresses"),
        ConnectErrorKind::Dns => (ErrorKind::Connection, "the host name cannot be resolved"),
        ConnectErrorKind::TimedOut => (ErrorKind::Connection, "no server answered in time"),
        _ => (ErrorKind::Connection, "no server could be reached: is nats-server running there?"),
    };
    let error = Error::new(kind, format!("{what} ({})", config.servers));
    match source {
        Some(text) => error.server(text),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn unencrypted_credentials_cause_a_warning() {
        for (servers, tls, warned) in [
            ("nats://u:hunter2@10.0.0.1", false, true),
            ("nats://u:hunter2@127.0.0.1", false, false),
            ("tls://u:hunter2@10.0.0.1", false, false),
            ("nats://u:hunter2@10.0.0.1", true, false),
            ("nats://10.0.0.1", false, false),
            ("ws://u:hunter2@10.0.0.1", false, true),
        ] {
            let config = Config { servers: servers.into(), require_tls: tls, ..Config::default() };
            let pool = addresses(&config).unwrap();
            let all = warnings(&config, &pool, &SignIn::of(&config, &pool).unwrap());
            assert_eq!(all.len(), usize::from(warned), "{servers} {all:?}");
            assert!(all.iter().all(|w| w.contains("10.0.0.1:") && !w.contains("hunter2")), "{all:?}");
        }
    }
}
