//! One mailbox per bus, and the drain that tells JavaScript many results in one call.
//!
//! Owns the wake-up: one weak threadsafe function, called once per batch. Common results are triples of numbers written
//! into an array that JavaScript keeps; the rare ones (failures, replies, `sendMany`) are objects, asked for separately.

use crate::{
    bus::Bus,
    convert,
    errors::{OrRaise, text},
    pack::{self, Pack},
    results::Results,
};
use napi::{Env, bindgen_prelude::*, threadsafe_function::ThreadsafeFunctionCallMode};
use napi_derive::napi;
use nats_eventbus::{
    Config, Credentials, Error, ErrorKind, PubAck,
    duration::Unit,
    host::{
        Mailbox, from_host,
        mailbox::{Body, Letter},
    },
};
use parking_lot::Mutex;
use std::{path::PathBuf, sync::Arc};

/// Numbers per common result: token, sequence, flags.
const TRIPLE: usize = 3;
/// Flags of a core-mode send, which has no ack.
const SENT: f64 = -1.0;
/// Flags of what is simply done: a flush, a confirmed ack, a consumer that is ready.
const DONE: f64 = -2.0;
/// Flags of a failed message of a `sendMany`; its sequence is the failure's place in `errors`.
const FAILED: f64 = -3.0;

/// An array of JavaScript's, written in place. (By this name, for the derive macro takes `&mut` for a class.)
type Numbers<'a> = &'a mut [f64];

/// What one drain leaves for the calls after it.
#[derive(Default)]
struct Drained {
    letters: Vec<Letter>,
    others: Vec<Other>,
    streams: Vec<Arc<str>>,
}

/// A result that is more than numbers; only the fields that apply are there.
#[napi(object)]
#[derive(Default)]
pub struct Other {
    /// What JavaScript knows the call by.
    pub token: f64,
    /// The failure, as JSON.
    pub error: Option<String>,
    /// A reply.
    pub reply: Option<Pack>,
    /// `sendMany`: sequence and flags of each message.
    pub acks: Option<Float64Array>,
    /// `sendMany`: the failures that `acks` names, as JSON.
    pub errors: Option<Vec<String>>,
    /// The number of a question for credentials.
    pub question: Option<u32>,
}

/// Letters and wake-ups so far.
#[napi(object)]
pub struct BridgeCounts {
    /// Results posted to the event loop.
    pub letters: f64,
    /// Times it was woken for them.
    pub wakes: f64,
}

/// The way results of one bus come to the event loop.
#[napi]
pub struct Bridge {
    results: Arc<Results>,
    drained: Mutex<Drained>,
}

#[napi]
impl Bridge {
    /// `wake` is called on the event loop when there is something to drain; it does not keep the process alive.
    #[napi(constructor)]
    pub fn new(wake: Function<'_, (), ()>) -> Result<Self> {
        let wake = wake.build_threadsafe_function::<()>().callee_handled::<false>().weak::<true>().build()?;
        let mailbox = Mailbox::new(move || {
            // A failure means that the environment is going away.
            wake.call((), ThreadsafeFunctionCallMode::NonBlocking);
        });
        Ok(Self { results: Arc::new(Results::new(mailbox)), drained: Mutex::default() })
    }

