//! Every setting, declared once: default, unit, environment variable, validation.
//!
//! Hosts hand over JSON with the names below (Node in camelCase and milliseconds, see [`from_host`](crate::host::from_host)); absent means
//! the default written here, unknown names are errors. Secrets are never printed: [`Secret`] hides them.

mod consumer;
mod credentials;
mod producer;
mod secret;

pub use consumer::{ConsumerConfig, Deliver, Order};
pub use credentials::{Credentials, CredentialsSource, Question, Servers};
pub use producer::ProducerConfig;
pub use secret::Secret;

use crate::{
    error::{Error, Result},
    host::{
        schema::{choices, settings},
        settings::{decode, object},
    },
};
use std::{path::PathBuf, time::Duration};

settings! {
    /// How waiting grows between tries: exponential, jittered, capped.
    pub struct Backoff {
        /// The first wait. Default 0.1 s.
        initial: Duration = Duration::from_millis(100),
        /// The longest wait. Default 8 s.
        max: Duration = Duration::from_secs(8),
        /// What each wait is multiplied by for the next. Default 2.
        factor: f64 = 2.0,
        /// The share of a wait that is random, 0 to 1. Default 0.2: a wait of 1 s lasts 0.8 to 1.2 s.
        jitter: f64 = 0.2,
        /// Reconnecting: how many times all servers are tried before it is given up. Default: for ever.
        attempts: Option<u32> = None,
    }
}

impl Backoff {
    /// The wait before try number `attempt` (from 0), with `random` in 0..1 deciding the jitter.
    pub fn delay(&self, attempt: u32, random: f64) -> Duration {
        let exponent = i32::try_from(attempt).unwrap_or(i32::MAX);
        let base = (self.initial.as_secs_f64() * self.factor.powi(exponent)).min(self.max.as_secs_f64());
        let jittered = base * (1.0 + self.jitter * (2.0 * random - 1.0));
        Duration::from_secs_f64(jittered.clamp(0.0, self.max.as_secs_f64().max(0.0)))
    }
    fn check(&self, name: &str) -> Result<()> {
        if !(self.factor.is_finite() && self.factor >= 1.0) {
            return Err(Error::config(format!("{name}.factor is {}: it must be 1 or more", self.factor)));
        }
        if !(0.0..=1.0).contains(&self.jitter) {
            return Err(Error::config(format!(
                "{name}.jitter is {}: it must be between 0 and 1",
                self.jitter
            )));
        }
        if self.initial > self.max {
            return Err(Error::config(format!("{name}.initial is longer than {name}.max")));
        }
        if self.attempts == Some(0) {
            return Err(Error::config(format!("{name}.attempts is 0: give 1 or more, or none for ever")));
        }
        Ok(())
    }
}

settings! {
    /// TLS files, in PEM, read again for every connection: renewed ones are picked up.
    pub struct Tls {
        /// The authority to trust, instead of the system's.
        ca: Option<PathBuf> = None,
        /// The client's certificate; needs `key`.
        cert: Option<PathBuf> = None,
        /// The client's private key; needs `cert`.
        key: Option<PathBuf> = None,
        /// Whether TLS begins before the server's greeting (its `handshake_first`). Default false.
        first: bool = false,
        /// The name the servers' certificates must be for; the name sent to them (SNI) stays the host dialled. Default: the
        /// host dialled.
        server_name: Option<String> = None,
    }
}

choices! {
    /// Which streams are declared for topics that none stores.
    pub enum StreamLayout {
        /// One stream a topic, as the platform's own services do. Each reserves 1 GiB.
        Topic = "topic",
        /// One stream for each of `coze.workflow.>`, `coze.agent.>` and `coze.knowledge.>`; other topics have one each.
        Family = "family",
    }
}

