//! `JetStream`: the subjects, calls and codes of its API, every derived name, and streams and durables, which are found
//! or declared and never altered unasked.

pub(crate) mod api;
pub(crate) mod codes;
pub(crate) mod durable;
pub(crate) mod names;
pub(crate) mod stream;