    /// Connects: settings as JSON, binaries to try for `local://`, and the token for questions for credentials.
    #[napi(catch_unwind, ts_return_type = "Promise<Bus>")]
    pub fn connect<'env>(
        &self,
        env: &'env Env,
        settings: String,
        candidates: Vec<String>,
        source: Option<f64>,
    ) -> Result<Object<'env>> {
        let settings =
            from_host::<Config>(convert::object(Some(&settings))?, Unit::Milliseconds).or_raise()?;
        let results = self.results.clone();
        let candidates: Vec<_> = candidates.into_iter().map(PathBuf::from).collect();
        let source = source.map(|token| self.results.source(token));
        convert::promise(env, async move {
            let config = Config::load_with(settings, |name| std::env::var(name).ok(), source)?;
            Ok(Bus::new(nats_eventbus::Bus::connect(config, &candidates).await?, results))
        })
    }

    /// Writes triples (token, sequence, flags) into `out` and says how many; -1 - n when others wait, too.
    #[napi(catch_unwind)]
    pub fn drain(&self, #[napi(ts_arg_type = "Float64Array")] out: Numbers<'_>) -> i32 {
        let mut drained = self.drained.lock();
        let drained = &mut *drained;
        self.results.mailbox().drain(out.len() / TRIPLE, &mut drained.letters);
        let mut n = 0;
        for Letter { token, body } in drained.letters.drain(..) {
            if let Some(producer) = self.results.abandoner(token) {
                let failures = match body {
                    Body::Sent(result) => vec![result],
                    Body::Many(results) => results,
                    Body::Done(Err(e)) => vec![Err(e)],
                    _ => Vec::new(),
                };
                failures
                    .into_iter()
                    .filter_map(std::result::Result::err)
                    .for_each(|e| producer.unreported(e));
                continue;
            }
            #[allow(clippy::cast_precision_loss)] // JavaScript gave it as a double
            let token = token as f64;
            let body = match self.results.ask(body) {
                Either::A(question) => {
                    drained.others.push(Other { token, question: Some(question), ..Other::default() });
                    continue;
                }
                Either::B(body) => body,
            };
            match common(&mut drained.streams, body) {
                Either::A((sequence, flags)) => {
                    if let Some(triple) = out.get_mut(n * TRIPLE..(n + 1) * TRIPLE) {
                        triple.copy_from_slice(&[token, sequence, flags]);
                        n += 1;
                    }
                }
                Either::B(body) => drained.others.push(other(&mut drained.streams, token, body)),
            }
        }
        let n = i32::try_from(n).unwrap_or(i32::MAX - 1);
        if drained.others.is_empty() { n } else { -1 - n }
    }

    /// Answers a question for credentials, as JSON.
    #[napi(catch_unwind)]
    pub fn answer(&self, question: u32, given: String) -> Result<()> {
        let unread = |_| Error::new(ErrorKind::Config, "credentials: what the callback gave cannot be read");
        let read = serde_json::from_str(&given).map_err(unread).and_then(Credentials::read);
        let failed = read.as_ref().err().cloned();
        self.results.answer(question, read);
        failed.map_or(Ok(()), Err).or_raise()
    }

    /// There are none, because of this.
    #[napi(catch_unwind)]
    pub fn refuse(&self, question: u32, why: String) {
        self.results.answer(question, Err(Error::new(ErrorKind::Config, why)));
    }

    /// What the last drain had beyond numbers.
    #[napi(catch_unwind)]
    pub fn others(&self) -> Vec<Other> {
        std::mem::take(&mut self.drained.lock().others)
    }

    /// The stream that flags name.
    #[napi(catch_unwind)]
    pub fn stream(&self, index: u32) -> String {
        let drained = self.drained.lock();
        drained.streams.get(index as usize).map(|s| s.as_ref().to_owned()).unwrap_or_default()
    }

    /// For tests of economy.
    #[napi]
    pub fn counts(&self) -> BridgeCounts {
        let (letters, wakes) = self.results.mailbox().counts();
        BridgeCounts { letters: letters as f64, wakes: wakes as f64 }
    }
}

/// Sequence and flags of a result that is numbers only; the others come back.
fn common(streams: &mut Vec<Arc<str>>, body: Body) -> Either<(f64, f64), Body> {
    match body {
        Body::Sent(Ok(ack)) => Either::A(acked(streams, ack.as_ref())),
        Body::Done(Ok(())) | Body::Ready => Either::A((0.0, DONE)),
        other => Either::B(other),
    }
}

/// An ack's sequence and flags: twice the stream's place, and 1 for a duplicate.
fn acked(streams: &mut Vec<Arc<str>>, ack: Option<&PubAck>) -> (f64, f64) {
    let Some(ack) = ack else { return (0.0, SENT) };
    let place = streams.iter().position(|s| *s == ack.stream).unwrap_or_else(|| {
        streams.push(ack.stream.clone());
        streams.len() - 1
    });
    (ack.sequence as f64, (place * 2) as f64 + f64::from(u8::from(ack.duplicate)))
}

fn other(streams: &mut Vec<Arc<str>>, token: f64, body: Body) -> Other {
    let failed = |e| Other { token, error: Some(text(&e)), ..Other::default() };
    match body {
        Body::Sent(Err(e)) | Body::Done(Err(e)) | Body::Reply(Err(e)) => failed(e),
        Body::Reply(Ok(delivery)) => {
            Other { token, reply: Some(pack::pack(std::slice::from_ref(&*delivery))), ..Other::default() }
        }
        Body::Many(results) => {
            let (mut acks, mut errors) = (Vec::with_capacity(results.len() * 2), Vec::new());
            for result in results {
                let (sequence, flags) = match result {
                    Ok(ack) => acked(streams, ack.as_ref()),
                    Err(e) => {
                        errors.push(text(&e));
                        ((errors.len() - 1) as f64, FAILED)
                    }
                };
                acks.extend([sequence, flags]);
            }
            Other { token, acks: Some(acks.into()), errors: Some(errors), ..Other::default() }
        }
        // A listener's end; the rest is numbers only, or nothing that this binding asks for.
        _ => Other { token, ..Other::default() },
    }
}