settings! {
    /// Settings of a connection.
    pub struct Config {
        /// Addresses, comma-separated: `nats://`, `tls://`, `ws://`, `wss://`, or `local://DIR`. Environment: `NATS_SERVER_URL`, else
        /// `MQ_NAME_SERVER`. Default `nats://127.0.0.1:4222`.
        servers: Servers = "nats://127.0.0.1:4222".into(),
        /// Connection name shown by the server. Default `nats-eventbus`.
        name: String = "nats-eventbus".into(),
        /// Whether messages are stored and acked. Environment: `NATS_USE_JETSTREAM`. Default false; true for `local://`.
        jetstream: bool = false,
        /// User name; needs `password`. Environment: `NATS_USERNAME`.
        user: Option<String> = None,
        /// Password; needs `user`. Environment: `NATS_PASSWORD`.
        password: Option<Secret> = None,
        /// Token. Environment: `NATS_TOKEN`.
        token: Option<Secret> = None,
        /// `NKey` seed, or the path of a file that holds it. Environment: `NATS_NKEY_SEED`.
        nkey: Option<Secret> = None,
        /// User JWT; needs `nkey`. Environment: `NATS_JWT_TOKEN`.
        jwt: Option<Secret> = None,
        /// Path of a credentials file (JWT and seed), read again on every reconnect.
        credentials: Option<PathBuf> = None,
        /// Certificates; given at all, TLS is required of every server.
        tls: Option<Tls> = None,
        /// Whether every server, discovered ones included, must be spoken to encrypted; `tls://` anywhere in the pool and
        /// `tls` say so, too. Default false.
        require_tls: bool = false,
        /// Waiting between reconnects. They continue for ever unless `attempts` is given.
        reconnect: Backoff = Backoff::default(),
        /// Whether servers that a server tells of are used besides those given; never with `ws://`. Default true.
        discovered_servers: bool = true,
        /// The topic under which answers come to us; must be allowed to be subscribed. Default `_INBOX`.
        inbox_prefix: String = "_INBOX".into(),
        /// How long one connection attempt may take. Default 2 s.
        connect_timeout: Duration = Duration::from_secs(2),
        /// Whether `connect` waits in the background for a first server instead of failing. Default false.
        retry_on_initial_connect: bool = false,
        /// How often a silent server is asked for a sign of life; after three times it is taken for dead. Default 6 s.
        ping_interval: Duration = Duration::from_secs(6),
        /// Whether missing streams are declared. Default true.
        declare: bool = true,
        /// Replicas of streams declared here. Environment: `NATS_STREAM_REPLICAS`. Default 1.
        replicas: usize = 1,
        /// The JetStream domain to use, behind a leaf node. Environment: `NATS_JS_DOMAIN`. Default: the connected server's.
        domain: Option<String> = None,
        /// The subject under which another account's JetStream API is imported, instead of `$JS.API`. Environment:
        /// `NATS_JS_API_PREFIX`. Not together with `domain`.
        api_prefix: Option<String> = None,
        /// Which streams are declared: one a topic, or one a family of topics. Environment: `NATS_STREAM_LAYOUT`. Default
        /// `topic`.
        stream_layout: StreamLayout = StreamLayout::Topic,
        /// How long an administrative call (stream and consumer look-up) may take. Default 5 s.
        api_timeout: Duration = Duration::from_secs(5),
        /// How long closing may wait for unsettled sends and running handlers. Default 30 s.
        drain_timeout: Duration = Duration::from_secs(30),
    }
    hidden {
        /// Asked for credentials before every connection, instead of any of the above. Not a setting by name: see
        /// [`load_with`](Self::load_with).
        credentials_from: Option<CredentialsSource>,
    }
}

const CREDENTIAL_FIELDS: [&str; 6] = ["user", "password", "token", "nkey", "jwt", "credentials"];

impl Config {
    /// Explicit settings over the environment over the defaults.
    ///
    /// `explicit` is what the caller gave, under the names of the fields; `env` looks a variable up.
    ///
    /// # Errors
    /// `Config`, naming the setting that is unknown, malformed, half-given or contradictory.
    pub fn load(explicit: serde_json::Value, env: impl Fn(&str) -> Option<String>) -> Result<Self> {
        Self::load_with(explicit, env, None)
    }

    /// The same with a callback that is asked for credentials, which takes the place of those in the environment.
    ///
    /// # Errors
    /// `Config` also when credentials are given besides.
    pub fn load_with(
        explicit: serde_json::Value,
        env: impl Fn(&str) -> Option<String>,
        credentials_from: Option<CredentialsSource>,
    ) -> Result<Self> {
        let mut given = object(explicit)?;
        let env = |name: &str| env(name).filter(|v| !v.is_empty());
        let set = |map: &mut serde_json::Map<_, _>, field: &str, value: Option<String>| {
            if let (Some(value), false) = (value, map.contains_key(field)) {
                map.insert(field.to_owned(), value.into());
            }
        };
        if let Some(kind) = env("COZE_MQ_TYPE").filter(|k| k != "nats") {
            return Err(Error::config(format!(
                "COZE_MQ_TYPE is {kind:?}, and this bus speaks only \"nats\": set it to \"nats\" or unset it"
            )));
        }
        set(&mut given, "servers", env("NATS_SERVER_URL").or_else(|| env("MQ_NAME_SERVER")));
        // Credentials are taken from one place only, so that a leftover variable never mixes with explicit ones.
        let in_url = given.get("servers").and_then(|s| s.as_str()).is_some_and(|s| s.contains('@'));
        if !in_url && credentials_from.is_none() && !CREDENTIAL_FIELDS.iter().any(|f| given.contains_key(*f))
        {
            environment_credentials(&env, &mut given);
        }
        if let (Some(text), false) = (env("NATS_USE_JETSTREAM"), given.contains_key("jetstream")) {
            let on = match text.to_ascii_lowercase().as_str() {
                "true" | "1" | "yes" | "on" => true,
                "false" | "0" | "no" | "off" => false,
                _ => {
                    return Err(Error::config(format!(
                        "NATS_USE_JETSTREAM is {text:?}: set it to true or false"
                    )));
                }
            };
            given.insert("jetstream".into(), on.into());
        }
        if let (Some(text), false) = (env("NATS_STREAM_REPLICAS"), given.contains_key("replicas")) {
            let n: usize = text.parse().map_err(|_| {
                Error::config(format!("NATS_STREAM_REPLICAS is {text:?}: set it to a number from 1 to 5"))
            })?;
            given.insert("replicas".into(), n.into());
        }
        // A domain given by hand is not mixed with a prefix of the environment.
        if !["domain", "api_prefix"].iter().any(|f| given.contains_key(*f)) {
            set(&mut given, "domain", env("NATS_JS_DOMAIN"));
            set(&mut given, "api_prefix", env("NATS_JS_API_PREFIX"));
        }
        if let (Some(text), false) = (env("NATS_STREAM_LAYOUT"), given.contains_key("stream_layout")) {
            if !["topic", "family"].contains(&text.as_str()) {
                let text = format!("NATS_STREAM_LAYOUT is {text:?}: set it to \"topic\" or \"family\"");
                return Err(Error::config(text));
            }
            given.insert("stream_layout".into(), text.into());
        }
        let local = given.get("servers").and_then(|s| s.as_str()).is_some_and(|s| s.starts_with("local://"));
        if local && !given.contains_key("jetstream") {
            given.insert("jetstream".into(), true.into());
        }
        let config = Self { credentials_from, ..decode(given)? };
        config.check()?;
        Ok(config)
    }

