//! Time limits that hold on a machine that stalls: the time this process did not get to run does not count.

use std::{
    future::Future,
    sync::{
        LazyLock, Once,
        atomic::{AtomicU64, Ordering::Relaxed},
    },
    time::{Duration, Instant},
};

const LOOK: Duration = Duration::from_millis(10);
static STALLED: AtomicU64 = AtomicU64::new(0);
static LOOKED: AtomicU64 = AtomicU64::new(0);
static BEGAN: LazyLock<Instant> = LazyLock::new(Instant::now);
static WATCHING: Once = Once::new();

/// Microseconds since the first look, but not less than 1.
fn now() -> u64 {
    u64::try_from(BEGAN.elapsed().as_micros()).unwrap_or(0).max(1)
}

/// By how much a look at this time is late.
fn over(now: u64) -> u64 {
    now.saturating_sub(LOOKED.load(Relaxed) + 2 * u64::try_from(LOOK.as_micros()).unwrap_or(0))
}

/// The microseconds so far for which a thread that wanted to run could not.
fn stalled() -> u64 {
    WATCHING.call_once(|| {
        LOOKED.store(now(), Relaxed);
        std::thread::spawn(|| {
            loop {
                std::thread::sleep(LOOK);
                let now = now();
                STALLED.fetch_add(over(now), Relaxed);
                LOOKED.store(now, Relaxed);
            }
        });
    });
    // With one that has just ended and was not seen yet.
    STALLED.load(Relaxed) + over(now())
}

/// How long something takes, but for what the machine took.
pub struct Clock {
    began: Instant,
    stalled: u64,
}

impl Clock {
    pub fn start() -> Self {
        Self { stalled: stalled(), began: Instant::now() }
    }

    pub fn took(&self) -> Duration {
        self.began.elapsed().saturating_sub(Duration::from_micros(stalled().saturating_sub(self.stalled)))
    }
}

/// Waits for what has its end within the limit.
#[track_caller]
pub fn in_time<T>(limit: Duration, what: impl Future<Output = T>) -> impl Future<Output = T> {
    let at = std::panic::Location::caller();
    async move {
        let clock = Clock::start();
        let end = tokio::time::timeout(limit + Duration::from_secs(10), what).await;
        let took = clock.took();
        assert!(took < limit, "{took:?} where {limit:?} is the limit, at {at}");
        end.expect("an end")
    }
}
