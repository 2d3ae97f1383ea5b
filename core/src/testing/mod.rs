//! What only tests use: bugs planted on purpose, and entry points for fuzzing.

#[cfg(feature = "fuzzing")]
#[doc(hidden)]
pub mod fuzzing;
pub(crate) mod planted;
