//! The rare call: one way in for everything that is not on a hot path, by the name of a noun and of its call.
//!
//! A binding passes names and JSON through and knows no noun. Which calls there are is in `calls`.

use super::{
    schema::{Crossing, Record, Type, Typed},
    settings::{argument, object, to_host},
};
use crate::{
    Bus, DeadLetterCursor, DeadLetters, Stream,
    dead_letters::Letter,
    duration::Unit,
    error::{Error, Result},
};
use bytes::Bytes;
use serde_json::Value;
use std::pin::Pin;

/// A noun that hosts make rare calls on.
#[derive(Clone, Debug)]
pub enum Handle {
    /// A bus.
    Bus(Bus),
    /// A stream by name.
    Stream(Stream),
    /// The dead letters of a topic and a group.
    DeadLetters(DeadLetters),
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
    unit: Unit,
}

impl Arguments {
    pub(super) fn new(call: &'static str, given: Value, unit: Unit) -> Result<Self> {
        let mut given = object(given)?;
        if unit == Unit::Milliseconds {
            given = given.into_iter().map(|(k, v)| (super::settings::snake_case(&k), v)).collect();
        }
        Ok(Self { call, given, unit })
    }

    pub(super) fn take<T: Crossing>(&mut self, name: &str, default: Option<fn() -> T>) -> Result<T> {
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

impl Answer for Letter {
    const RETURNS: Type = Type::Handle("DeadLetter");
    fn reply(self, unit: Unit) -> Result<Reply> {
        let (json, body) = (to_host(&*self.letter, unit)?, self.letter.body.clone());
        Ok(Reply { json: Some(json), body: Some(body), handle: Some(Handle::DeadLetter(self)) })
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

/// The JSON form of a default.
pub(super) fn default_json<T: Crossing>(value: &T) -> Value {
    to_host(value, Unit::Seconds).ok().and_then(|text| serde_json::from_str(&text).ok()).unwrap_or_default()
}
