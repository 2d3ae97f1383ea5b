//! What a call does in every language where its caller says nothing, and how event loops are shared.

use super::schema::settings;
use std::time::Duration;

/// Other work of an event loop has its turn after this time of messages that are always there.
pub const TURN: Duration = Duration::from_millis(5);
/// Messages between two looks at the clock, while they take well under a millisecond together.
pub const LOOK: u32 = 16;
/// Results handed to an event loop in one go, so that a full mailbox does not starve its other work.
pub const LETTERS: usize = 1024;

settings! {
    /// What calls do where their caller says nothing.
    pub struct Defaults {
        /// How long a request waits for its reply.
        request_timeout: Duration = Duration::from_secs(5),
        /// How long a fetch waits for messages.
        fetch_timeout: Duration = Duration::from_secs(5),
        /// The group of responders.
        responder_group: String = "responders".into(),
        /// Requests that one responder handles at once.
        responder_concurrency: usize = 64,
        /// Other work of an event loop has its turn after this time of messages that are always there.
        turn: Duration = TURN,
        /// Messages between two looks at the clock, while they take well under a millisecond together.
        look: u32 = LOOK,
        /// Results handed to an event loop in one go.
        letters: usize = LETTERS,
    }
}
