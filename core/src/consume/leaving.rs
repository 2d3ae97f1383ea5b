//! Leaving, and sleeping: the end of a pull loop's requests, so that nothing it was sent waits for its ack wait.

use super::{
    buffer::{Ended, Returned},
    pull::{Loop, Source, subscribe},
};
use crate::{connection::State, error::Result};
use futures_util::{FutureExt, StreamExt};
use std::time::{Duration, Instant};

/// Round trips without a delivery after which a pull is taken to have nothing more to deliver.
const QUIET_ROUNDS: usize = 5;
/// The longest leaving may wait for deliveries on their way.
const LEAVING: Duration = Duration::from_millis(500);

impl Loop {
    /// Leaves nothing behind: what still arrives goes to others at once.
    pub(super) async fn leave(&mut self, how: Ended) {
        let late = self.hang_up().await;
        let mut unbegun = self.inner.give_back(late);
        if matches!(self.source, Source::Topic) {
            unbegun.extend(self.inner.finish(how));
        }
        if !unbegun.is_empty() {
            let _ = tokio::time::timeout(LEAVING * 4, self.inner.record_returned(unbegun)).await;
        }
        if self.inner.is_abandoned() {
            // The last handle may be gone before this is written, and the connection with it.
            let _ = self.inner.shared.round_trip(LEAVING).await;
        }
    }

    /// Nothing was taken for a while: others get what is buffered and in flight. Pulling continues with the next take.
    pub(super) async fn sleep(&mut self) -> Result<()> {
        let late = self.hang_up().await;
        (self.inbox, self.sub) = subscribe(&self.inner, &self.source).await?;
        let mut returned = self.inner.buffer.lock().give_up();
        tracing::debug!(
            topic = %self.inner.topic, count = returned.len() + late.len(),
            "nothing is taken: what is buffered is given back"
        );
        returned.extend(late);
        let unbegun = self.inner.give_back(returned);
        self.inner.record_later(unbegun);
        Ok(())
    }

    /// Ends what was asked for: what had been sent by then.
    async fn hang_up(&mut self) -> Vec<Returned> {
        // The client drops what arrives after it has unsubscribed, so that is done last: once the pulls have delivered
        // all they were asked for, or several round trips to the server have brought nothing more.
        let (mut late, mut quiet) = (Vec::new(), 0);
        let asked = match self.source {
            Source::Topic => {
                let mut b = self.inner.buffer.lock();
                let asked = b.requested();
                b.released(None, None);
                asked
            }
            Source::Replays { requested } => requested,
        };
        let until = Instant::now() + LEAVING;
        while late.len() < asked && quiet < QUIET_ROUNDS && Instant::now() < until {
            if self.inner.shared.round_trip(Duration::from_secs(1)).await.is_err() {
                break;
            }
            let before = late.len();
            while let Some(Some(m)) = self.sub.next().now_or_never() {
                if m.status.is_none() {
                    self.accept(m, &mut late);
                }
            }
            if late.len() == before {
                // The server answers us and delivers in different threads of its own: give the latter a turn.
                quiet += 1;
                tokio::time::sleep(Duration::from_millis(2)).await;
            } else {
                quiet = 0;
            }
        }
        let _ = self.sub.unsubscribe().await;
        // Given back counts as settled, and so this as received.
        self.inner.shared.metrics.received.add(late.len() as u64);
        late.into_iter().filter_map(Returned::of).collect()
    }

    /// After the end: what handlers still have is kept from redelivery until they have finished. What an iteration or a
    /// fetch had is not: it comes again after its ack wait.
    pub(super) async fn linger(&mut self, tick: Duration) {
        if matches!(self.source, Source::Replays { .. }) {
            return;
        }
        // Messages that no handle can settle are no longer kept from redelivery.
        while !self.inner.is_abandoned()
            && self.inner.is_handling()
            && self.inner.shared.link.state() != State::Closed
            && self.inner.buffer.lock().has_unsettled()
        {
            self.tick();
            tokio::time::sleep(tick).await;
        }
    }
}
