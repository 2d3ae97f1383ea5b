//! Failures on their way to JavaScript: the core's JSON form, made a typed class in `ts/errors.ts`.

use napi::Status;
use napi_derive::napi;
use nats_eventbus::{Error, ErrorKind};

/// The error as the text that `ts/errors.ts` reads.
pub(crate) fn text(e: &Error) -> String {
    e.to_json().to_string()
}

/// The error as something to throw.
pub(crate) fn raise(e: &Error) -> napi::Error {
    napi::Error::new(Status::GenericFailure, text(e))
}

/// `?` for core results.
pub(crate) trait OrRaise<T> {
    fn or_raise(self) -> napi::Result<T>;
}

impl<T> OrRaise<T> for nats_eventbus::Result<T> {
    fn or_raise(self) -> napi::Result<T> {
        self.map_err(|e| raise(&e))
    }
}

/// A kind of error: its class, that class's parent, its code.
#[napi(object)]
pub struct KindOfError {
    /// The class in JavaScript.
    pub class: String,
    /// The class it specialises.
    pub parent: String,
    /// The stable code.
    pub code: String,
    /// Whether the same call may succeed later unchanged.
    pub retryable: bool,
}

/// Every kind of error, parents before children.
#[napi]
pub fn error_kinds() -> Vec<KindOfError> {
    let kind = |k: &ErrorKind| KindOfError {
        class: k.class().into(),
        parent: k.parent().into(),
        code: k.code().into(),
        retryable: k.retryable(),
    };
    ErrorKind::ALL.iter().map(kind).collect()
}
