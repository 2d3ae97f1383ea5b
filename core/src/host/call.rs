//! The rare call: one way in for everything that is not on a hot path, by the name of a noun and of its call.
//!
//! A binding passes names and JSON through and knows no noun. Which calls there are is in `calls`.

use super::{
    mailbox::PutBack,
    schema::{Crossing, Record, Type, Typed},
    settings::{argument, object, to_host},
};
use crate::{
    Bus, DeadLetterCursor, DeadLetters, Kv, KvEntry, KvWatch, Stream,
    dead_letters::Letter,
    duration::Unit,
    error::{Error, Result},
};
use bytes::Bytes;
use serde_json::Value;
use std::{pin::Pin, sync::Arc};

/// A noun that hosts make rare calls on.
#[derive(Clone, Debug)]
pub enum Handle {
    /// A bus.
    Bus(Bus),
    /// A stream by name.
    Stream(Stream),
    /// The dead letters of a topic and a group.
    DeadLetters(DeadLetters),
    /// A key-value bucket.
    Kv(Kv),
    /// Entries of a bucket, one after another.
    KvWatch(KvWatch),
    /// One entry.
    KvEntry(Arc<KvEntry>),
    /// A listing of dead letters.
    DeadLetterCursor(DeadLetterCursor),
    /// One dead letter.
    DeadLetter(Letter),
}

impl From<Bus> for Handle {
    fn from(bus: Bus) -> Self {
        Self::Bus(bus)
    }
}

/// What a call gives.
#[derive(Debug, Default)]
pub struct Reply {
    /// The value, as JSON in the host's form; the fields of the noun in `handle`, if it has any.
    pub json: Option<String>,
    /// A noun with calls of its own.
    pub handle: Option<Handle>,
    /// The bytes that belong to it.
    pub body: Option<Bytes>,
    /// What becomes of it when its caller is gone.
    held: Held,
}

impl Reply {
    /// The caller has it. Dropped without this, what was taken for it is there for the next call.
    pub fn accept(&mut self) {
        self.held.0 = None;
    }
}

/// Puts back what a call took, unless its caller had it.
#[derive(Default)]
struct Held(Option<PutBack>);

impl Drop for Held {
    fn drop(&mut self) {
        if let Some(put_back) = self.0.take() {
            put_back();
        }
    }
}

impl std::fmt::Debug for Held {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Held({})", self.0.is_some())
    }
}

/// A call that was begun.
pub enum Started {
    /// It has ended.
    Done(Reply),
    /// It ends later: a future for the core's runtime.
    Later(Pin<Box<dyn Future<Output = Result<Reply>> + Send>>),
}

/// How a call is made.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// It reads something, without arguments.
    Property,
    /// It ends at once.
    Now,
    /// It waits for the server.
    Later,
}

/// A call as a host's programmer sees it.
#[derive(Debug)]
pub struct Call {
    /// Its name, in `snake_case`.
    pub name: &'static str,
    /// How it is made.
    pub kind: Kind,
    /// Its doc comment, a line each.
    pub doc: &'static [&'static str],
    /// Its arguments.
    pub arguments: &'static [Argument],
    /// What it gives.
    pub returns: Type,
}

/// An argument of a call.
#[derive(Debug)]
pub struct Argument {
    /// Its name, in `snake_case`.
    pub name: &'static str,
    /// Its type.
    pub ty: Type,
    /// Whether it is given by name only.
    pub named: bool,
    /// The value when it is not given, as JSON; without one it must be given, unless its type is an option.
    pub default: Option<fn() -> Value>,
    /// Its doc comment, a line each.
    pub doc: &'static [&'static str],
}

/// A noun and its calls.
#[derive(Debug)]
pub struct Noun {
    /// Its name.
    pub name: &'static str,
    /// Its fields, known from the beginning; none for most.
    pub fields: Option<&'static Record>,
    /// Its calls.
    pub calls: &'static [Call],
}

/// The arguments of one call, taken one by one.
pub(super) struct Arguments {
    call: &'static str,
    given: serde_json::Map<String, Value>,
    body: Option<Bytes>,
    unit: Unit,
}

impl Arguments {
    pub(super) fn new(call: &'static str, given: Value, body: Option<Bytes>, unit: Unit) -> Result<Self> {
        let mut given = object(given)?;
        if unit == Unit::Milliseconds {
            given = given.into_iter().map(|(k, v)| (super::settings::snake_case(&k), v)).collect();
        }
        Ok(Self { call, given, body, unit })
    }

    pub(super) fn take<T: Given>(&mut self, name: &str, default: Option<fn() -> T>) -> Result<T> {
        T::take(self, name, default)
    }

