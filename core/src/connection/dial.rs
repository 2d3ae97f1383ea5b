//! Which server is tried next, and when: every server of the pool in each round, then a wait that grows.
//!
//! Owns the reconnect policy. The client dials; it asks here first, and each time it has failed.

use super::{
    Link, State,
    address::{resolves, shown},
    sign_in::SignIn,
};
use crate::config::{Backoff, Config};
use async_nats::{Server, ServerAddr};
use parking_lot::Mutex;
use std::{
    sync::{
        Arc,
        atomic::{AtomicBool, Ordering},
    },
    time::Duration,
};

/// Between two servers of a later round.
const PACE: Duration = Duration::from_millis(10);

/// A connection that lasted this long was one: the next search begins anew.
const STEADY: Duration = Duration::from_secs(1);

/// What the client is to do.
pub(super) enum Next {
    /// Try all servers, once: the very first connection.
    All,
    Dial(ServerAddr),
    /// Nothing, for ever.
    Rest,
}

pub(super) struct Dialler {
    link: Arc<Link>,
    sign_in: Arc<SignIn>,
    backoff: Backoff,
    connect_timeout: Duration,
    /// Whether the first connection is made in the background, as later ones are.
    patient: bool,
    begun: AtomicBool,
    tour: Mutex<Tour>,
}

/// The search for a server since the connection was lost.
#[derive(Debug, Default)]
struct Tour {
    epoch: u64,
    round: u32,
    tried: Vec<ServerAddr>,
    last: Option<ServerAddr>,
    /// The server that was lost: others are tried before it.
    lost: Option<ServerAddr>,
}

/// A server to try, after a wait.
struct Step {
    addr: ServerAddr,
    wait: Duration,
    /// Whether a new round begins with it.
    round: Option<u32>,
}

impl Tour {
    /// The next server: of those not tried in this round one with the fewest failures, by chance among equals.
    fn step(&mut self, pool: &[Server], backoff: &Backoff, random: &mut impl FnMut() -> f64) -> Option<Step> {
        let mut left: Vec<_> = pool.iter().filter(|s| !self.tried.contains(&s.addr)).collect();
        let begins = left.is_empty();
        if begins {
            self.tried.clear();
            self.round += 1;
            left = pool.iter().collect();
        }
        let rank = |s: &Server| (s.failed_attempts, self.lost.as_ref() == Some(&s.addr));
        let least = left.iter().map(|s| rank(s)).min()?;
        left.retain(|s| rank(s) == least);
        // A fraction of a small number: neither truncation nor sign matters.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let place = (random() * left.len() as f64) as usize;
        let addr = left.get(place).or(left.last())?.addr.clone();
        self.tried.push(addr.clone());
        let wait = match (self.round, begins) {
            (0, _) => Duration::ZERO,
            (_, false) => PACE,
            (n, true) => backoff.delay(n - 1, random()),
        };
        Some(Step { addr, wait, round: begins.then_some(self.round) })
    }
}

impl Dialler {
    pub(super) fn new(config: &Config, link: Arc<Link>, sign_in: Arc<SignIn>) -> Self {
        Self {
            link,
            sign_in,
            backoff: config.reconnect.clone(),
            connect_timeout: config.connect_timeout,
            patient: config.retry_on_initial_connect,
            begun: AtomicBool::new(false),
            tour: Mutex::default(),
        }
    }

    /// Asked when there is no connection, and after each failure.
    pub(super) async fn next(&self, pool: Vec<Server>) -> Next {
        let epoch = self.link.epoch();
        if !self.patient && !self.begun.swap(true, Ordering::Relaxed) {
            return Next::All;
        }
        let mut cause = self.reckon(epoch, &pool);
        loop {
            let Some(step) = self.tour.lock().step(&pool, &self.backoff, &mut fastrand::f64) else {
                return Next::Rest;
            };
            let allowed = self.backoff.attempts;
            if let Some(rounds) = step.round.filter(|n| allowed.is_some_and(|most| *n >= most)) {
                let why = cause.as_deref().unwrap_or("no server could be reached");
                self.link.give_up(&format!("{rounds} times all servers were tried; the last: {why}"));
            }
            self.link.hurried(step.wait).await;
            if self.link.state() == State::Closed {
                return Next::Rest;
            }
            let server = shown(&step.addr);
            let ready = match resolves(&step.addr, self.connect_timeout).await {
                Ok(()) => self.sign_in.prepare().await,
                failed => failed,
            };
            match ready {
                Ok(()) => {
                    self.link.dials(&server);
                    self.tour.lock().last = Some(step.addr.clone());
                    return Next::Dial(step.addr);
                }
                Err(e) => {
                    self.link.failed(&server, &e);
                    cause = Some(format!("{server}: {e}"));
                }
            }
        }
    }

    /// What became of the last attempt: a connection begins the search anew, a failure is told and returned.
    fn reckon(&self, epoch: u64, pool: &[Server]) -> Option<String> {
        let mut tour = self.tour.lock();
        let last = tour.last.take();
        if epoch != tour.epoch {
            let first = || pool.iter().find(|s| s.did_connect).map(|s| s.addr.clone());
            (tour.epoch, tour.lost) = (epoch, last.or_else(first));
            if !self.link.lasted(STEADY) {
                // Let in and thrown out at once: that is a failure, too, or we would knock without a pause.
                return Some("the connection did not last".into());
            }
            (tour.round, tour.tried) = (0, Vec::new());
            return None;
        }
        let last = last?;
        drop(tour);
        let server = pool.iter().find(|s| s.addr == last)?;
        let cause = server.last_error.as_deref().unwrap_or("no connection could be made");
        self.link.failed(&shown(&last), cause);
        Some(format!("{}: {cause}", shown(&last)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn server(host: &str, failed_attempts: usize) -> Server {
        let addr = host.parse().unwrap();
        Server { addr, failed_attempts, did_connect: false, is_discovered: false, last_error: None }
    }

    #[test]
    fn each_round_tries_every_server_and_waits_once() {
        let pool = [server("a", 0), server("b", 2), server("c", 0)];
        let backoff = Backoff { jitter: 0.0, ..Backoff::default() };
        let mut tour = Tour::default();
        let (mut waits, mut rounds) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            let mut round = Vec::new();
            for _ in 0..3 {
                let step = tour.step(&pool, &backoff, &mut || 0.99).unwrap();
                waits.push(step.wait.as_millis());
                round.push(step.addr.host().to_owned());
            }
            assert_eq!(round[2], "b", "the one that failed most comes last");
            round.sort();
            rounds.push(round);
        }
        assert!(rounds.iter().all(|r| r == &["a", "b", "c"]), "{rounds:?}");
        assert_eq!(waits, [0, 0, 0, 100, 10, 10, 200, 10, 10]);
        assert_eq!(tour.round, 2);
        assert!(tour.step(&[], &backoff, &mut || 0.5).is_none());
    }

    #[test]
    fn the_server_that_was_lost_comes_last_at_first() {
        let pool = [server("a", 0), server("b", 0)];
        let mut tour = Tour { lost: Some("a".parse().unwrap()), ..Tour::default() };
        let mut next = || tour.step(&pool, &Backoff::default(), &mut || 0.0).unwrap().addr;
        assert_eq!([next().host(), next().host()], ["b", "a"]);
    }
}
