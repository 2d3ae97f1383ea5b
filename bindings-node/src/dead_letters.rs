//! Dead letters.

use crate::convert;
use napi::{Env, bindgen_prelude::*};
use napi_derive::napi;

/// The dead letters of a topic and a group.
#[napi]
pub struct DeadLetters(nats_eventbus::DeadLetters);

impl DeadLetters {
    pub(crate) fn new(inner: nats_eventbus::DeadLetters) -> Self {
        Self(inner)
    }
}

#[napi]
impl DeadLetters {
    /// The first letter behind a position, or null.
    #[napi(catch_unwind, ts_return_type = "Promise<DeadLetter | null>")]
    pub fn next_after<'env>(&self, env: &'env Env, position: f64) -> Result<Object<'env>> {
        let of = self.0.clone();
        convert::promise(env, async move {
            let found = of.next_after(convert::whole_number(position)).await?;
            Ok(found.map(|letter| DeadLetter { letter, of }))
        })
    }
    /// The last position there is now.
    #[napi(catch_unwind, ts_return_type = "Promise<number>")]
    pub fn last<'env>(&self, env: &'env Env) -> Result<Object<'env>> {
        let letters = self.0.clone();
        convert::promise(env, async move { Ok(letters.last().await? as f64) })
    }
    /// Replays all there are now; how many.
    #[napi(catch_unwind, ts_return_type = "Promise<number>")]
    pub fn replay<'env>(&self, env: &'env Env) -> Result<Object<'env>> {
        let letters = self.0.clone();
        convert::promise(env, async move { Ok(letters.replay_all().await? as f64) })
    }
    /// Removes all there are now; how many.
    #[napi(catch_unwind, ts_return_type = "Promise<number>")]
    pub fn discard<'env>(&self, env: &'env Env) -> Result<Object<'env>> {
        let letters = self.0.clone();
        convert::promise(env, async move { Ok(letters.discard_all().await? as f64) })
    }
}

/// A message that could not be handled.
#[napi]
pub struct DeadLetter {
    letter: nats_eventbus::DeadLetter,
    of: nats_eventbus::DeadLetters,
}

/// What a dead letter holds.
#[napi(object, object_from_js = false)]
pub struct DeadLetterParts {
    /// Its sequence among the dead letters.
    pub position: f64,
    /// The topic it was sent to.
    pub topic: String,
    /// The stream it is from.
    pub stream: String,
    /// Its sequence there.
    pub sequence: f64,
    /// The group that could not handle it.
    pub group: String,
    /// What the last attempt failed with.
    pub reason: String,
    /// Attempts made.
    pub attempts: f64,
    /// How often handlers failed on it, or died with it.
    pub failures: f64,
    /// When it became a dead letter: Unix time in milliseconds.
    pub time: f64,
    /// The key it was sent with.
    pub key: Option<String>,
    /// The id it was sent with.
    pub id: Option<String>,
    /// Name, value, name, value.
    pub headers: Vec<String>,
    /// Its body.
    pub body: Buffer,
    /// The size of a body that was not kept.
    pub truncated: Option<f64>,
}

#[napi]
impl DeadLetter {
    /// What it holds.
    #[napi(catch_unwind)]
    pub fn parts(&self) -> DeadLetterParts {
        let l = &self.letter;
        DeadLetterParts {
            position: l.position as f64,
            topic: l.topic.clone(),
            stream: l.stream.clone(),
            sequence: l.sequence as f64,
            group: l.group.clone(),
            reason: l.reason.clone(),
            attempts: l.attempts as f64,
            failures: l.failures as f64,
            time: l.time_ms as f64,
            key: l.key.clone(),
            id: l.id.clone(),
            headers: l.headers.iter().flat_map(|(name, value)| [name.clone(), value.clone()]).collect(),
            body: l.body.to_vec().into(),
            truncated: l.truncated.map(|n| n as f64),
        }
    }
    /// Sends it to its group again; then it is removed.
    #[napi(catch_unwind, ts_return_type = "Promise<void>")]
    pub fn replay<'env>(&self, env: &'env Env) -> Result<Object<'env>> {
        let (of, letter) = (self.of.clone(), self.letter.clone());
        convert::promise(env, async move { of.replay(&letter).await })
    }
    /// Removes it. False when it was removed already.
    #[napi(catch_unwind, ts_return_type = "Promise<boolean>")]
    pub fn discard<'env>(&self, env: &'env Env) -> Result<Object<'env>> {
        let (of, letter) = (self.of.clone(), self.letter.clone());
        convert::promise(env, async move { of.discard(&letter).await })
    }
}
