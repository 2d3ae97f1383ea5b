//! A listing of dead letters. It ends even when its letters are replayed and fail again.

use super::{DeadLetter, DeadLetters};
use crate::{error::Result, host::mailbox::PutBack};
use std::sync::Arc;
use tokio::sync::Mutex;

/// The letters that exist when the listing starts, oldest first.
///
/// A replay that fails again becomes a new letter, after the last letter of this listing.
#[derive(Clone, Debug)]
pub struct DeadLetterCursor {
    of: DeadLetters,
    position: Arc<Mutex<Position>>,
}

#[derive(Debug, Default)]
struct Position {
    at: u64,
    /// The last position of the listing, known after the first call of `next`.
    last: Option<u64>,
}

impl DeadLetterCursor {
    pub(super) fn new(of: DeadLetters) -> Self {
        Self { of, position: Arc::default() }
    }

    /// The dead letters that it lists.
    pub fn letters(&self) -> &DeadLetters {
        &self.of
    }

    /// The next letter. None at the end. Dropping the future skips no letter.
    ///
    /// # Errors
    /// `Timeout` or `Connection` when the server does not answer.
    pub async fn next(&self) -> Result<Option<DeadLetter>> {
        Ok(self.take().await?.map(|(letter, _)| letter))
    }

    /// Hosts: the same, and what puts it back. Until that is called or dropped, no other letter is taken.
    pub(crate) async fn take(&self) -> Result<Option<(DeadLetter, PutBack)>> {
        let mut position = self.position.clone().lock_owned().await;
        let last = match position.last {
            Some(last) => last,
            None => *position.last.insert(self.of.last().await?),
        };
        let before = position.at;
        if before >= last {
            return Ok(None);
        }
        let found = self.of.next_after(before).await?.filter(|letter| letter.position <= last);
        position.at = found.as_ref().map_or(last, |letter| letter.position);
        let put_back = move || position.at = before;
        Ok(found.map(|letter| (letter, Box::new(put_back) as PutBack)))
    }
}

impl DeadLetters {
    /// Lists the letters that exist when the listing starts, oldest first.
    pub fn list(&self) -> DeadLetterCursor {
        DeadLetterCursor::new(self.clone())
    }
}

/// A dead letter with the dead letters it belongs to, for hosts.
#[derive(Clone, Debug)]
pub struct Letter {
    pub(crate) of: DeadLetters,
    pub(crate) letter: Arc<DeadLetter>,
}