    fn check(&self) -> Result<()> {
        let half = |a: bool, b: bool, have: &str, need: &str| match (a, b) {
            (true, false) => Err(Error::config(format!("{have} is given without {need}: give both"))),
            _ => Ok(()),
        };
        half(
            self.user.is_some(),
            self.password.is_some(),
            "user (NATS_USERNAME)",
            "password (NATS_PASSWORD)",
        )?;
        half(
            self.password.is_some(),
            self.user.is_some(),
            "password (NATS_PASSWORD)",
            "user (NATS_USERNAME)",
        )?;
        half(self.jwt.is_some(), self.nkey.is_some(), "jwt (NATS_JWT_TOKEN)", "nkey (NATS_NKEY_SEED)")?;
        let ways: Vec<&str> = [
            ("credentials", self.credentials.is_some()),
            ("nkey", self.nkey.is_some()),
            ("user and password", self.user.is_some()),
            ("token", self.token.is_some()),
            ("a callback for credentials", self.credentials_from.is_some()),
        ]
        .iter()
        .filter_map(|(name, on)| on.then_some(*name))
        .collect();
        if ways.len() > 1 {
            return Err(Error::config(format!(
                "{} are both given: keep one way to sign in",
                ways.join(" and ")
            )));
        }
        if let Some(tls) = &self.tls {
            half(tls.cert.is_some(), tls.key.is_some(), "tls.cert", "tls.key")?;
            half(tls.key.is_some(), tls.cert.is_some(), "tls.key", "tls.cert")?;
        }
        if !(1..=5).contains(&self.replicas) {
            return Err(Error::config(format!("replicas is {}: a stream has 1 to 5", self.replicas)));
        }
        for (name, d) in [("connect_timeout", self.connect_timeout), ("ping_interval", self.ping_interval)] {
            if d.is_zero() {
                return Err(Error::config(format!("{name} is 0: give a time above 0")));
            }
        }
        crate::topic::check_inbox_prefix(&self.inbox_prefix)?;
        if self.domain.is_some() && self.api_prefix.is_some() {
            let text = "domain (NATS_JS_DOMAIN) and api_prefix (NATS_JS_API_PREFIX) are both given: keep one, for a domain is a prefix";
            return Err(Error::config(text));
        }
        self.domain.as_deref().map_or(Ok(()), crate::topic::check_domain)?;
        self.api_prefix.as_deref().map_or(Ok(()), crate::topic::check_api_prefix)?;
        self.reconnect.check("reconnect")
    }
}

/// The variables that may hold a secret.
pub(crate) const SECRET_VARIABLES: [&str; 5] =
    ["NATS_JWT_TOKEN", "NATS_NKEY_SEED", "NATS_PASSWORD", "NATS_TOKEN", "NATS_SERVER_URL"];

/// The platform's precedence: JWT and seed (or seed alone), else user and password, else token.
fn environment_credentials(
    env: &impl Fn(&str) -> Option<String>,
    given: &mut serde_json::Map<String, serde_json::Value>,
) {
    let mut put = |pairs: &[(&str, &str)]| {
        let found: Vec<_> = pairs.iter().filter_map(|(f, v)| Some((*f, env(v)?))).collect();
        let any = !found.is_empty();
        given.extend(found.into_iter().map(|(f, v)| (f.to_owned(), v.into())));
        any
    };
    let _ = put(&[("jwt", "NATS_JWT_TOKEN"), ("nkey", "NATS_NKEY_SEED")])
        || put(&[("user", "NATS_USERNAME"), ("password", "NATS_PASSWORD")])
        || put(&[("token", "NATS_TOKEN")]);
}

#[cfg(test)]
mod tests;
