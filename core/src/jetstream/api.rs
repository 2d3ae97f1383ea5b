//! The JetStream API: the subject of a call, one function that makes calls, and what its errors mean.

use super::codes;
use crate::{
    bus::shared::Shared,
    config::Config,
    error::{Error, ErrorKind, Result},
    publish::pipeline::ApiError,
};
use serde::{Deserialize, de::DeserializeOwned};
use serde_json::Value;
use std::{
    sync::atomic::Ordering,
    time::{Duration, Instant},
};

/// The wait before another attempt, when no leader took a call.
const RETRY_DELAY: Duration = Duration::from_millis(100);

/// The subject of a call, under the domain or prefix of the settings.
pub(crate) fn subject(config: &Config, call: &str) -> String {
    match (&config.domain, &config.api_prefix) {
        (Some(domain), _) => format!("$JS.{domain}.API.{call}"),
        (None, Some(prefix)) => format!("{prefix}.{call}"),
        (None, None) => format!("$JS.API.{call}"),
    }
}

/// Whether the settings address a JetStream other than the connected server's.
fn is_elsewhere(config: &Config) -> bool {
    config.domain.is_some() || config.api_prefix.is_some()
}

/// The error when the server has no JetStream.
pub(crate) fn without_jetstream() -> Error {
    let text = "JetStream is not enabled on this server: start it with -js, or set jetstream to false; where it is behind a leaf node or in another account, set domain or api_prefix";
    Error::new(ErrorKind::NotFound, text)
}

/// The error when nothing answers under the prefix of the settings: the prefix is wrong, or the link is down.
pub(crate) fn nothing_there(config: &Config) -> Error {
    let text = match (&config.domain, &config.api_prefix) {
        (Some(domain), _) => format!(
            "no JetStream answers in the domain {domain:?}: check domain (NATS_JS_DOMAIN), and that the leaf node is connected"
        ),
        (None, Some(prefix)) => format!(
            "no JetStream answers under {prefix:?}: check api_prefix (NATS_JS_API_PREFIX), and what the other account exports"
        ),
        (None, None) => "JetStream has no leader now".to_owned(),
    };
    Error::new(ErrorKind::Connection, text)
}

/// Converts the error of a call into one of our kinds.
fn api_error(e: &ApiError) -> Error {
    let (kind, text) = match (e.err_code, e.code) {
        (codes::NOT_ENABLED | codes::NOT_ENABLED_FOR_ACCOUNT, _) => (
            ErrorKind::NotFound,
            "JetStream is not enabled for this account: enable it, or set jetstream to false",
        ),
        (codes::STREAM_NAME_IN_USE | codes::SUBJECTS_OVERLAP | codes::CONSUMER_EXISTS, _) => {
            (ErrorKind::Conflict, "another stream or consumer conflicts with it")
        }
        (_, 404) => (ErrorKind::NotFound, "the stream or consumer does not exist"),
        (code, _) if is_out_of_room(code) => (ErrorKind::Config, "the server has no room for the stream"),
        (_, 503) => (ErrorKind::Connection, "JetStream cannot answer now"),
        _ => (ErrorKind::Config, "the server refused the stream or consumer"),
    };
    Error::new(kind, text).server(&*e.description).err_code_of(e.err_code)
}

/// Whether a stream is refused because storage, memory or servers are short.
pub(crate) fn is_out_of_room(code: u64) -> bool {
    matches!(
        code,
        codes::NO_SUITABLE_PEERS
            | codes::ACCOUNT_LIMITS
            | codes::INSUFFICIENT_RESOURCES
            | codes::MEMORY_EXCEEDED
            | codes::STORAGE_EXCEEDED
    )
}

/// The result of one attempt of a call.
enum Attempt {
    Answer(Value),
    /// A leader may answer soon.
    Retry(Error),
}

impl Shared {
    /// Makes one JetStream API call. Retries while the cluster has no leader, until `api_timeout`.
    pub(crate) async fn api<T: DeserializeOwned>(&self, call: &str, body: &Value) -> Result<T> {
        let until = Instant::now() + self.config.api_timeout;
        let body = if body.is_null() { Vec::new() } else { body.to_string().into_bytes() };
        loop {
            let left = until.saturating_duration_since(Instant::now()).max(Duration::from_millis(1));
            let error = match self.try_api(call, &body, left).await? {
                Attempt::Answer(value) => {
                    return serde_json::from_value(value).map_err(|e| unreadable(call, &e));
                }
                Attempt::Retry(error) => error,
            };
            if Instant::now() + RETRY_DELAY > until {
                return Err(error);
            }
            tokio::time::sleep(RETRY_DELAY).await;
        }
    }

