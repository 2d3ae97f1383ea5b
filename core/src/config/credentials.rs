//! Credentials as a callback gives them.

use super::secret::Secret;
use crate::{
    error::{Error, Result},
    host::schema::{Type, plain},
};
use serde::{Deserialize, Serialize};
use std::{fmt, pin::Pin, sync::Arc};

/// Said instead of an address that may hold a secret.
const HIDDEN: &str = "one of the addresses";

/// The addresses of a pool, printed without the secrets that may stand in them.
#[derive(Clone, PartialEq, Eq, Deserialize)]
#[serde(transparent)]
pub struct Servers(String);

impl Servers {
    /// As given; the caller keeps it out of messages.
    pub fn reveal(&self) -> &str {
        &self.0
    }
    /// The addresses, each with what may be shown of it.
    pub(crate) fn each(&self) -> impl Iterator<Item = (&str, &str)> {
        let parts: Vec<_> = self.0.split(',').map(str::trim).collect();
        // A comma in a secret cuts an address in two, and only the second has its `@`: what comes before one that
        // has no scheme of its own may be the first half of a secret.
        let mut cut = false;
        let mut shown: Vec<_> = parts
            .iter()
            .rev()
            .map(|part| {
                let hidden = cut;
                cut = (cut || part.contains('@')) && !Self::has_scheme(part);
                if hidden { HIDDEN } else { Self::shown(part) }
            })
            .collect();
        shown.reverse();
        parts.into_iter().zip(shown)
    }
    /// Whether an address begins with its scheme.
    pub(crate) fn has_scheme(address: &str) -> bool {
        address.split_once("://").is_some_and(|(scheme, _)| !scheme.contains('@'))
    }
    /// The host and port of an address: what is neither is not shown.
    fn shown(text: &str) -> &str {
        let host =
            text.split_once("://").map_or(text, |(_, rest)| rest).rsplit('@').next().unwrap_or_default();
        let (name, port) = match host.rsplit_once(':') {
            Some((name, port)) if !name.contains(':') || name.ends_with(']') => (name, port),
            _ => (host, ""),
        };
        let v6 = name.starts_with('[') && name.ends_with(']');
        let plain =
            |c: char| c.is_ascii_alphanumeric() || matches!(c, '.' | '-' | '_') || (v6 && "[:]".contains(c));
        let good = name.chars().all(plain) && port.len() <= 5 && port.bytes().all(|b| b.is_ascii_digit());
        if good { host } else { HIDDEN }
    }
}
plain! { Servers => Type::Text, }

impl From<&str> for Servers {
    fn from(s: &str) -> Self {
        Self(s.to_owned())
    }
}
impl From<String> for Servers {
    fn from(s: String) -> Self {
        Self(s)
    }
}
impl fmt::Display for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if let Some(dir) = self.0.strip_prefix("local://") {
            // A path, and not an address, or a list of them, that may hold a secret.
            let odd = dir.contains("://") || dir.contains('@');
            return f.write_str(if odd { HIDDEN } else { &self.0 });
        }
        let shown: Vec<_> = self.each().map(|(_, shown)| shown).collect();
        f.write_str(&shown.join(", "))
    }
}
impl fmt::Debug for Servers {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:?}", self.to_string())
    }
}
impl Serialize for Servers {
    fn serialize<S: serde::Serializer>(&self, s: S) -> Result<S::Ok, S::Error> {
        s.collect_str(self)
    }
}

/// Credentials: one way to sign in, in the fields of its kind.
#[derive(Clone, Debug, Default, Deserialize)]
#[serde(default, deny_unknown_fields)]
pub struct Credentials {
    /// User name; needs `password`.
    pub user: Option<String>,
    /// Password; needs `user`.
    pub password: Option<Secret>,
    /// Token.
    pub token: Option<Secret>,
    /// `NKey` seed.
    pub nkey: Option<Secret>,
    /// User JWT; needs `nkey`.
    pub jwt: Option<Secret>,
    /// The text of a credentials file.
    pub file: Option<Secret>,
}

impl Credentials {
    /// Reads what a host's callback gave: the fields by name, or the text of a credentials file.
    ///
    /// # Errors
    /// `Config`, never holding what was given.
    pub fn read(given: serde_json::Value) -> Result<Self> {
        if let serde_json::Value::String(text) = &given {
            return Ok(Self { file: Some(text.as_str().into()), ..Self::default() });
        }
        // What serde says may repeat a value.
        serde_json::from_value(given).map_err(|_| {
            Error::config("credentials: give the text of a credentials file, or user, password, token, nkey, jwt by name")
        })
    }
}

type Answer = Pin<Box<dyn Future<Output = Result<Credentials>> + Send>>;

/// Where credentials that change come from: asked before every connection.
#[derive(Clone)]
pub struct CredentialsSource(Arc<dyn Fn() -> Answer + Send + Sync>);

impl CredentialsSource {
    /// A source that calls `f`; it has `api_timeout` to answer.
    pub fn new<F>(f: impl Fn() -> F + Send + Sync + 'static) -> Self
    where
        F: Future<Output = Result<Credentials>> + Send + 'static,
    {
        Self(Arc::new(move || Box::pin(f())))
    }
    /// A source that hands each question on: what it is given answers it, from any thread, at any time.
    pub fn asking(f: impl Fn(Question) + Send + Sync + 'static) -> Self {
        Self::new(move || {
            let (tx, rx) = tokio::sync::oneshot::channel();
            f(Question(tx));
            async { rx.await.unwrap_or_else(|_| Err(Error::config("nobody answers it any more"))) }
        })
    }
    pub(crate) fn ask(&self) -> impl Future<Output = Result<Credentials>> + Send {
        (self.0)()
    }
}

/// A question for credentials under way. Dropped without an answer, the attempt to connect fails.
#[derive(Debug)]
pub struct Question(tokio::sync::oneshot::Sender<Result<Credentials>>);

impl Question {
    /// Ends the wait for it.
    pub fn answer(self, answer: Result<Credentials>) {
        // The one who asked may have lost patience, which is its right.
        let _ = self.0.send(answer);
    }
}

impl PartialEq for CredentialsSource {
    fn eq(&self, other: &Self) -> bool {
        Arc::ptr_eq(&self.0, &other.0)
    }
}

impl fmt::Debug for CredentialsSource {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str("***")
    }
}
