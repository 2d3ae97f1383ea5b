//! JetStream: the subjects, calls and error codes of its API, every derived name, and streams and durables. Existing
//! streams and durables change only on request.

pub(crate) mod api;
pub(crate) mod codes;
pub(crate) mod durable;
pub(crate) mod names;
pub(crate) mod ordered;
pub(crate) mod status;
pub(crate) mod stream;
