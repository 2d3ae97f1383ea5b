//! From settings to the client's options, and from the client's errors to ours.
//!
//! Owns what the client is told: addresses without secrets, credentials, TLS, ping and reconnect policy.

use super::{Link, State};
use crate::{
    config::{Config, Secret},
    error::{Error, ErrorKind, Result},
};
use async_nats::{Auth, AuthError, ConnectError, ConnectErrorKind, ConnectOptions, ServerAddr};
use std::{path::Path, sync::Arc, time::Duration};

/// Room between the pipeline and the client: enough for the largest batch, so that a batch is handed over at once.
const CLIENT_CAPACITY: usize = 8192;
const FOREVER: Duration = Duration::from_secs(10 * 365 * 86_400);
const SUBSCRIPTION_CAPACITY: usize = 1 << 19;

/// One address of the pool, without its secrets.
struct Address {
    addr: ServerAddr,
    user: Option<(String, Option<String>)>,
    tls: bool,
}

fn parse(text: &str) -> Result<Address> {
    // Secrets may stand in the address, so it is never repeated in the error.
    let shown = text.rsplit('@').next().unwrap_or_default();
    let bad = |why: &str| {
        Error::config(format!("servers: {shown:?} {why}: write nats://host:4222 or tls://host:4222"))
    };
    let scheme = text.split_once("://").map_or("nats", |(s, _)| s);
    if !matches!(scheme, "nats" | "tls") {
        return Err(bad("has a scheme that is not supported"));
    }
    let full = if text.contains("://") { text.to_owned() } else { format!("nats://{text}") };
    let mut url = url::Url::parse(&full).map_err(|_| bad("is not an address"))?;
    if url.host_str().is_none_or(str::is_empty) {
        return Err(bad("has no host"));
    }
    if !matches!(url.path(), "" | "/") || url.query().is_some() || url.fragment().is_some() {
        return Err(bad("has more than a host and a port"));
    }
    let decode = |s: &str| percent_encoding::percent_decode_str(s).decode_utf8_lossy().into_owned();
    let user = (!url.username().is_empty()).then(|| (decode(url.username()), url.password().map(decode)));
    let stripped = url.set_username("").and_then(|()| url.set_password(None));
    stripped.map_err(|()| bad("is not an address"))?;
    let addr = url.as_str().parse().map_err(|_| bad("is not an address"))?;
    Ok(Address { addr, user, tls: scheme == "tls" })
}

fn addresses(config: &Config) -> Result<Vec<Address>> {
    let found: Vec<_> = config
        .servers
        .split(',')
        .map(str::trim)
        .filter(|s| !s.is_empty())
        .map(parse)
        .collect::<Result<_>>()?;
    if found.is_empty() {
        return Err(Error::config(
            "servers is empty: give at least one address, such as nats://127.0.0.1:4222",
        ));
    }
    Ok(found)
}

pub(super) fn build(config: &Config, link: Arc<Link>) -> Result<(ConnectOptions, Vec<ServerAddr>)> {
    let found = addresses(config)?;
    let sign_in = SignIn::of(config, &found)?;
    // Errors of files show at once, not on a connection attempt that would be repeated for ever.
    sign_in.auth(b"").map_err(Error::config)?;
    let sign_in = Arc::new(sign_in);
    let mut options = ConnectOptions::with_auth_callback(move |nonce| {
        let sign_in = sign_in.clone();
        // Files are read again on every reconnect: rotated credentials are picked up.
        async move { sign_in.auth(&nonce).map_err(AuthError::new) }
    });
    let (servers, backoff) = (found.len(), config.reconnect.clone());
    options = options
        .name(&config.name)
        .connection_timeout(config.connect_timeout)
        .ping_interval(config.ping_interval)
        .client_capacity(CLIENT_CAPACITY)
        .subscription_capacity(SUBSCRIPTION_CAPACITY)
        .request_timeout(None)
        .skip_subject_validation(true)
        .max_reconnects(None)
        .reconnect_delay_callback(move |attempts| {
            // After a close during an outage the client would dial for ever: let it rest instead.
            let closed = link.state() == State::Closed;
            if closed { FOREVER } else { reconnect_delay(&backoff, attempts, servers, fastrand::f64()) }
        });
    if config.retry_on_initial_connect {
        options = options.retry_on_initial_connect();
    }
    if config.tls.is_some() || found.iter().any(|a| a.tls) {
        options = options.require_tls(true);
    }
    if let Some(tls) = &config.tls {
        for file in [&tls.ca, &tls.cert, &tls.key].into_iter().flatten() {
            readable(file, "tls")?;
        }
        if let Some(ca) = &tls.ca {
            options = options.add_root_certificates(ca.clone());
        }
        if let (Some(cert), Some(key)) = (&tls.cert, &tls.key) {
            options = options.add_client_certificate(cert.clone(), key.clone());
        }
    }
    Ok((options, found.into_iter().map(|a| a.addr).collect()))
}