    fn value<T: Crossing>(&mut self, name: &str, default: Option<fn() -> T>) -> Result<T> {
        match (self.given.remove(name), default) {
            (Some(value), _) => argument(name, value, self.unit),
            (None, Some(default)) => Ok(default()),
            (None, None) if matches!(T::TYPE, Type::Option(_)) => argument(name, Value::Null, self.unit),
            (None, None) => Err(Error::config(format!("{}: {name} must be given", self.call))),
        }
    }

    /// Refuses what no argument took.
    pub(super) fn end(self) -> Result<()> {
        match self.given.keys().next() {
            Some(name) => Err(Error::config(format!("{}: there is no argument {name:?}", self.call))),
            None => Ok(()),
        }
    }
}

/// What a host gives to the core.
pub(super) trait Given: Sized {
    fn take(from: &mut Arguments, name: &str, default: Option<fn() -> Self>) -> Result<Self>;
}

impl<T: Crossing> Given for T {
    fn take(from: &mut Arguments, name: &str, default: Option<fn() -> Self>) -> Result<Self> {
        from.value(name, default)
    }
}

impl Given for Bytes {
    fn take(from: &mut Arguments, name: &str, _: Option<fn() -> Self>) -> Result<Self> {
        from.body.take().ok_or_else(|| Error::config(format!("{}: {name} must be given", from.call)))
    }
}

/// What the core gives to a host.
pub(super) trait Answer: Sized {
    /// Its type for hosts.
    const RETURNS: Type;
    fn reply(self, unit: Unit) -> Result<Reply>;
}

impl<T: Crossing> Answer for T {
    const RETURNS: Type = <T as Typed>::TYPE;
    fn reply(self, unit: Unit) -> Result<Reply> {
        Ok(Reply { json: Some(to_host(&self, unit)?), ..Reply::default() })
    }
}

impl Answer for Stream {
    const RETURNS: Type = Type::Handle("Stream");
    fn reply(self, _: Unit) -> Result<Reply> {
        Ok(Reply { handle: Some(Handle::Stream(self)), ..Reply::default() })
    }
}

impl Answer for DeadLetters {
    const RETURNS: Type = Type::Handle("DeadLetters");
    fn reply(self, _: Unit) -> Result<Reply> {
        Ok(Reply { handle: Some(Handle::DeadLetters(self)), ..Reply::default() })
    }
}

impl Answer for DeadLetterCursor {
    const RETURNS: Type = Type::Handle("DeadLetterCursor");
    fn reply(self, _: Unit) -> Result<Reply> {
        Ok(Reply { handle: Some(Handle::DeadLetterCursor(self)), ..Reply::default() })
    }
}

impl Answer for Kv {
    const RETURNS: Type = Type::Handle("Kv");
    fn reply(self, _: Unit) -> Result<Reply> {
        Ok(Reply { handle: Some(Handle::Kv(self)), ..Reply::default() })
    }
}

impl Answer for KvWatch {
    const RETURNS: Type = Type::Handle("KvWatch");
    fn reply(self, _: Unit) -> Result<Reply> {
        Ok(Reply { handle: Some(Handle::KvWatch(self)), ..Reply::default() })
    }
}

impl Answer for Arc<KvEntry> {
    const RETURNS: Type = Type::Handle("KvEntry");
    fn reply(self, unit: Unit) -> Result<Reply> {
        let (json, body) = (to_host(&*self, unit)?, self.value.clone());
        Ok(Reply {
            json: Some(json),
            body: Some(body),
            handle: Some(Handle::KvEntry(self)),
            ..Reply::default()
        })
    }
}

impl Answer for Letter {
    const RETURNS: Type = Type::Handle("DeadLetter");
    fn reply(self, unit: Unit) -> Result<Reply> {
        let (json, body) = (to_host(&*self.letter, unit)?, self.letter.body.clone());
        Ok(Reply {
            json: Some(json),
            body: Some(body),
            handle: Some(Handle::DeadLetter(self)),
            ..Reply::default()
        })
    }
}

/// A noun or nothing.
pub(super) struct Maybe<T>(pub(super) Option<T>);

impl<T: Answer> Answer for Maybe<T> {
    const RETURNS: Type = Type::Option(&T::RETURNS);
    fn reply(self, unit: Unit) -> Result<Reply> {
        self.0.map_or(Ok(Reply::default()), |found| found.reply(unit))
    }
}

/// A noun that was taken, one after another, or none at the end.
pub(super) struct Taken<T>(pub(super) Option<(T, PutBack)>);

impl<T: Answer> Answer for Taken<T> {
    const RETURNS: Type = Type::Option(&T::RETURNS);
    fn reply(self, unit: Unit) -> Result<Reply> {
        let Some((taken, put_back)) = self.0 else { return Ok(Reply::default()) };
        Ok(Reply { held: Held(Some(put_back)), ..taken.reply(unit)? })
    }
}

/// The JSON form of a default.
pub(super) fn default_json<T: Crossing>(value: &T) -> Value {
    to_host(value, Unit::Seconds).ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
}
