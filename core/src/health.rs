//! Whether a bus can do its work now: asked of the server, judged, and told in words that say what to do.
//!
//! The judgement ([`Facts::judged`]) is pure. Nothing here ever fails: what fails is what is told.

use crate::{
    bus::{Bus, Shared},
    connection::{State, is_auth},
    duration::serde_seconds_option,
    error::{Error, ErrorKind},
};
use futures_util::future::join_all;
use serde::Serialize;
use std::time::{Duration, Instant};

/// The most groups that are asked for at a time.
const GROUPS: usize = 100;

/// What `JetStream` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "snake_case")]
#[non_exhaustive]
pub enum JetStreamHealth {
    /// It is not used: the bus is in core mode.
    Off,
    /// It answers.
    Ok,
    /// It does not answer, or is not there: see the problems.
    Failed,
    /// It could not be asked: there is no connection, or no right to (`$JS.API.INFO`).
    Unknown,
}

/// A consumer, or a responder, that is open or has failed.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
#[non_exhaustive]
pub struct ConsumerHealth {
    /// Its topic, with its wildcards.
    pub topic: String,
    /// Its group.
    pub group: String,
    /// The stream it reads; none in core mode.
    pub stream: Option<String>,
    /// Why it cannot go on; none while it does.
    pub error: Option<String>,
    /// The code of that error.
    pub code: Option<&'static str>,
}

/// How a bus is: for readiness and liveness endpoints, and for whoever looks after it.
#[derive(Clone, Debug, PartialEq, Serialize)]
#[non_exhaustive]
pub struct Health {
    /// Whether it can do its work now, which is when there are no problems: readiness.
    pub ok: bool,
    /// Whether it needs no help: false when only a new bus, consumer or process mends it, and not while it is
    /// reconnecting: liveness.
    pub alive: bool,
    /// Where the connection stands.
    pub state: State,
    /// The server connected to, or last connected to, as `host:port`.
    pub server: Option<String>,
    /// A round trip to the server and back, through all that is queued before it; none without an answer in time. For
    /// hosts in seconds.
    #[serde(with = "serde_seconds_option")]
    pub rtt: Option<Duration>,
    /// What `JetStream` says.
    pub jetstream: JetStreamHealth,
    /// Connections made again after a loss.
    pub reconnects: u64,
    /// Sends that have no outcome yet.
    pub pending_sends: u64,
    /// Consumers and responders, but for those that were closed. One that has failed stays, closed or not, until another
    /// one of its topic and group is opened, or it is dismissed ([`Bus::dismiss`]).
    pub consumers: Vec<ConsumerHealth>,
    /// What is wrong, each with what to do; empty when it is ok.
    pub problems: Vec<String>,
}

/// What was found out.
struct Facts {
    state: State,
    server: Option<String>,
    /// Why there is no connection.
    trouble: Option<String>,
    rtt: Option<Result<Duration, Error>>,
    jetstream: (JetStreamHealth, Option<Error>),
    reconnects: u64,
    pending_sends: u64,
    consumers: Vec<ConsumerHealth>,
    /// What is wrong with groups.
    groups: Vec<String>,
}

impl Facts {
    fn judged(self) -> Health {
        let mut problems = Vec::new();
        problems.extend(self.of_connection());
        if let (State::Connected, Some(e)) = (self.state, &self.jetstream.1) {
            problems.push(format!("JetStream: {e}"));
        }
        let failed = |c: &ConsumerHealth| {
            let Some(e) = &c.error else { return None };
            let text = "has failed: mend what it names, then open it again, or restart";
            Some(format!("the consumer of {:?} for {:?} {text}: {e}", c.topic, c.group))
        };
        let stuck: Vec<_> = self.consumers.iter().filter_map(failed).collect();
        let alive = self.state != State::Closed && stuck.is_empty();
        // Closed, all have ended: that says it.
        problems.extend(stuck.into_iter().filter(|_| self.state != State::Closed));
        problems.extend(self.groups);
        Health {
            ok: problems.is_empty(),
            alive,
            state: self.state,
            server: self.server,
            rtt: self.rtt.filter(|_| self.state == State::Connected).and_then(Result::ok),
            jetstream: self.jetstream.0,
            reconnects: self.reconnects,
            pending_sends: self.pending_sends,
            consumers: self.consumers,
            problems,
        }
    }

    fn of_connection(&self) -> Option<String> {
        let trouble = self.trouble.as_deref();
        let why = trouble.map_or_else(String::new, |t| format!(" ({t})"));
        Some(match (self.state, &self.rtt) {
            (State::Closed, _) => match trouble {
                Some(t) => format!("{t}: connect anew, or restart"),
                None => "the bus is closed: connect anew".into(),
            },
            (State::Connecting | State::Disconnected, _) if trouble.is_some_and(is_auth) => {
                format!("the servers refuse the credentials{why}: replace them; trying goes on")
            }
            (State::Connecting, _) => {
                format!(
                    "no server was reached yet{why}: check servers, and that one runs there; trying goes on"
                )
            }
            (State::Disconnected, _) => {
                format!(
                    "the server was lost{why}: check that one runs and can be reached; reconnecting goes on"
                )
            }
            (State::Connected, Some(Err(e))) if e.kind() == ErrorKind::Timeout => {
                "the server did not answer in time: it stalls, or the network does; while it stays silent, ping_interval decides when it is left".into()
            }
            (State::Connected, Some(Err(e))) => e.to_string(),
            (State::Connected, _) => return None,
        })
    }
}

