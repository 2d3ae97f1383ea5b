//! What handlers did to a message so far: the record that is kept of it, and what follows from it. Pure.
//!
//! The server counts deliveries. A delivery that no handler began (given back, lost with a worker's buffer, nak'd by
//! another client) is no attempt, so failures are recorded where they happen. What the records do not explain is found
//! out only above the limit: the message runs alone, with its start stored first, so that a message found with such a
//! mark is known to have died with its handler.

use serde::{Deserialize, Serialize};

/// A reason longer than this is cut in a record.
const LONGEST_REASON: usize = 256;

/// What is stored of a message that failed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(super) struct Record {
    /// How often handlers failed on it or died with it.
    pub(super) failures: u64,
    /// How often of these its process died.
    pub(super) deaths: u64,
    /// The server's delivery count when this was written.
    pub(super) attempt: u64,
    /// Whether it ran alone then, and nothing was heard of its end.
    pub(super) started: bool,
    /// What the last handler failed with.
    pub(super) reason: String,
}

impl Record {
    pub(super) fn failed(before: &Self, attempt: u64, reason: &str) -> Self {
        let reason = reason.chars().take(LONGEST_REASON).collect();
        Self { failures: before.failures + 1, deaths: before.deaths, attempt, started: false, reason }
    }

    /// The state before a delivery: of a message that was found with the mark of its start, its process died.
    pub(super) fn before(self, attempt: u64) -> Self {
        if self.attempt >= attempt {
            // Of an earlier life of the durable: it was reset, or made again.
            return Self::default();
        }
        let died = u64::from(self.started);
        Self { failures: self.failures + died, deaths: self.deaths + died, started: false, ..self }
    }
}

/// What may be done with a redelivered message.
#[derive(Debug, PartialEq, Eq)]
pub(super) enum Admission {
    /// A handler may have it.
    Run,
    /// It may be what kills its workers: it runs alone, and its start is stored first.
    Alone,
    /// It becomes a dead letter, for this reason.
    Over(String),
}

/// `before` is the state before this delivery, `returned` the recorded deliveries of it that were given back unbegun;
/// none when that is not known yet, and needs to be.
pub(super) fn admit(attempt: u64, limit: u64, before: &Record, returned: Option<u64>) -> Option<Admission> {
    if before.failures >= limit {
        return Some(Admission::Over(over(before)));
    }
    if attempt <= limit {
        return Some(Admission::Run);
    }
    if before.deaths > 0 {
        return Some(Admission::Alone);
    }
    let unexplained = (attempt - 1).saturating_sub(before.failures);
    let at_most = before.failures + unexplained.saturating_sub(returned?);
    Some(if at_most >= limit { Admission::Alone } else { Admission::Run })
}

fn over(before: &Record) -> String {
    let times = |n: u64| if n == 1 { "once".to_owned() } else { format!("{n} times") };
    let died = format!("its process died {} while it ran alone", times(before.deaths));
    match (before.deaths, before.failures - before.deaths.min(before.failures)) {
        (0, _) => before.reason.clone(),
        (_, 0) => died,
        (_, failed) => format!("{died}, and handlers failed on it {}: {}", times(failed), before.reason),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    fn record(failures: u64, deaths: u64, attempt: u64, started: bool) -> Record {
        Record { failures, deaths, attempt, started, reason: "boom".into() }
    }

    #[test]
    fn only_what_handlers_did_counts() {
        let none = Record::default();
        for (attempt, before, returned, want) in [
            (2, &none, None, Some(Admission::Run)),
            (3, &none, None, Some(Admission::Run)),
            // Above the limit the records are asked for what was given back.
            (4, &none, None, None),
            (4, &none, Some(1), Some(Admission::Run)),
            (4, &none, Some(0), Some(Admission::Alone)),
            (1000, &none, Some(3), Some(Admission::Alone)),
            (9, &record(2, 0, 8, false), Some(6), Some(Admission::Run)),
            (9, &record(1, 1, 8, false), None, Some(Admission::Alone)),
            (4, &record(3, 0, 3, false), None, Some(Admission::Over("boom".into()))),
        ] {
            assert_eq!(admit(attempt, 3, before, returned), want, "{attempt} {before:?} {returned:?}");
        }
    }

    #[test]
    fn a_mark_that_was_left_is_a_death() {
        let died = record(1, 0, 4, true).before(5);
        assert_eq!((died.failures, died.deaths, died.started), (2, 1, false));
        assert_eq!(record(1, 0, 4, false).before(5), record(1, 0, 4, false));
        assert_eq!(record(2, 2, 4, false).before(1), Record::default(), "the durable was reset");
        let reason = over(&record(3, 2, 9, false));
        assert_eq!(
            reason,
            "its process died 2 times while it ran alone, and handlers failed on it once: boom"
        );
    }

    proptest! {
        /// A message is over only when handlers failed on it, or died with it, as often as the limit says.
        #[test]
        fn never_over_before(attempt in 2u64..50, limit in 1u64..6, failures in 0u64..8, deaths in 0u64..8, returned in proptest::option::of(0u64..60)) {
            let deaths = deaths.min(failures);
            let over = matches!(admit(attempt, limit, &record(failures, deaths, 1, false), returned), Some(Admission::Over(_)));
            prop_assert_eq!(over, failures >= limit);
        }
    }
}
