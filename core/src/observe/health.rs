//! Whether a bus works now, and what to do when it does not.
//!
//! The judgement ([`Facts::judged`]) is pure. The bus collects the facts.

use crate::{
    connection::{Cause, State},
    error::{Error, ErrorKind},
    host::schema::{choices, record},
};
use std::time::Duration;

choices! {
    /// The state of JetStream.
    #![non_exhaustive]
    pub enum JetStreamHealth {
        /// Not used: the bus is in core mode.
        Off = "off",
        /// It answers.
        Ok = "ok",
        /// It does not answer, or is not enabled: see the problems.
        Failed = "failed",
        /// Not checked: there is no connection, or no permission on `$JS.API.INFO`.
        Unknown = "unknown",
    }
}

record! {
    /// The health of a consumer or responder, open or failed.
    pub struct ConsumerHealth {
        /// Its topic, with wildcards.
        topic: String,
        /// Its group.
        group: String,
        /// The stream it reads. None in core mode.
        stream: Option<String>,
        /// Why it has failed. None while it works.
        error: Option<String>,
        /// The code of that error.
        code: Option<String>,
    }
}

record! {
    /// The health of a bus: for readiness and liveness endpoints, and for operators.
    pub struct Health {
        /// Readiness: whether the bus works now, that is, has no problems.
        ok: bool,
        /// Liveness: false when only a new bus, consumer or process helps. True while the bus is reconnecting.
        alive: bool,
        /// The state of the connection.
        state: State,
        /// The current or last server, as `host:port`.
        server: Option<String>,
        /// The round-trip time to the server, behind everything queued before it. None without an answer in time.
        rtt: Option<Duration>,
        /// The state of JetStream.
        jetstream: JetStreamHealth,
        /// Reconnects so far.
        reconnects: u64,
        /// Sends without an outcome.
        pending_sends: u64,
        /// Open and failed consumers and responders. A failed one stays, closed or not, until another one of its topic
        /// and group opens, or [`Bus::dismiss`](crate::Bus::dismiss) removes it.
        consumers: Vec<ConsumerHealth>,
        /// The problems, each with what to do. Empty when `ok`.
        problems: Vec<String>,
    }
}

/// The facts that [`Health`] is judged from.
pub(crate) struct Facts {
    pub(crate) state: State,
    pub(crate) server: Option<String>,
    /// Why there is no connection.
    pub(crate) trouble: Option<Cause>,
    pub(crate) rtt: Option<Result<Duration, Error>>,
    pub(crate) jetstream: (JetStreamHealth, Option<Error>),
    pub(crate) reconnects: u64,
    pub(crate) pending_sends: u64,
    pub(crate) consumers: Vec<ConsumerHealth>,
    /// The problems of groups.
    pub(crate) groups: Vec<String>,
}

impl Facts {
    pub(crate) fn judged(self) -> Health {
        let mut problems = Vec::new();
        problems.extend(self.of_connection());
        if let (State::Connected, Some(e)) = (self.state, &self.jetstream.1) {
            problems.push(format!("JetStream: {e}"));
        }
        let failed = |c: &ConsumerHealth| {
            let Some(e) = &c.error else { return None };
            let text = "has failed: fix the cause below, then open it again, or restart";
            Some(format!("the consumer of {:?} for {:?} {text}: {e}", c.topic, c.group))
        };
        let stuck: Vec<_> = self.consumers.iter().filter_map(failed).collect();
        let alive = self.state != State::Closed && stuck.is_empty();
        // When the bus is closed, all consumers have ended: one problem is enough.
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
        let trouble = self.trouble.as_ref().map(|c| c.text.as_str());
        let refused = self.trouble.as_ref().is_some_and(|c| c.is_auth);
        let why = trouble.map_or_else(String::new, |t| format!(" ({t})"));
        Some(match (self.state, &self.rtt) {
            (State::Closed, _) => match trouble {
                Some(t) => format!("{t}: connect again, or restart"),
                None => "the bus is closed: connect again".into(),
            },
            (State::Connecting | State::Disconnected, _) if refused => {
                format!("the servers refuse the credentials{why}: replace them; the bus keeps trying")
            }
            (State::Connecting, _) => {
                format!(
                    "no server was reached yet{why}: check servers, and that a server runs there; the bus keeps trying"
                )
            }
            (State::Disconnected, _) => {
                format!(
                    "the connection was lost{why}: check that a server runs and can be reached; the bus keeps reconnecting"
                )
            }
            (State::Connected, Some(Err(e))) if e.kind() == ErrorKind::Timeout => {
                "the server did not answer in time: it stalls, or the network does; if it stays silent, the bus reconnects after ping_interval".into()
            }
            (State::Connected, Some(Err(e))) => e.to_string(),
            (State::Connected, _) => return None,
        })
    }
}

/// Removes failed consumers that an open one of the same topic and group has replaced.
pub(crate) fn without_replaced(mut all: Vec<ConsumerHealth>) -> Vec<ConsumerHealth> {
    let open: Vec<_> = all.iter().filter(|c| c.error.is_none()).cloned().collect();
    all.retain(|c| c.error.is_none() || !open.iter().any(|o| o.topic == c.topic && o.group == c.group));
    all
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
        Error::new(kind, "ask for permission")
    }

    #[test]
    fn judgements() {
        let trouble = |t: &str| Some(Cause::other(t));
        let refused = Some(Cause { text: "wrong password".into(), is_auth: true });
        for (facts, ok, alive, problem) in [
            (facts(), true, true, None),
            (Facts { jetstream: (JetStreamHealth::Unknown, None), ..facts() }, true, true, None),
            (Facts { jetstream: (JetStreamHealth::Off, None), ..facts() }, true, true, None),
            (
                Facts { jetstream: (JetStreamHealth::Failed, Some(error(ErrorKind::Connection))), ..facts() },
                false,
                true,
                Some("JetStream: ask for permission"),
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
                Some("ask for permission"),
            ),
            (
                Facts { state: State::Disconnected, trouble: trouble("refused"), ..facts() },
                false,
                true,
                Some("the connection was lost (refused)"),
            ),
            (
                Facts { state: State::Disconnected, trouble: refused.clone(), ..facts() },
                false,
                true,
                Some("replace them"),
            ),
            (Facts { state: State::Connecting, ..facts() }, false, true, Some("check servers")),
            (Facts { state: State::Closed, ..facts() }, false, false, Some("connect again")),
            (
                Facts { state: State::Closed, trouble: trouble("given up"), ..facts() },
                false,
                false,
                Some("given up: connect again"),
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
            assert_eq!(health.problems.len(), usize::from(problem.is_some()), "{health:?}");
            assert!(problem.is_none_or(|t| health.problems[0].contains(t)), "{health:?}");
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
