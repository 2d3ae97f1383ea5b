//! A listing of dead letters that ends, whatever becomes of what it lists.

use super::{DeadLetter, DeadLetters};
use crate::{error::Result, host::call::PutBack};
use std::sync::Arc;
use tokio::sync::Mutex;

/// The letters there were when the listing began, oldest first.
///
/// What is replayed and fails again is another letter, behind the last of this listing.
#[derive(Clone, Debug)]
pub struct DeadLetterCursor {
    of: DeadLetters,
    state: Arc<Mutex<State>>,
}

#[derive(Debug, Default)]
struct State {
    position: u64,
    /// The last position of the listing; known from its first letter on.
    last: Option<u64>,
}

impl DeadLetterCursor {
    pub(super) fn new(of: DeadLetters) -> Self {
        Self { of, state: Arc::default() }
    }

    /// Whose letters they are.
    pub fn letters(&self) -> &DeadLetters {
        &self.of
    }

    /// The next letter; none at the end. Dropping the future skips no letter.
    ///
    /// # Errors
    /// `Timeout` or `Connection` when the server does not answer.
    pub async fn next(&self) -> Result<Option<DeadLetter>> {
        Ok(self.take().await?.map(|(letter, _)| letter))
    }

    /// Hosts: the same, and what puts it back. Until that is called or dropped, no other letter is taken.
    pub(crate) async fn take(&self) -> Result<Option<(DeadLetter, PutBack)>> {
        let mut state = self.state.clone().lock_owned().await;
        let last = match state.last {
            Some(last) => last,
            None => *state.last.insert(self.of.last().await?),
        };
        let before = state.position;
        if before >= last {
            return Ok(None);
        }
        let found = self.of.next_after(before).await?.filter(|letter| letter.position <= last);
        state.position = found.as_ref().map_or(last, |letter| letter.position);
        let put_back = move || state.position = before;
        Ok(found.map(|letter| (letter, Box::new(put_back) as PutBack)))
    }
}
