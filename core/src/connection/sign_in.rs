//! Authentication. Credentials are read again for every connection, so that rotated ones take effect.
//!
//! No error here contains what was read.

use super::address::Address;
use crate::{
    config::{Config, Credentials, CredentialsSource, Secret},
    error::{Error, Result},
};
use async_nats::Auth;
use parking_lot::Mutex;
use std::{
    path::{Path, PathBuf},
    time::Duration,
};

/// The method of signing in.
#[derive(Clone, Debug)]
enum Method {
    Nothing,
    User(String, Secret),
    Token(Secret),
    Nkey(Secret),
    Jwt(Secret, Secret),
    File(PathBuf),
    /// The text of a credentials file.
    Text(Secret),
}

/// How to sign in.
#[derive(Debug)]
pub(super) struct SignIn {
    method: Method,
    source: Option<CredentialsSource>,
    /// What the callback gave last.
    from_callback: Mutex<Option<Method>>,
    /// How long the callback may take.
    timeout: Duration,
}

impl Method {
    fn of(c: Credentials) -> Result<Self> {
        let one = |more: bool, method: Self| {
            let text = "credentials: several ways to sign in are given: keep one";
            if more { Err(Error::config(text)) } else { Ok(method) }
        };
        match c {
            Credentials { file: Some(text), user, password, token, nkey, jwt } => {
                let more = user.is_some() || [password, token, nkey, jwt].iter().any(Option::is_some);
                one(more, Self::Text(text))
            }
            Credentials { user: Some(user), password: Some(password), token, nkey, jwt, .. } => {
                one([token, nkey, jwt].iter().any(Option::is_some), Self::User(user, password))
            }
            Credentials { user: None, password: None, nkey: Some(seed), jwt, token, .. } => one(
                token.is_some(),
                jwt.map_or_else(|| Self::Nkey(seed.clone()), |jwt| Self::Jwt(jwt, seed.clone())),
            ),
            Credentials { user: None, password: None, nkey: None, jwt: None, token: Some(token), .. } => {
                Ok(Self::Token(token))
            }
            _ => Err(Error::config(
                "credentials: give user and password, token, nkey, jwt and nkey, or the text of a credentials file",
            )),
        }
    }

    /// What the server gets. Files are read again.
    fn auth(&self, nonce: &[u8]) -> Result<Auth, String> {
        let mut auth = Auth::new();
        let mut by_file = |text: &str, whose: &str| {
            let part = |kind: &str| pem_part(text, kind);
            let missing = |what: &str| format!("credentials: {whose} holds no {what}");
            let jwt = part("NATS USER JWT").ok_or_else(|| missing("user JWT"))?.to_owned();
            let seed = part("USER NKEY SEED").ok_or_else(|| missing("nkey seed"))?;
            let pair = nkeys::KeyPair::from_seed(seed).map_err(|_| missing("valid nkey seed"))?;
            (auth.jwt, auth.signature) = (Some(jwt), Some(sign(&pair, nonce)?));
            Ok::<_, String>(())
        };
        match self {
            Self::File(path) => {
                let text = readable(path, "credentials").map_err(|e| e.message().to_owned())?;
                by_file(&text, &path.display().to_string())?;
            }
            Self::Text(text) => by_file(text.reveal(), "the text given")?,
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
        }
        Ok(auth)
    }
}

impl SignIn {
    pub(super) fn of(config: &Config, pool: &[Address]) -> Result<Self> {
        let secret = |s: &Option<Secret>| s.clone().unwrap_or_default();
        let explicit = if let Some(file) = &config.credentials {
            Method::File(file.clone())
        } else if config.jwt.is_some() {
            Method::Jwt(secret(&config.jwt), secret(&config.nkey))
        } else if config.nkey.is_some() {
            Method::Nkey(secret(&config.nkey))
        } else if let Some(user) = &config.user {
            Method::User(user.clone(), secret(&config.password))
        } else if config.token.is_some() {
            Method::Token(secret(&config.token))
        } else {
            Method::Nothing
        };
        let (source, timeout) = (config.credentials_from.clone(), config.api_timeout);
        let given = source.is_some() || !matches!(explicit, Method::Nothing);
        if source.is_some() && !matches!(explicit, Method::Nothing) {
            let text = "credentials are asked for by a callback, and given: keep one way to sign in";
            return Err(Error::config(text));
        }
        let mut in_urls = pool.iter().filter_map(|a| a.user.as_ref());
        let method = match in_urls.next() {
            None => explicit,
            Some(first) if given || in_urls.any(|other| other != first) => {
                return Err(Error::config(
                    "servers: the addresses hold credentials that differ from the others given",
                ));
            }
            Some((user, Some(password))) => Method::User(user.clone(), password.as_str().into()),
            Some((token, None)) => Method::Token(token.as_str().into()),
        };
        let this = Self { method, source, from_callback: Mutex::default(), timeout };
        if this.source.is_none() {
            // A wrong file must fail now, not in connection attempts that repeat for ever.
            this.method.auth(b"").map_err(Error::config)?;
        }
        Ok(this)
    }

    /// Asks the callback, if there is one. Call it before every attempt.
    pub(super) async fn prepare(&self) -> Result<(), String> {
        let Some(source) = &self.source else { return Ok(()) };
        let method = match tokio::time::timeout(self.timeout, source.ask()).await {
            Err(_) => Err(format!("the callback gave no answer within {:?} (api_timeout)", self.timeout)),
            Ok(Err(e)) => Err(format!("the callback failed: {}", e.message())),
            Ok(Ok(credentials)) => Method::of(credentials).map_err(|e| e.message().to_owned()),
        };
        let method =
            method.and_then(|w| w.auth(b"").map(|_| w)).map_err(|e| format!("authentication: {e}"))?;
        *self.from_callback.lock() = Some(method);
        Ok(())
    }

