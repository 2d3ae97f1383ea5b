//! Failures on their way to JavaScript: the core's JSON form, made a typed class in `ts/errors.ts`.

use napi::Status;
use nats_eventbus::Error;

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
