//! The `JetStream` API: its subjects, its calls and error codes, and every name derived from another one.
//!
//! Streams are `stream`'s, durables are `durable`'s.

pub(crate) mod api;
pub(crate) mod codes;
pub(crate) mod names;