/// No wait in the first round through the pool, then the backoff, once per round.
fn reconnect_delay(backoff: &crate::Backoff, attempts: usize, servers: usize, random: f64) -> Duration {
    let (round, place) =
        (attempts.saturating_sub(1) / servers.max(1), attempts.saturating_sub(1) % servers.max(1));
    match (round, place) {
        (0, _) => Duration::ZERO,
        (_, 1..) => Duration::from_millis(10),
        (n, 0) => backoff.delay(u32::try_from(n - 1).unwrap_or(u32::MAX), random),
    }
}

fn readable(file: &Path, setting: &str) -> Result<String> {
    std::fs::read_to_string(file)
        .map_err(|e| Error::config(format!("{setting}: the file {} cannot be read: {e}", file.display())))
}

/// The one way to sign in.
enum SignIn {
    Nothing,
    User(String, Secret),
    Token(Secret),
    Nkey(Secret),
    Jwt(Secret, Secret),
    File(std::path::PathBuf),
}

impl SignIn {
    fn of(config: &Config, pool: &[Address]) -> Result<Self> {
        let secret = |s: &Option<Secret>| s.clone().unwrap_or_default();
        let explicit = if let Some(file) = &config.credentials {
            Self::File(file.clone())
        } else if config.jwt.is_some() {
            Self::Jwt(secret(&config.jwt), secret(&config.nkey))
        } else if config.nkey.is_some() {
            Self::Nkey(secret(&config.nkey))
        } else if let Some(user) = &config.user {
            Self::User(user.clone(), secret(&config.password))
        } else if config.token.is_some() {
            Self::Token(secret(&config.token))
        } else {
            Self::Nothing
        };
        let mut in_urls = pool.iter().filter_map(|a| a.user.as_ref());
        let Some(first) = in_urls.next() else { return Ok(explicit) };
        if !matches!(explicit, Self::Nothing) || in_urls.any(|other| other != first) {
            return Err(Error::config(
                "servers: the addresses hold credentials that differ from the others given",
            ));
        }
        Ok(match first {
            (user, Some(password)) => Self::User(user.clone(), password.as_str().into()),
            (token, None) => Self::Token(token.as_str().into()),
        })
    }

    /// What to tell the server, reading files afresh. Errors never hold what was read.
    fn auth(&self, nonce: &[u8]) -> std::result::Result<Auth, String> {
        let mut auth = Auth::new();
        match self {
            Self::Nothing => {}
            Self::User(user, password) => {
                auth.username = Some(user.clone());
                auth.password = Some(password.reveal().to_owned());
            }
            Self::Token(token) => auth.token = Some(token.reveal().to_owned()),
            Self::Nkey(seed) => {
                let pair = key_pair(seed.reveal())?;
                auth.nkey = Some(pair.public_key());
                auth.signature = Some(sign(&pair, nonce)?);
            }
            Self::Jwt(jwt, seed) => {
                auth.jwt = Some(jwt.reveal().trim().to_owned());
                auth.signature = Some(sign(&key_pair(seed.reveal())?, nonce)?);
            }
            Self::File(path) => {
                let text = readable(path, "credentials").map_err(|e| e.message().to_owned())?;
                let part = |kind: &str| pem_part(&text, kind);
                let missing = |what: &str| format!("credentials: {} holds no {what}", path.display());
                auth.jwt = Some(part("NATS USER JWT").ok_or_else(|| missing("user JWT"))?.to_owned());
                let seed = part("USER NKEY SEED").ok_or_else(|| missing("nkey seed"))?;
                auth.signature = Some(sign(&key_pair(seed)?, nonce)?);
            }
        }
        Ok(auth)
    }
}

/// The line between `-----BEGIN kind-----` and its end.
fn pem_part<'a>(text: &'a str, kind: &str) -> Option<&'a str> {
    let begin = format!("-----BEGIN {kind}-----");
    let after = &text[text.find(&begin)? + begin.len()..];
    after.lines().map(str::trim).find(|l| !l.is_empty()).filter(|l| !l.starts_with('-'))
}

