//! What only the bindings use, besides the nouns: how results reach a host language, and settings by name.

pub mod call;
mod calls;
mod calls_macro;
mod defaults;
pub mod mailbox;
pub mod schema;
pub mod settings;
pub mod tables;

pub use call::{Handle, Reply, Started};
pub use calls::NOUNS;
pub use defaults::{Defaults, LETTERS, LOOK, TURN};
pub use mailbox::{Completion, Listener, Mailbox};
pub use settings::{camel_case, from_host, settings, to_host};
