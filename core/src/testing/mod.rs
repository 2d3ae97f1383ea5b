//! What only tests use: bugs planted on purpose, entry points of the fuzzers.

#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
pub(crate) mod planted;
