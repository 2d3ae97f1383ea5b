//! Collects the facts about a bus, some of them from the server. [`Facts::judged`] judges them. Nothing here fails.

use super::{Bus, shared::Shared};
use crate::{
    connection::State,
    error::{Error, ErrorKind},
    observe::{ConsumerHealth, Facts, Health, JetStreamHealth, without_replaced},
};
use futures_util::future::join_all;
use std::time::{Duration, Instant};

/// The groups that one health call asks the server for, at most.
const MAX_GROUPS: usize = 100;

impl Shared {
    fn health_of_consumers(&self) -> Vec<ConsumerHealth> {
        let mut all: Vec<_> = self.all_consumers().iter().filter_map(|c| c.health()).collect();
        for failed in self.failed_consumers.lock().iter() {
            if !all.contains(failed) {
                all.push(failed.clone());
            }
        }
        without_replaced(all)
    }

    async fn jetstream_health(&self, timeout: Duration) -> (JetStreamHealth, Option<Error>) {
        match tokio::time::timeout(timeout, self.account()).await {
            Ok(Ok(Some(_))) => (JetStreamHealth::Ok, None),
            Ok(Ok(None)) => (JetStreamHealth::Unknown, None),
            Ok(Err(e)) => (JetStreamHealth::Failed, Some(e)),
            Err(_) => {
                let text = "it did not answer in time: check that the cluster has a leader";
                (JetStreamHealth::Failed, Some(Error::new(ErrorKind::Timeout, text)))
            }
        }
    }

    /// The problems of the consumers' groups.
    async fn groups(&self, timeout: Duration) -> Vec<String> {
        let all = self.all_consumers();
        let each = all.iter().take(MAX_GROUPS).map(|c| tokio::time::timeout(timeout, c.group_problem()));
        join_all(each).await.into_iter().filter_map(|found| found.ok().flatten()).collect()
    }

    async fn timed_round_trip(&self, timeout: Duration) -> Result<Duration, Error> {
        let begun = Instant::now();
        self.round_trip(timeout).await.map(|()| begun.elapsed())
    }
}

impl Bus {
    /// Checks the bus within `timeout`: a round trip to the server, and whether JetStream answers. It never fails; what is
    /// wrong is in `problems`.
    pub async fn health(&self, timeout: Duration) -> Health {
        let s = &self.shared;
        let off = !s.config.jetstream;
        let (mut rtt, mut jetstream) = (None, (JetStreamHealth::Unknown, None));
        let mut groups = Vec::new();
        if s.link.is_connected() {
            let asked =
                async { if off { (JetStreamHealth::Off, None) } else { s.jetstream_health(timeout).await } };
            let (there, stored, found) = tokio::join!(s.timed_round_trip(timeout), asked, s.groups(timeout));
            groups = found;
            // When the server does not answer, JetStream's silence adds nothing.
            jetstream = if there.is_ok() { stored } else { jetstream };
            rtt = Some(there);
        }
        let state = s.link.state();
        if off {
            jetstream.0 = JetStreamHealth::Off;
        } else if state != State::Connected {
            jetstream.0 = JetStreamHealth::Unknown;
        }
        let facts = Facts {
            state,
            server: s.link.peer(),
            trouble: s.link.trouble(),
            rtt,
            jetstream,
            reconnects: s.metrics.reconnects.get(),
            pending_sends: s.pipeline.state().unsettled(),
            consumers: s.health_of_consumers(),
            groups,
        };
        facts.judged()
    }
}