/// A seed, or the path of a file that holds one.
fn key_pair(seed_or_path: &str) -> std::result::Result<nkeys::KeyPair, String> {
    let given = seed_or_path.trim();
    if let Ok(pair) = nkeys::KeyPair::from_seed(given) {
        return Ok(pair);
    }
    // What looks like a mistyped seed is not shown, not even as a path.
    let text = std::fs::read_to_string(given).map_err(|_| {
        "nkey (NATS_NKEY_SEED) is neither a valid seed nor the path of a readable file".to_owned()
    })?;
    let line = text.lines().map(str::trim).find(|l| l.starts_with('S')).unwrap_or_default();
    nkeys::KeyPair::from_seed(line)
        .map_err(|_| "nkey (NATS_NKEY_SEED): the file holds no valid seed".to_owned())
}

fn sign(pair: &nkeys::KeyPair, nonce: &[u8]) -> std::result::Result<Vec<u8>, String> {
    pair.sign(nonce).map_err(|_| "nkey: the seed cannot sign".to_owned())
}

/// Whether TLS failed, also where the client reports it as an I/O error.
fn is_tls(e: &ConnectError) -> bool {
    let source = std::error::Error::source(e).and_then(|s| s.downcast_ref::<std::io::Error>());
    let inner = source.and_then(std::io::Error::get_ref);
    e.kind() == ConnectErrorKind::Tls
        || inner.and_then(|i| i.downcast_ref::<async_nats::rustls::Error>()).is_some()
}

/// The client's error as ours, naming the servers.
pub(super) fn explain(e: &ConnectError, config: &Config) -> Error {
    let shown: Vec<_> = config.servers.split(',').filter_map(|s| s.trim().rsplit('@').next()).collect();
    let (kind, what) = match e.kind() {
        ConnectErrorKind::AuthorizationViolation | ConnectErrorKind::Authentication => {
            (ErrorKind::Auth, "the server refused the credentials: check user, password, token or keys")
        }
        _ if is_tls(e) => (ErrorKind::Tls, "the TLS handshake failed: check the certificates"),
        ConnectErrorKind::ServerParse => (ErrorKind::Config, "servers is not a list of addresses"),
        ConnectErrorKind::Dns => (ErrorKind::Connection, "the host name cannot be resolved"),
        ConnectErrorKind::TimedOut => (ErrorKind::Connection, "no server answered in time"),
        _ => (ErrorKind::Connection, "no server could be reached: is nats-server running there?"),
    };
    let source = std::error::Error::source(e).map(ToString::to_string);
    let error = Error::new(kind, format!("{what} ({})", shown.join(", ")));
    match source {
        Some(text) => error.server(text),
        None => error,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn config(servers: &str) -> Config {
        Config { servers: servers.into(), ..Config::default() }
    }

    #[test]
    fn addresses_lose_their_secrets() {
        let pool = |c: &Config| addresses(c).map(|all| all.into_iter().map(|a| a.addr).collect::<Vec<_>>());
        let found = pool(&config("nats://u:hunter2@a:4222, b:4223,tls://c")).unwrap();
        assert_eq!(found.len(), 3);
        assert!(!format!("{found:?}").contains("hunter2"));
        for bad in
            ["", " , ", "http://a", "nats://", "nats://a:99999", "nats://u:hunter2@a:4222/x?y", "nats://a b"]
        {
            let e = pool(&config(bad)).unwrap_err();
            assert_eq!(e.kind(), ErrorKind::Config, "{bad}");
            assert!(!e.to_string().contains("hunter2"));
        }
    }

    #[test]
    fn credentials_in_addresses_must_agree() {
        let sign_in = |servers: &str| SignIn::of(&config(servers), &addresses(&config(servers)).unwrap());
        assert!(matches!(sign_in("nats://u:p@a,nats://u:p@b").unwrap(), SignIn::User(..)));
        assert!(matches!(sign_in("nats://tok@a").unwrap(), SignIn::Token(_)));
        assert!(sign_in("nats://u:p@a,nats://v:p@b").is_err());
    }

    #[test]
    fn reconnecting_waits_once_per_round() {
        let b = crate::Backoff { jitter: 0.0, ..crate::Backoff::default() };
        let waits: Vec<_> = (1..=6).map(|n| reconnect_delay(&b, n, 2, 0.5).as_millis()).collect();
        assert_eq!(waits, [0, 0, 100, 10, 200, 10]);
    }

    #[test]
    fn mistyped_seeds_are_not_shown() {
        let seed = "SUACH75SWCM5D2JMJM6EKLR2WDARVGZT4QC6LX3AGHSWOMVAKERABBBRWM";
        assert!(!key_pair(seed).err().unwrap_or_default().contains(seed));
    }
}
