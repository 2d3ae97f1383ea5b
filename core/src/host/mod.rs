//! What only the bindings use, besides the nouns: how results reach a host language, and settings by name.

pub mod mailbox;
pub mod settings;

pub use mailbox::{Completion, Listener, Mailbox};
pub use settings::{from_host, settings};