/// Without the failed ones that another one of their topic and group has taken over from.
pub(crate) fn without_replaced(mut all: Vec<ConsumerHealth>) -> Vec<ConsumerHealth> {
    let goes_on: Vec<_> = all.iter().filter(|c| c.error.is_none()).cloned().collect();
    all.retain(|c| c.error.is_none() || !goes_on.iter().any(|o| o.topic == c.topic && o.group == c.group));
    all
}

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

    /// What is wrong with the groups of consumers.
    async fn groups(&self, timeout: Duration) -> Vec<String> {
        let all = self.all_consumers();
        let each = all.iter().take(GROUPS).map(|c| tokio::time::timeout(timeout, c.group_problem()));
        join_all(each).await.into_iter().filter_map(|found| found.ok().flatten()).collect()
    }

    async fn timed_round_trip(&self, timeout: Duration) -> Result<Duration, Error> {
        let begun = Instant::now();
        self.round_trip(timeout).await.map(|()| begun.elapsed())
    }
}

impl Bus {
    /// How the bus is, found out within `timeout`: the server is asked for a sign of life, and `JetStream` whether it
    /// is there. It never fails; what is wrong is in `problems`.
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
            // Without an answer of the server, that of JetStream tells nothing more.
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

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            state: State::Connected,
            server: Some("a:4222".into()),
            trouble: None,
            rtt: Some(Ok(Duration::from_millis(1))),
            jetstream: (JetStreamHealth::Ok, None),
            reconnects: 0,
            pending_sends: 0,
            consumers: vec![consumer("t", None)],
            groups: Vec::new(),
        }
    }

    fn consumer(topic: &str, error: Option<&str>) -> ConsumerHealth {
        let (topic, group) = (topic.into(), "g".into());
        ConsumerHealth { topic, group, stream: None, error: error.map(str::to_owned), code: None }
    }

    fn error(kind: ErrorKind) -> Error {
        Error::new(kind, "ask for the right")
    }

    #[test]
    fn judgements() {
        let trouble = |t: &str| Some(t.to_owned());
        for (facts, ok, alive, told) in [
            (facts(), true, true, None),
            (Facts { jetstream: (JetStreamHealth::Unknown, None), ..facts() }, true, true, None),
            (Facts { jetstream: (JetStreamHealth::Off, None), ..facts() }, true, true, None),
            (
                Facts { jetstream: (JetStreamHealth::Failed, Some(error(ErrorKind::Connection))), ..facts() },
                false,
                true,
                Some("JetStream: ask for the right"),
            ),
            (
                Facts { rtt: Some(Err(error(ErrorKind::Timeout))), ..facts() },
                false,
                true,
                Some("did not answer in time"),
            ),
            (
                Facts { rtt: Some(Err(error(ErrorKind::Permission))), ..facts() },
                false,
                true,
                Some("ask for the right"),
            ),
            (
                Facts { state: State::Disconnected, trouble: trouble("refused"), ..facts() },
                false,
                true,
                Some("the server was lost (refused)"),
            ),
            (
                Facts { state: State::Disconnected, trouble: trouble("authorization violation"), ..facts() },
                false,
                true,
                Some("replace them"),
            ),
            (Facts { state: State::Connecting, ..facts() }, false, true, Some("check servers")),
            (Facts { state: State::Closed, ..facts() }, false, false, Some("connect anew")),
            (
                Facts { state: State::Closed, trouble: trouble("given up"), ..facts() },
                false,
                false,
                Some("given up: connect anew"),
            ),
            (
                Facts { consumers: vec![consumer("t", Some("deleted"))], ..facts() },
                false,
                false,
                Some("open it again, or restart: deleted"),
            ),
        ] {
            let health = facts.judged();
            assert_eq!((health.ok, health.alive), (ok, alive), "{health:?}");
            assert_eq!(health.problems.len(), usize::from(told.is_some()), "{health:?}");
            assert!(told.is_none_or(|t| health.problems[0].contains(t)), "{health:?}");
            assert!(health.state == State::Connected || health.rtt.is_none(), "{health:?}");
        }
    }

    #[test]
    fn a_failed_consumer_counts_until_another_takes_over() {
        let (failed, other, open) =
            (consumer("t", Some("gone")), consumer("u", Some("gone")), consumer("t", None));
        assert_eq!(without_replaced(vec![failed.clone(), other.clone()]), [failed.clone(), other.clone()]);
        assert_eq!(without_replaced(vec![failed, other.clone(), open.clone()]), [other, open]);
    }
}
