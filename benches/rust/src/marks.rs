//! What is measured: from the end of the warm-up to the last message.

use crate::{latency::Latency, spec::Spec};
use nix::sys::resource::{UsageWho, getrusage};
use serde::Serialize;
use std::time::Instant;

/// What a run gave; printed as one line of JSON.
#[derive(Debug, Default, Serialize)]
pub struct Outcome {
    /// Length of the measured interval.
    pub seconds: f64,
    /// Messages in it.
    pub messages: u64,
    /// CPU seconds of this process in it.
    pub cpu: f64,
    /// The most memory this process ever held.
    pub rss_kb: u64,
    /// Messages since the start, the warm-up's included.
    pub total: u64,
    /// Times, where they are the point.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub latency: Option<Latency>,
}

#[derive(Clone, Copy)]
struct Mark {
    at: Instant,
    cpu: f64,
    n: u64,
}

fn cpu() -> f64 {
    getrusage(UsageWho::RUSAGE_SELF).map_or(0.0, |u| {
        let (user, system) = (u.user_time(), u.system_time());
        let micros = (user.tv_sec() + system.tv_sec()) * 1_000_000 + user.tv_usec() + system.tv_usec();
        micros as f64 / 1e6
    })
}

/// The most memory held since the program began; getrusage's would include the runner's, from before exec.
fn peak_kb() -> u64 {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find_map(|line| line.strip_prefix("VmHWM:"));
    line.and_then(|text| text.split_whitespace().next()?.parse().ok()).unwrap_or(0)
}

impl Mark {
    fn now(n: u64) -> Self {
        Self { at: Instant::now(), cpu: cpu(), n }
    }
}

/// Where the measured interval begins and ends. A run is bounded by time, or by a count; then 5 % are the warm-up.
pub struct Marks {
    warmup: f64,
    seconds: f64,
    count: u64,
    available: u64,
    cap: f64,
    began: Instant,
    from: Option<Mark>,
    to: Option<Mark>,
}

impl Marks {
    /// Starts the warm-up.
    #[must_use]
    pub fn new(spec: &Spec) -> Self {
        Self {
            warmup: spec.warmup,
            seconds: spec.seconds,
            count: spec.count,
            available: spec.available,
            cap: spec.cap,
            began: Instant::now(),
            from: None,
            to: None,
        }
    }

    /// Whether the run is over, `n` messages after its start.
    pub fn due(&mut self, n: u64) -> bool {
        let bounded = self.count > 0;
        let Some(from) = self.from else {
            let warm = if bounded {
                n >= self.count / 20
            } else {
                self.began.elapsed().as_secs_f64() >= self.warmup
            };
            if warm {
                self.from = Some(Mark::now(n));
            }
            return self.exhausted(n);
        };
        let over = if bounded { n >= self.count } else { from.at.elapsed().as_secs_f64() >= self.seconds };
        if over {
            self.close(n);
        }
        over || self.exhausted(n)
    }

    fn exhausted(&mut self, n: u64) -> bool {
        let late = self.cap > 0.0 && self.began.elapsed().as_secs_f64() > self.cap;
        let out = late || self.available > 0 && n >= self.available;
        if out {
            self.close(n);
        }
        out
    }

    /// The warm-up is over.
    pub fn open(&mut self, n: u64) {
        self.from = Some(Mark::now(n));
    }

    /// The end is now, once what was under way is settled.
    pub fn close(&mut self, n: u64) {
        self.to = Some(Mark::now(n));
    }

    /// Whether the measured interval has begun.
    #[must_use]
    pub fn measuring(&self) -> bool {
        self.from.is_some()
    }

    /// What was measured.
    #[must_use]
    pub fn outcome(&self) -> Outcome {
        let (Some(from), Some(to)) = (self.from, self.to) else { return Outcome::default() };
        Outcome {
            seconds: (to.at - from.at).as_secs_f64(),
            messages: to.n - from.n,
            cpu: to.cpu - from.cpu,
            rss_kb: peak_kb(),
            total: to.n,
            latency: None,
        }
    }
}
