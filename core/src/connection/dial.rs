//! The reconnect policy: which server to try next, and when. Each round tries every server of the pool, then waits longer.
//!
//! The client dials. It asks here before its first attempt and after each failure.

use super::{
    Link, State,
    address::{resolves, shown},
    denial::Cause,
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

/// The wait between two servers of a later round.
const PACE: Duration = Duration::from_millis(10);

/// A connection that lasts this long counts as a success, so the next search starts at round 0.
const STEADY: Duration = Duration::from_secs(1);

/// What the client does next.
pub(super) enum Next {
    /// Tries all servers once: the very first connection.
    All,
    Dial(ServerAddr),
    /// Stops dialling for good.
    Stop,
}

pub(super) struct Dialler {
    link: Arc<Link>,
    sign_in: Arc<SignIn>,
    backoff: Backoff,
    connect_timeout: Duration,
    /// Whether the first connection is made in the background, like later ones.
    background: bool,
    started: AtomicBool,
    search: Mutex<Search>,
}

/// The search for a server since the connection was lost.
#[derive(Debug, Default)]
struct Search {
    epoch: u64,
    round: u32,
    tried: Vec<ServerAddr>,
    last: Option<ServerAddr>,
    /// The server that was lost. The others come first.
    lost: Option<ServerAddr>,
}

/// A server to try after a wait.
struct Step {
    addr: ServerAddr,
    wait: Duration,
    /// The round that starts with it, if one does.
    round: Option<u32>,
}

impl Search {
    /// The next server: of those not tried in this round, one with the fewest failures, at random among equals.
    fn step(&mut self, pool: &[Server], backoff: &Backoff, random: &mut impl FnMut() -> f64) -> Option<Step> {
        let mut left: Vec<_> = pool.iter().filter(|s| !self.tried.contains(&s.addr)).collect();
        let new_round = left.is_empty();
        if new_round {
            self.tried.clear();
            self.round += 1;
            left = pool.iter().collect();
        }
        let rank = |s: &Server| (s.failed_attempts, self.lost.as_ref() == Some(&s.addr));
        let least = left.iter().map(|s| rank(s)).min()?;
        left.retain(|s| rank(s) == least);
        // The value is a fraction of a small number, so truncation and sign do not matter.
        #[allow(clippy::cast_possible_truncation, clippy::cast_sign_loss)]
        let index = (random() * left.len() as f64) as usize;
        let addr = left.get(index).or(left.last())?.addr.clone();
        self.tried.push(addr.clone());
        let wait = match (self.round, new_round) {
            (0, _) => Duration::ZERO,
            (_, false) => PACE,
            (n, true) => backoff.delay(n - 1, random()),
        };
        Some(Step { addr, wait, round: new_round.then_some(self.round) })
    }
}

impl Dialler {
    pub(super) fn new(config: &Config, link: Arc<Link>, sign_in: Arc<SignIn>) -> Self {
        Self {
            link,
            sign_in,
            backoff: config.reconnect.clone(),
            connect_timeout: config.connect_timeout,
            background: config.retry_on_initial_connect,
            started: AtomicBool::new(false),
            search: Mutex::default(),
        }
    }

    /// Decides the next attempt. The client calls it when there is no connection, and after each failure.
    pub(super) async fn next(&self, pool: Vec<Server>) -> Next {
        let epoch = self.link.epoch();
        if !self.background && !self.started.swap(true, Ordering::Relaxed) {
            return Next::All;
        }
        let mut cause = self.last_failure(epoch, &pool);
        loop {
            let Some(step) = self.search.lock().step(&pool, &self.backoff, &mut fastrand::f64) else {
                return Next::Stop;
            };
            let allowed = self.backoff.attempts;
            if let Some(rounds) = step.round.filter(|n| allowed.is_some_and(|most| *n >= most)) {
                let why = cause.as_deref().unwrap_or("no server could be reached");
                self.link.give_up(&format!("all servers were tried {rounds} times; the last attempt: {why}"));
            }
            self.link.wait_to_retry(step.wait).await;
            if self.link.state() == State::Closed {
                return Next::Stop;
            }
            let server = shown(&step.addr);
            let ready = match resolves(&step.addr, self.connect_timeout).await {
                Ok(()) => self.sign_in.prepare().await.map_err(Cause::auth),
                Err(e) => Err(Cause::other(e)),
            };
            match ready {
                Ok(()) => {
                    self.link.set_peer(&server);
                    self.search.lock().last = Some(step.addr.clone());
                    return Next::Dial(step.addr);
                }
                Err(e) => {
                    self.link.attempt_failed(&server, &e);
                    cause = Some(format!("{server}: {}", e.text));
                }
            }
        }
    }

    /// Why the last attempt failed, after reporting it. A connection that lasted restarts the search.
    fn last_failure(&self, epoch: u64, pool: &[Server]) -> Option<String> {
        let mut search = self.search.lock();
        let last = search.last.take();
        if epoch != search.epoch {
            let first = || pool.iter().find(|s| s.did_connect).map(|s| s.addr.clone());
            (search.epoch, search.lost) = (epoch, last.or_else(first));
            if !self.link.lasted(STEADY) {
                // A server that accepts a connection and ends it at once counts as a failure. Otherwise we would dial it
                // without a wait.
                return Some("the connection did not last".into());
            }
            (search.round, search.tried) = (0, Vec::new());
            return None;
        }
        let last = last?;
        drop(search);
        let server = pool.iter().find(|s| s.addr == last)?;
        let cause = server.last_error.as_deref().unwrap_or("no connection could be made");
        self.link.attempt_failed(&shown(&last), &Cause::reported(cause));
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
        let mut search = Search::default();
        let (mut waits, mut rounds) = (Vec::new(), Vec::new());
        for _ in 0..3 {
            let mut round = Vec::new();
            for _ in 0..3 {
                let step = search.step(&pool, &backoff, &mut || 0.99).unwrap();
                waits.push(step.wait.as_millis());
                round.push(step.addr.host().to_owned());
            }
            assert_eq!(round[2], "b", "the server with the most failures comes last");
            round.sort();
            rounds.push(round);
        }
        assert!(rounds.iter().all(|r| r == &["a", "b", "c"]), "{rounds:?}");
        assert_eq!(waits, [0, 0, 0, 100, 10, 10, 200, 10, 10]);
        assert_eq!(search.round, 2);
        assert!(search.step(&[], &backoff, &mut || 0.5).is_none());
    }

    #[test]
    fn the_server_that_was_lost_comes_last_at_first() {
        let pool = [server("a", 0), server("b", 0)];
        let mut search = Search { lost: Some("a".parse().unwrap()), ..Search::default() };
        let mut next = || search.step(&pool, &Backoff::default(), &mut || 0.0).unwrap().addr;
        assert_eq!([next().host(), next().host()], ["b", "a"]);
    }
}
