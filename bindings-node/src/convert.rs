//! JavaScript values to the core's: tokens, times, settings, send options; and core futures to promises.

use crate::errors::{OrRaise, raise, text};
use napi::{Env, Status, bindgen_prelude::*};
use napi_derive::napi;
use nats_eventbus::{
    Error, ErrorKind, SendOptions,
    duration::{self, Unit},
    host::{schema::Typed, settings},
    runtime,
};
use serde::de::DeserializeOwned;
use std::time::Duration;

/// A time: milliseconds, or a text such as `"30s"`.
pub(crate) type Time = Either<f64, String>;

fn config(message: String) -> napi::Error {
    raise(&Error::new(ErrorKind::Config, message))
}

/// A whole number of JavaScript's: what it counts calls by, a sequence.
#[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)] // saturates; ours are whole and from 0 on
pub(crate) fn whole_number(n: f64) -> u64 {
    n as u64
}

/// The halves of a delivery's token, which does not fit a double.
#[allow(clippy::cast_possible_truncation)] // halves
pub(crate) fn halves(token: u64) -> (u32, u32) {
    (token as u32, (token >> 32) as u32)
}

/// A delivery's token from its halves.
pub(crate) fn whole(low: u32, high: u32) -> u64 {
    u64::from(high) << 32 | u64::from(low)
}

pub(crate) fn time(value: &Time, name: &str) -> napi::Result<Duration> {
    match value {
        Either::A(ms) => duration::from_number(*ms, Unit::Milliseconds),
        Either::B(text) => duration::parse(text),
    }
    .map_err(|e| config(format!("{name}: {e}")))
}

/// A time in milliseconds, whichever way it was written.
#[napi(catch_unwind)]
pub fn milliseconds(value: Either<f64, String>, name: String) -> napi::Result<f64> {
    Ok(time(&value, &name)?.as_secs_f64() * 1e3)
}

/// The JSON text of an object.
pub(crate) fn object(json: Option<&str>) -> napi::Result<serde_json::Value> {
    let read = serde_json::from_str(json.unwrap_or("null"));
    read.map_err(|e| config(format!("settings: {e}")))
}

pub(crate) fn set<T: Typed + DeserializeOwned>(json: &str) -> napi::Result<T> {
    settings(object(Some(json))?, Unit::Milliseconds).or_raise()
}

/// Builds a topic from its tokens.
#[napi(catch_unwind)]
pub fn topic(tokens: Vec<String>) -> napi::Result<String> {
    nats_eventbus::topic(&tokens).or_raise()
}

/// What may go with a body.
#[napi(object, object_to_js = false)]
#[derive(Default)]
pub struct Extras {
    /// Orders messages.
    pub key: Option<String>,
    /// Deduplicates messages.
    pub id: Option<String>,
    /// Name, value, name, value.
    pub headers: Option<Vec<String>>,
    /// How long the stream keeps the message.
    pub ttl: Option<Either<f64, String>>,
    /// The sequence the stream's last message must have.
    pub expected_last_sequence: Option<f64>,
    /// The sequence the topic's last message must have.
    pub expected_last_subject_sequence: Option<f64>,
}

pub(crate) fn send_options(extras: Option<Extras>) -> napi::Result<SendOptions> {
    let Some(given) = extras else { return Ok(SendOptions::default()) };
    let mut pairs = given.headers.unwrap_or_default().into_iter();
    Ok(SendOptions {
        key: given.key,
        id: given.id,
        headers: std::iter::from_fn(|| Some((pairs.next()?, pairs.next()?))).collect(),
        ttl: given.ttl.map(|t| time(&t, "ttl")).transpose()?,
        expected_last_sequence: given.expected_last_sequence.map(whole_number),
        expected_last_subject_sequence: given.expected_last_subject_sequence.map(whole_number),
    })
}

/// A core future as a promise. It runs on the core's runtime; a panic in it is a rejection.
pub(crate) fn promise<T, F>(env: &Env, future: F) -> napi::Result<Object<'_>>
where
    T: ToNapiValue + Send + 'static,
    F: Future<Output = nats_eventbus::Result<T>> + Send + 'static,
{
    let (deferred, promise) = env.create_deferred()?;
    let handle = runtime::handle();
    let task = handle.spawn(future);
    handle.spawn(async move {
        match task.await {
            Ok(Ok(value)) => deferred.resolve(move |_| Ok(value)),
            Ok(Err(e)) => deferred.reject(raise(&e)),
            Err(e) => {
                let e = Error::new(ErrorKind::Internal, format!("a task ended unexpectedly: {e}"));
                deferred.reject(napi::Error::new(Status::GenericFailure, text(&e)));
            }
        }
    });
    Ok(promise)
}