    pub(super) fn auth(&self, nonce: &[u8]) -> Result<Auth, String> {
        let method = self.from_callback.lock().clone().unwrap_or_else(|| self.method.clone());
        method.auth(nonce)
    }

    /// Whether the secret itself goes to the server, not only a signature.
    pub(super) fn reveals(&self) -> bool {
        self.source.is_some() || matches!(self.method, Method::User(..) | Method::Token(_))
    }

    /// The secrets files that other users of this machine can read.
    pub(super) fn exposed_files(&self) -> Vec<PathBuf> {
        let file = match &self.method {
            Method::File(path) => Some(path.clone()),
            Method::Nkey(seed) | Method::Jwt(_, seed) => Some(PathBuf::from(seed.reveal().trim())),
            _ => None,
        };
        file.into_iter().filter(|f| is_exposed(f)).collect()
    }
}

#[cfg(unix)]
pub(super) fn is_exposed(file: &Path) -> bool {
    use std::os::unix::fs::PermissionsExt;
    std::fs::metadata(file).is_ok_and(|m| m.is_file() && m.permissions().mode() & 0o077 != 0)
}
#[cfg(not(unix))]
pub(super) fn is_exposed(_: &Path) -> bool {
    false
}

pub(super) fn readable(file: &Path, setting: &str) -> Result<String> {
    std::fs::read_to_string(file)
        .map_err(|e| Error::config(format!("{setting}: the file {} cannot be read: {e}", file.display())))
}

/// The line between `-----BEGIN kind-----` and its end.
fn pem_part<'a>(text: &'a str, kind: &str) -> Option<&'a str> {
    let begin = format!("-----BEGIN {kind}-----");
    let after = &text[text.find(&begin)? + begin.len()..];
    after.lines().map(str::trim).find(|l| !l.is_empty()).filter(|l| !l.starts_with('-'))
}

/// Reads a seed, or a file that contains one.
fn key_pair(seed_or_path: &str) -> Result<nkeys::KeyPair, String> {
    let given = seed_or_path.trim();
    if let Ok(pair) = nkeys::KeyPair::from_seed(given) {
        return Ok(pair);
    }
    // This may be a mistyped seed, so the error does not show it, not even as a path.
    let text = std::fs::read_to_string(given).map_err(|_| {
        "nkey (NATS_NKEY_SEED) is neither a valid seed nor the path of a readable file".to_owned()
    })?;
    seed_in(&text).ok_or_else(|| "nkey (NATS_NKEY_SEED): the file holds no valid seed".to_owned())
}

/// The seed in a file's text.
fn seed_in(text: &str) -> Option<nkeys::KeyPair> {
    let line = text.lines().map(str::trim).find(|l| l.starts_with('S'))?;
    nkeys::KeyPair::from_seed(line).ok()
}

/// Parses the text of a credentials file, for the fuzz targets: the JWT, or why there is none.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn parse_credentials(text: &str) -> Result<Option<String>, String> {
    let _ = seed_in(text);
    Method::Text(text.into()).auth(b"nonce").map(|auth| auth.jwt)
}

fn sign(pair: &nkeys::KeyPair, nonce: &[u8]) -> Result<Vec<u8>, String> {
    pair.sign(nonce).map_err(|_| "nkey: the seed cannot sign".to_owned())
}

#[cfg(test)]
mod tests {
    use super::{super::address::addresses, *};
    use serde_json::json;

    #[test]
    fn credentials_in_addresses_must_agree() {
        let sign_in = |servers: &str| {
            let config = Config { servers: servers.into(), ..Config::default() };
            SignIn::of(&config, &addresses(&config).unwrap()).map(|s| s.method)
        };
        assert!(matches!(sign_in("nats://u:p@a,nats://u:p@b").unwrap(), Method::User(..)));
        assert!(matches!(sign_in("nats://tok@a").unwrap(), Method::Token(_)));
        assert!(sign_in("nats://u:p@a,nats://v:p@b").is_err());
    }

    #[test]
    fn mistyped_seeds_are_not_shown() {
        let seed = "SUACH75SWCM5D2JMJM6EKLR2WDARVGZT4QC6LX3AGHSWOMVAKERABBBRWM";
        assert!(!key_pair(seed).err().unwrap_or_default().contains(seed));
    }

    #[test]
    fn what_a_callback_may_give() {
        for (given, good) in [
            (json!({"user": "u", "password": "p"}), true),
            (json!({"token": "t"}), true),
            (json!({"nkey": "s"}), true),
            (json!({"nkey": "s", "jwt": "j"}), true),
            (json!("-----BEGIN NATS USER JWT-----"), true),
            (json!({"user": "u"}), false),
            (json!({"jwt": "j"}), false),
            (json!({"token": "t", "user": "u", "password": "p"}), false),
            (json!({"nkey": "s", "token": "t"}), false),
            (json!({}), false),
            (json!(7), false),
            (json!({"secret": "hunter2"}), false),
        ] {
            let method = Credentials::read(given.clone()).and_then(Method::of);
            assert_eq!(method.is_ok(), good, "{given}");
            assert!(method.is_ok() || !method.unwrap_err().to_string().contains("hunter2"));
        }
    }
}
