//! Who we are, told to a server: read afresh for every connection, so that rotated credentials are picked up.
//!
//! No error here ever holds what was read.

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

/// The one way to sign in.
#[derive(Clone, Debug)]
enum Way {
    Nothing,
    User(String, Secret),
    Token(Secret),
    Nkey(Secret),
    Jwt(Secret, Secret),
    File(PathBuf),
    /// The text of a credentials file.
    Text(Secret),
}

/// How to sign in, and what was last asked for.
#[derive(Debug)]
pub(super) struct SignIn {
    way: Way,
    source: Option<CredentialsSource>,
    asked: Mutex<Option<Way>>,
    patience: Duration,
}

impl Way {
    fn of(c: Credentials) -> Result<Self> {
        let one = |more: bool, way: Self| {
            let text = "credentials: several ways to sign in are given: keep one";
            if more { Err(Error::config(text)) } else { Ok(way) }
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

    /// What to tell the server, reading files afresh.
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
            Way::File(file.clone())
        } else if config.jwt.is_some() {
            Way::Jwt(secret(&config.jwt), secret(&config.nkey))
        } else if config.nkey.is_some() {
            Way::Nkey(secret(&config.nkey))
        } else if let Some(user) = &config.user {
            Way::User(user.clone(), secret(&config.password))
        } else if config.token.is_some() {
            Way::Token(secret(&config.token))
        } else {
            Way::Nothing
        };
        let (source, patience) = (config.credentials_from.clone(), config.api_timeout);
        let given = source.is_some() || !matches!(explicit, Way::Nothing);
        if source.is_some() && !matches!(explicit, Way::Nothing) {
            let text = "credentials are asked for by a callback, and given: keep one way to sign in";
            return Err(Error::config(text));
        }
        let mut in_urls = pool.iter().filter_map(|a| a.user.as_ref());
        let way = match in_urls.next() {
            None => explicit,
            Some(first) if given || in_urls.any(|other| other != first) => {
                return Err(Error::config(
                    "servers: the addresses hold credentials that differ from the others given",
                ));
            }
            Some((user, Some(password))) => Way::User(user.clone(), password.as_str().into()),
            Some((token, None)) => Way::Token(token.as_str().into()),
        };
        let this = Self { way, source, asked: Mutex::default(), patience };
        if this.source.is_none() {
            // Errors of files show at once, not on a connection attempt that would be repeated for ever.
            this.way.auth(b"").map_err(Error::config)?;
        }
        Ok(this)
    }

    /// Asks the callback, if there is one; to be done before every dialling.
    pub(super) async fn prepare(&self) -> Result<(), String> {
        let Some(source) = &self.source else { return Ok(()) };
        let way = match tokio::time::timeout(self.patience, source.ask()).await {
            Err(_) => Err(format!("the callback gave no answer within {:?} (api_timeout)", self.patience)),
            Ok(Err(e)) => Err(format!("the callback failed: {}", e.message())),
            Ok(Ok(credentials)) => Way::of(credentials).map_err(|e| e.message().to_owned()),
        };
        let way = way.and_then(|w| w.auth(b"").map(|_| w)).map_err(|e| format!("authentication: {e}"))?;
        *self.asked.lock() = Some(way);
        Ok(())
    }

    pub(super) fn auth(&self, nonce: &[u8]) -> Result<Auth, String> {
        let way = self.asked.lock().clone().unwrap_or_else(|| self.way.clone());
        way.auth(nonce)
    }

    /// Whether a secret itself goes over the wire, not only a proof that we have it.
    pub(super) fn reveals(&self) -> bool {
        self.source.is_some() || matches!(self.way, Way::User(..) | Way::Token(_))
    }

    /// The files with secrets that others on this machine can read.
    pub(super) fn exposed_files(&self) -> Vec<PathBuf> {
        let file = match &self.way {
            Way::File(path) => Some(path.clone()),
            Way::Nkey(seed) | Way::Jwt(_, seed) => Some(PathBuf::from(seed.reveal().trim())),
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

/// A seed, or the path of a file that holds one.
fn key_pair(seed_or_path: &str) -> Result<nkeys::KeyPair, String> {
    let given = seed_or_path.trim();
    if let Ok(pair) = nkeys::KeyPair::from_seed(given) {
        return Ok(pair);
    }
    // What looks like a mistyped seed is not shown, not even as a path.
    let text = std::fs::read_to_string(given).map_err(|_| {
        "nkey (NATS_NKEY_SEED) is neither a valid seed nor the path of a readable file".to_owned()
    })?;
    seed_in(&text).ok_or_else(|| "nkey (NATS_NKEY_SEED): the file holds no valid seed".to_owned())
}

/// The seed in the text of a file.
fn seed_in(text: &str) -> Option<nkeys::KeyPair> {
    let line = text.lines().map(str::trim).find(|l| l.starts_with('S'))?;
    nkeys::KeyPair::from_seed(line).ok()
}

/// What is made of the text of a credentials file, for the fuzz targets: the JWT, or what is told of why there is none.
#[cfg(any(test, feature = "fuzzing"))]
pub(super) fn look(text: &str) -> Result<Option<String>, String> {
    let _ = seed_in(text);
    Way::Text(text.into()).auth(b"nonce").map(|auth| auth.jwt)
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
            SignIn::of(&config, &addresses(&config).unwrap()).map(|s| s.way)
        };
        assert!(matches!(sign_in("nats://u:p@a,nats://u:p@b").unwrap(), Way::User(..)));
        assert!(matches!(sign_in("nats://tok@a").unwrap(), Way::Token(_)));
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
            let way = Credentials::read(given.clone()).and_then(Way::of);
            assert_eq!(way.is_ok(), good, "{given}");
            assert!(way.is_ok() || !way.unwrap_err().to_string().contains("hunter2"));
        }
    }
}