    async fn try_api(&self, call: &str, body: &[u8], timeout: Duration) -> Result<Attempt> {
        let reply = match self.pipeline.request(subject(&self.config, call), body, timeout).await {
            Ok(reply) => reply,
            Err(e) if e.kind() == ErrorKind::NoResponders => {
                if !is_elsewhere(&self.config) && !self.client.server_info().jetstream {
                    return Err(without_jetstream());
                }
                return Ok(Attempt::Retry(nothing_there(&self.config)));
            }
            Err(e) if e.kind() == ErrorKind::Timeout => {
                let text = format!("JetStream did not answer {call} in time");
                return Err(Error::new(ErrorKind::Timeout, text));
            }
            Err(e) => return Err(e),
        };
        let value: Value = serde_json::from_slice(&reply.body).map_err(|e| unreadable(call, &e))?;
        let Some(refused) = value.get("error") else { return Ok(Attempt::Answer(value)) };
        let refused = ApiError::deserialize(refused).map_err(|e| unreadable(call, &e))?;
        match api_error(&refused) {
            e if e.kind() == ErrorKind::Connection => Ok(Attempt::Retry(e)),
            e => Err(e),
        }
    }

    /// Stores a message of our own and waits for the server's ack.
    pub(crate) async fn store(&self, topic: String, body: &[u8]) -> Result<()> {
        let named = |e: Error| e.topic(&*topic);
        let reply =
            self.pipeline.request(topic.clone(), body, self.config.api_timeout).await.map_err(named)?;
        let answer: Value =
            serde_json::from_slice(&reply.body).map_err(|e| named(unreadable("a publish", &e)))?;
        match answer.get("error").map(ApiError::deserialize) {
            Some(Ok(e)) => Err(named(api_error(&e))),
            Some(Err(e)) => Err(named(unreadable("a publish", &e))),
            None => Ok(()),
        }
    }

    /// The account info. None when the server denies `$JS.API.INFO`.
    pub(crate) async fn account(&self) -> Result<Option<serde_json::Value>> {
        let epoch = self.link.epoch();
        if self.account_denied_on.load(Ordering::Relaxed) == epoch {
            return Ok(None);
        }
        match self.api("INFO", &serde_json::Value::Null).await {
            Err(e)
                if e.kind() == ErrorKind::Permission
                    && e.topic_name() == Some(&*subject(&self.config, "INFO")) =>
            {
                self.account_denied_on.store(epoch, Ordering::Relaxed);
                Ok(None)
            }
            asked => asked.map(Some),
        }
    }

    /// The level of the server's API: 0 before 2.11, and where the right to ask is missing.
    pub(crate) async fn api_level(&self) -> Result<u64> {
        let account = self.account().await?.unwrap_or_default();
        Ok(account["api"]["level"].as_u64().unwrap_or_default())
    }

    /// Checks on connecting that JetStream is there. If nothing answers under `domain` or `api_prefix` now, the setting is
    /// taken for wrong.
    pub(crate) async fn check_jetstream(&self) -> Result<()> {
        match self.account().await {
            // No other call needs permission on `$JS.API.INFO`. Without it, trust the `jetstream` flag in INFO.
            Ok(None) if !is_elsewhere(&self.config) && !self.client.server_info().jetstream => {
                Err(without_jetstream())
            }
            Err(e)
                if e.kind() == ErrorKind::Connection
                    && is_elsewhere(&self.config)
                    && self.link.is_connected() =>
            {
                Err(Error::new(ErrorKind::NotFound, e.message()))
            }
            asked => asked.map(drop),
        }
    }
}

fn unreadable(call: &str, e: &serde_json::Error) -> Error {
    Error::new(ErrorKind::Decode, format!("the answer to {call} cannot be read: {e}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn calls_go_under_the_prefix() {
        let config = |domain: Option<&str>, prefix: Option<&str>| Config {
            domain: domain.map(str::to_owned),
            api_prefix: prefix.map(str::to_owned),
            ..Config::default()
        };
        for (given, want) in [
            (config(None, None), "$JS.API.INFO"),
            (config(Some("hub"), None), "$JS.hub.API.INFO"),
            (config(None, Some("JS.acme")), "JS.acme.INFO"),
        ] {
            assert_eq!(subject(&given, "INFO"), want);
        }
    }

    #[test]
    fn a_refusal_for_lack_of_room_is_final_and_keeps_its_code() {
        for err_code in [10_005, 10_023, 10_028, 10_047] {
            let e = api_error(&ApiError { code: 503, err_code, description: "no".into() });
            assert!(!e.retryable() && e.err_code() == Some(err_code), "{e}");
        }
        assert_eq!(
            api_error(&ApiError { code: 503, err_code: 10_008, description: "x".into() }).kind(),
            ErrorKind::Connection
        );
    }
}
